"""What the figures show."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from sciencevae.builtin.digits import figures

from sciencevae.batch import Batch


def test_each_reconstruction_is_below_its_own_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variants of the same test images show them once; one of others shows its own."""
    drawn = {}
    monkeypatch.setattr(figures, "first_images", lambda variant, *_: Batch(variant.images))
    monkeypatch.setattr(
        figures,
        "image_grid",
        lambda rows, row_labels, **_: drawn.update(zip("rl", (rows, row_labels), strict=True)),
    )
    same, other = torch.rand(2, 10, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    model = SimpleNamespace(reconstruct=lambda x, context: x / 2)
    variants = {
        name: SimpleNamespace(
            name=name,
            images=images,
            model=lambda: model,
            settings=SimpleNamespace(prepare=SimpleNamespace(condition="none")),
        )
        for name, images in (("main", same), ("wide", same), ("without-1", other))
    }
    figures.reconstructions(SimpleNamespace(variants=variants))
    assert drawn["l"] == ["test image", "main", "wide", "test image", "without-1"]
    original = None
    for label, row in zip(drawn["l"], drawn["r"], strict=True):
        original = row if label == "test image" else original
        assert label == "test image" or (row == original / 2).all()
