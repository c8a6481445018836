"""The whole domain at toy size: from simulation to report, by the stages that the command line calls."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sciencevae.builtin.xy import DOMAIN
from sciencevae.builtin.xy.transition import steepest

from sciencevae import stages
from sciencevae.config import load
from sciencevae.provenance import file_hash, run_record
from sciencevae.runs import Run, configure

TOY = [
    "source={lattice: 8, temperatures: {start: 0.5, stop: 1.3, number: 5}, samples: 60, chains: 6}",
    "prepare.held_out=[0.9]",
    "model={latent: 4, channels: 4, hidden: 16}",
    "training={epochs: 2, batch_size: 32, learning_rate: 3.0e-3, threads: 1}",
    "variants={energy: {objective: {energy_weight: 2.0}}, L6: {source: {lattice: 6}}}",
    "analyse.draws=60",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, do_all_stages) -> Run:
    folder = tmp_path_factory.mktemp("xy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCIENCEVAE_CACHE", str(folder / "cache"))
        run = configure(folder / "run", DOMAIN, load(DOMAIN, overrides=TOY))
        return do_all_stages(run)


def test_tables_hold_models_and_monte_carlo(run: Run) -> None:
    table = run.table("observables")
    assert set(table.model) == {"Monte Carlo", "main", "energy"}
    assert set(table.source) == {"Monte Carlo", "decoded", "drawn", "new mean", "new draw"}
    assert table[table.held_out].temperature.unique().tolist() == [0.9]
    assert (table[table.source == "Monte Carlo"].n == 60).all()
    numbers = table[["energy", "magnetisation", "vortex_density", "vortex_pairs", "helicity", "g1"]]
    assert np.isfinite(numbers).all().all()
    assert table[table.source == "decoded"].cosine.notna().all()
    assert table[table.source == "drawn"].expected_energy.notna().all()
    found = json.loads((run.folder / "metrics.json").read_text())
    assert set(found["decoding"]["energy"]) == {"test", "seen temperatures", "held-out temperatures"}
    assert set(run.table("pseudo_transitions").lattice) == {6, 8}


def test_the_report_shows_every_figure(run: Run) -> None:
    names = {path.stem for path in (run.folder / "figures").glob("*.png")}
    assert set(DOMAIN.figures) <= names
    page = (run.folder / "report.html").read_text()
    assert "Monte Carlo" in page


def test_raw_files_that_were_made_here_are_in_the_provenance(tmp_path: Path) -> None:
    """Two lattices: their files have one name."""
    tiny = "source={lattice: 6, temperatures: [1.0], samples: 2, chains: 1}"
    variants = "variants={L8: {source: {lattice: 8}}}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCIENCEVAE_CACHE", str(tmp_path / "cache"))
        xy = configure(tmp_path / "run", DOMAIN, load(DOMAIN, overrides=[tiny, variants]))
        for variant in xy.variants.values():
            stages.fetch(xy, variant)
    found = [files["xy.h5"] for files in run_record(xy)["files"].values()]
    assert len({file["sha256"] for file in found}) == 2
    for file in found:
        assert file_hash(Path(file["path"])) == file["sha256"]


def test_steepest_finds_a_known_inflection_with_its_error() -> None:
    rng, t = np.random.default_rng(0), np.linspace(0.5, 1.5, 21)
    found = []
    for _ in range(12):
        chains = [[rng.normal(-np.tanh((one - 1.07) / 0.2), 0.3, 50) for _ in range(10)] for one in t]
        found.append(steepest(t, chains, draws=30))
    pulls = [(one.value - 1.07) / one.error for one in found]
    assert abs(np.mean(pulls)) < 1.2
    assert 0.5 < np.std(pulls) < 1.6
