"""The optical half at toy size: from simulation to report, by the stages that the command line calls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sciencevae.builtin.diffraction import DOMAIN

from sciencevae.config import load
from sciencevae.runs import Run, configure

SMALL = "sensor: {pixels: 40, pitch_um: 250}, oversample: 20, window: 2.0"
TOY = [
    "source={kind: optical, samples: 900, apertures: [{kind: slits, number: 2, width_um: [60, 90], "
    f"separation_um: [120, 160]}}], wavelength_nm: [450, 650], distance_mm: [300, 600], {SMALL}}}",
    "model={latent: 2, hidden: [32]}",
    "objective={beta_start: 1.0e+3, beta_share: 0.5}",
    "training={epochs: 4, batch_size: 50, learning_rate: 3.0e-3, threads: 1}",
    "variants={told: {prepare: {told: [distance_mm, separation_um, width_um]}}, "
    "supervised: {prepare: {supervised: [wavelength_nm]}}, tc: {objective: {kind: tc, beta: 2}}, images: {"
    "source: {samples: 120, apertures: [{kind: circle}, {kind: rectangle}, {kind: polygon}], distance_mm: 100, "
    "sensor: {pixels: 16, pitch_um: 40}, oversample: 4, window: 2.5}, model: {channels: [4, 8]}, "
    "training: {epochs: 2}, prepare: {exposure: latent}}}",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, do_all_stages) -> Run:
    folder = tmp_path_factory.mktemp("diffraction")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCIENCEVAE_CACHE", str(folder / "cache"))
        run = configure(folder / "run", DOMAIN, load(DOMAIN, overrides=TOY))
        return do_all_stages(run)


def test_the_report_says_by_itself_what_is_determined(run: Run) -> None:
    table = run.table("identifiability").set_index(["model", "parameter"])
    assert table.loc[("main", "wavelength"), "verdict"] == "not identifiable"
    # of what is told nothing is asked
    assert "distance" not in table.loc["told"].index
    assert table.loc[("told", "wavelength"), "r2"] > table.loc[("main", "wavelength"), "r2"] + 0.3
    page = (run.folder / "report.html").read_text()
    assert "main: wavelength is not identifiable from these data" in page
    assert "nm, all data by" in page


def test_axes_are_beside_principal_components(run: Run) -> None:
    table = run.table("recovery").set_index(["model", "parameter"])
    assert set(table.loc["main"].index) == {"wavelength_nm", "distance_mm", "width_um", "separation_um"}
    assert table.loc[("supervised", "wavelength_nm"), "supervised"] == "yes"
    assert table["pca_spearman"].between(0, 1).all()
    assert {"photons", "shift_x_um"}.isdisjoint(table.loc["main"].index), "what is the same, or not seen"
    assert "photons" in table.loc["images"].index, "where the model learns the brightness"


def test_what_is_left_of_noise_is_in_units_of_the_counts_own(run: Run) -> None:
    table = run.table("denoising").set_index(["model", "method"])
    for model in ("main", "images"):
        assert 0.8 < table.loc[(model, "counts"), "chi2"] < 1.25, "shot noise alone"
    assert {"Gaussian filter", "Wiener filter", "principal components", "VAE"} <= set(table.loc["main"].index)


def test_new_patterns_are_held_against_simulated_ones(run: Run) -> None:
    table = run.table("generation").set_index(["model", "patterns"])
    assert (
        table.loc[("main", "test patterns"), "distance"]
        < table.loc[("main", "half way in the counts"), "distance"]
    )
    assert "told" not in table.index.get_level_values(0)


def test_every_figure_is_there(run: Run) -> None:
    names = {path.stem for path in (run.folder / "figures").glob("*.png")}
    assert {"patterns", "recovered", "determined", "denoised", "interpolated"} <= names


def test_files_go_through_the_model_and_back(run: Run, tmp_path: Path) -> None:
    from sciencevae.latents.files import decode_file, encode_file

    x = run.main.data["x"].values[:20].astype(int)
    np.savez(tmp_path / "own.npz", counts=x)
    encode_file(run.main.model_path, tmp_path / "own.npz", tmp_path / "z.parquet")
    decode_file(run.main.model_path, tmp_path / "z.parquet", tmp_path / "back.npz")
    back = np.load(tmp_path / "back.npz")["counts"]
    assert back.shape == x.shape
    # as bright as what was encoded, whatever the model has learned of its form
    np.testing.assert_allclose(back.mean(1), x.mean(1), rtol=0.5)
