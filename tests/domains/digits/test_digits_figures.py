"""What the figures show."""

from __future__ import annotations

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from sciencevae.builtin.digits import analysis, figures

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


@pytest.mark.parametrize(("condition", "says"), [("label", "was told"), ("none", "was not told")])
def test_the_map_says_what_the_model_was_told(condition: str, says: str) -> None:
    z = np.random.default_rng(0).normal(size=(20, 2))
    coords = {"label": ("sample", np.arange(20) % 10), "split": ("sample", np.full(20, 2))}
    settings = SimpleNamespace(dataset="mnist", prepare=SimpleNamespace(condition=condition))
    latents = xr.Dataset({"z": (("sample", "latent"), z)}, coords=coords)
    main = SimpleNamespace(latents=latents, settings=settings)
    figure, caption = figures.latent_map(SimpleNamespace(variants={"main": main}))
    plt.close(figure)
    assert f"which the model {says})" in caption


def test_only_models_of_the_same_images_are_ranked() -> None:
    """The lowest cost of all is that of an image with fewer pixels; codes have no estimate."""
    table = pd.DataFrame(
        {
            "model": ["one", "two", "small", "codes"],
            "minus_log_p": [90.0, 85.0, 30.0, np.nan],
            "trusted": [0.9, 0.42, 1.0, np.nan],
        }
    )
    keys = {"one": "a", "two": "a", "small": "b", "codes": "a"}
    (said,) = analysis._most_probable(table, keys)
    assert said.startswith("Among one, two, two gives")
    assert "42%" in said
    assert not list(analysis._most_probable(table[1:], keys))
