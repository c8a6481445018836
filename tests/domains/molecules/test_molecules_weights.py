"""The models that come with the package: files, cards, and the latents they gave when they were made."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
import torch
from sciencevae.builtin.molecules.analysis import decoded
from sciencevae.builtin.molecules.dataset import alphabet_of

import sciencevae as sv
from sciencevae.cli import main
from sciencevae.latents.trained import Trained
from sciencevae.registry import weights

NAMES = sorted(name for name in weights() if name.startswith("molecules-"))


def test_there_is_one():
    assert "molecules-qm9" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_file_and_card(name):
    path = weights()[name]
    content = path.read_bytes()
    assert len(content) <= 8_000_000
    card = path.with_suffix(".md").read_text()
    assert hashlib.sha256(content).hexdigest() in card
    for part in ("Apache-2.0", "sciencevae run molecules --config", "exact_drawn", "is not for"):
        assert part in card
    assert isinstance(sv.load(name), sv.VAE)


@pytest.mark.parametrize("name", NAMES)
def test_encode_gives_the_latents_it_gave(name, tmp_path):
    golden = pd.read_csv(weights()[name].with_suffix(".csv"))
    source = tmp_path / "golden.csv"
    golden[["smiles"]].to_csv(source, index=False)
    assert main(["encode", "--model", name, str(source), "-o", str(tmp_path / "z.parquet")]) == 0
    found = pd.read_parquet(tmp_path / "z.parquet")
    assert (found["status"] == "ok").all()
    columns = [column for column in golden if column.startswith("z_")]
    np.testing.assert_allclose(found[columns], golden[columns], atol=2e-4)
    trained = Trained.open(name)
    z = torch.as_tensor(golden[columns].to_numpy(), dtype=torch.float32)
    back = decoded(trained.model, alphabet_of(trained.template), z)
    # held out when it was trained; the rate over all of them stands in the card
    assert np.mean(golden["smiles"] == back) > 0.5
