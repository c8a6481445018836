"""Powder patterns through every stage; what is measured of them; and a user's folder of scans."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from sciencevae.builtin.diffraction import powder_analysis as analysis
from sciencevae.builtin.diffraction import powder_data, powder_groups, powder_unknown
from sciencevae.builtin.diffraction.crystals import packaged
from sciencevae.builtin.diffraction.dataset import prepare, read
from sciencevae.builtin.diffraction.mixtures import draw, edges_of
from sciencevae.builtin.diffraction.powder_exposures import thinned
from sciencevae.builtin.diffraction.references import decompose, nearest, references, strip_background
from sciencevae.builtin.diffraction.settings import Diffraction

from sciencevae import domain
from sciencevae.errors import InputError
from sciencevae.latents.files import decode_file, encode_file, score_file
from sciencevae.runs import Run, configure

SOURCE = {
    "kind": "powder",
    "phases": ["Si", "MgO", "ZnO"],
    "unknown": ["NaCl"],
    "patterns": 300,
    "most_phases": 2,
    "scan": {"start": 25, "stop": 65, "bins": 256},
}
SETTINGS = {
    "dataset": "",
    "source": SOURCE,
    "model": {"latent": 6, "hidden": [48], "channels": [8, 16, 16]},
    "training": {
        "epochs": 14,
        "batch_size": 32,
        "learning_rate": 4e-3,
        "gradient_clip": 1000.0,
        "threads": 1,
    },
}


#: "measured": five of candidates alone, three with a phase that is none, one whose label is no phase
SCANS = ["Si", "MgO", "ZnO", "Si+MgO", "MgO+ZnO", "NaCl", "NaCl.2", "NaCl.3", "tray 7"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, do_all_stages):
    found, settings = domain("diffraction"), Diffraction.model_validate(SETTINGS)
    folder = tmp_path_factory.mktemp("powder")
    parts = [name.split(".")[0].replace("tray 7", "Si").split("+") for name in SCANS]
    names = ["Si", "MgO", "ZnO", "NaCl"]
    which = [[names.index(one) for one in some] for some in parts]
    rate = draw(settings.source, [packaged()[name] for name in names], len(SCANS), 5, which).rate
    for name, one in zip(SCANS, rate, strict=True):
        write_scan(folder / f"{name}.xy", one, edges_of(settings.source))
    configure(folder / "run", found, settings, folder)
    return do_all_stages(Run(folder / "run"))


def test_rows_are_what_they_say(run):
    data = run.main.data
    origin, split = data["origin"].values, data["split"].values
    assert set(origin) == {"simulated", "unknown", "measured"}
    assert (split[origin == "unknown"] == 2).all()
    assert data["phases"].dims == ("sample", "phase")
    assert data["phase"].values.tolist() == ["Si", "MgO", "ZnO"]
    strange = [label.split("+") for label in data["label"].values[origin == "unknown"]]
    assert all("NaCl" in parts for parts in strange)
    known = (origin == "simulated") & (split == 0)
    for row in np.flatnonzero(known)[:50]:
        there = data["phase"].values[data["phases"].values[row] > 0]
        assert sorted(there) == sorted(data["label"].values[row].split("+"))
    counts = data["pattern"].values
    assert np.isnan(counts).any()  # patterns that cover a part of the bins
    counts = counts[origin != "measured"]
    seen = counts[np.isfinite(counts)]
    assert (seen == np.round(seen)).all()
    expected = data["expected"].values[origin != "measured"][np.isfinite(counts)]
    assert np.mean((seen - expected) ** 2 / expected) == pytest.approx(1.0, abs=0.02)  # Poisson


def test_phases_are_found_and_clustered(run):
    """Three phases of cubic and hexagonal cells, whose lines lie apart, take little to tell."""
    table = run.table("phases")
    # of the scans those whose label names candidates alone
    assert dict(zip(table.patterns, table.number, strict=True))["measured"] == 5
    assert sorted(run.table("guesses")["scan"]) == sorted(name.split(".")[0] for name in SCANS)
    table = table[table.patterns == "simulated test"].set_index("method")
    assert table.loc["VAE", "recall"] > 0.9
    assert table.loc["nearest reference (correlation)", "top1"] > 0.8
    assert run.table("groups").set_index("method").loc["latents", "rand"] > 0.6


def test_unknown_phases_stand_out(run):
    table = run.table("unknown").set_index(["score", "patterns"])
    for patterns, known, strange in (("simulated", 30, 30), ("measured", 5, 3)):
        row = table.loc["doubt", patterns]
        assert (row["known"], row["strange"]) == (known, strange)
        assert row["auc"] > 0.75


def test_scans_above_the_threshold_are_said_to_be_unexplained(run):
    table, limit = run.table("doubts"), run.metrics["unknown"]["threshold"]
    valid = table.loc[table.patterns == "validation", "doubt"]
    # 1 of 30: the most that leaves a share of 5 % of (n + 1)
    assert (valid > limit).sum() == 0
    assert limit == valid.max()
    scans = table[table.patterns == "measured"]
    assert len(scans) == len(SCANS)
    assert ((scans.doubt > limit) == (scans.above == "not explained by candidates")).all()
    assert scans.doubt.is_monotonic_decreasing
    by_label = scans.groupby("label")["holds"].first()
    assert by_label["NaCl"] == "another phase"
    assert by_label["Si+MgO"] == "candidates alone"
    assert by_label["tray 7"] == "not told"
    assert "Si" in scans.set_index("label").loc["tray 7", "likeliest"]


def test_short_exposures_come_nearer_to_the_rate(run):
    table = run.table("short_exposures")
    table = table[table.exposure == 0.01]
    error = dict(zip(table.method, table.held_out, strict=True))
    assert error["VAE"] < error["as counted"] / 2


def test_the_page_shows_powders(run):
    page = (run.folder / "report.html").read_text()
    assert "lines of the phases" in page
    assert "X-ray powder diffraction" in page
    for name in ("scans", "doubts", "phase_map", "confusion", "path", "thinned_patterns"):
        assert (run.folder / "figures" / f"{name}.png").is_file()


def write_scan(path, rate, edges, seed=0):
    middle = (edges[1:] + edges[:-1]) / 2
    counts = np.random.default_rng(seed).poisson(rate)
    path.write_text("".join(f"{a:.5f} {c}\n" for a, c in zip(middle, counts, strict=True)))


def test_a_users_scans_are_encoded_in_order_and_bad_ones_keep_their_place(run, tmp_path):
    settings = run.main.settings
    rate = draw(settings.source, [packaged()[n] for n in ("Si", "MgO")], 2, 3, [[0], [1]]).rate
    edges = edges_of(settings.source)
    write_scan(tmp_path / "1.xy", rate[0], edges)
    (tmp_path / "2.xy").write_text("10 1\n10 2\n")
    write_scan(tmp_path / "3.dat", rate[1], edges)
    blocks = list(read(tmp_path, settings, run.main.data))
    assert len(blocks) == 1
    block = blocks[0]
    assert block["id"].values.tolist() == ["1", "2", "3"]
    assert block["status"].values[[0, 2]].tolist() == ["ok", "ok"]
    assert "repeated" in block["status"].values[1]
    assert np.isnan(block["pattern"].values[1]).all()
    found = analysis.probabilities(run.main.model(), analysis.batch_of(block, np.array([0, 2])))
    assert run.main.data["phase"].values[found.argmax(1)].tolist() == ["Si", "MgO"]
    model, out = run.main.model_path, tmp_path.parent / "out"
    out.mkdir()
    assert encode_file(model, tmp_path, out / "z.parquet") == 2
    table = pd.read_parquet(out / "z.parquet")
    assert table["id"].tolist() == ["1", "2", "3"]
    assert np.isfinite(table["z_0"]).tolist() == [True, False, True]
    decode_file(model, out / "z.parquet", out / "x.npz")
    decoded, counts = np.load(out / "x.npz")["counts"], block["pattern"].values[:, 0]
    for row in (0, 2):
        assert np.corrcoef(decoded[row], counts[row])[0, 1] > 0.5
    assert score_file(model, tmp_path, out / "s.parquet") == 2
    assert len(next(read(tmp_path / "1.xy", settings, run.main.data))["sample"]) == 1


def test_measured_scans_are_test_data_without_known_phases(tmp_path):
    settings = Diffraction.model_validate(SETTINGS | {"source": SOURCE | {"patterns": 40, "unknown": []}})
    edges = edges_of(settings.source)
    rate = draw(settings.source, [packaged()["Si"]], 1, 3, [[0]]).rate[0]
    write_scan(tmp_path / "Si.2.xy", rate, edges)
    (tmp_path / "broken.xy").write_text("no numbers\n")
    data = prepare(settings, {}, tmp_path)
    row = data.isel(sample=data["origin"].values == "measured")
    assert row["label"].values.tolist() == ["Si"]
    assert row["split"].values.tolist() == [2]
    assert (row["phases"].values == -1).all()
    assert data.attrs["refused"] == 1
    assert "holds no numbers" in data.attrs["refused_reasons"]


def test_a_scan_of_another_tube_is_brought_to_the_axis_of_the_model(tmp_path):
    """Si (111) and (220) measured with cobalt lie where copper puts them."""
    changed = SOURCE | {"measured_with": "Co", "patterns": 40, "unknown": []}
    settings = Diffraction.model_validate(SETTINGS | {"source": changed})
    angles = np.arange(20, 90, 0.02)
    counts = 10 + np.round(1000 * sum(np.exp(-0.5 * ((angles - at) / 0.1) ** 2) for at in (33.19, 55.58)))
    (tmp_path / "Si.xy").write_text(
        "".join(f"{a:.2f} {c:.0f}\n" for a, c in zip(angles, counts, strict=True))
    )
    block = next(read(tmp_path / "Si.xy", settings, None))
    pattern, place = block["pattern"].values[0, 0], block["bin"].values
    assert "measured with Co" in block["note"].values[0]
    for low, high, at in ((26, 31, 28.47), (45, 50, 47.35)):
        inside = (place > low) & (place < high)
        assert place[inside][np.nanargmax(pattern[inside])] == pytest.approx(at, abs=0.12)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"phases": ["Si", "MgOO"]}, "no structure 'MgOO'.*MgO"),
        ({"phases": ["Si"], "unknown": ["Si"]}, "to train on"),
    ],
)
def test_structures_that_are_not_there(changed, message):
    settings = Diffraction.model_validate(SETTINGS | {"source": SOURCE | changed})
    with pytest.raises(InputError, match=message):
        prepare(settings, {}, None)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scan": {"anode": "Zn"}}, "unknown anode 'Zn'"),
        ({"scan": {"start": 60, "stop": 20}}, "is no scan"),
        ({"strain": [0.1, -0.1]}, "least, greatest"),
    ],
)
def test_settings_that_make_no_sense(changed, message):
    with pytest.raises(ValueError, match=message):
        Diffraction.model_validate(SETTINGS | {"source": SOURCE | changed})


def test_a_folder_without_scans(tmp_path):
    settings = Diffraction.model_validate(SETTINGS)
    with pytest.raises(InputError, match="holds no scans"):
        prepare(settings, {}, tmp_path)


def test_references_find_their_own_mixture():
    settings = Diffraction.model_validate(SETTINGS)
    crystals = [packaged()[name] for name in ("Si", "MgO", "ZnO")]
    against = references(settings.source, crystals, 3)
    assert against.shape == (3, 3, 256)
    mixture = (2 * against[0, 0] / against[0, 0].sum() + against[2, 1] / against[2, 1].sum())[None] * 1e5
    share, left = decompose(mixture, against)
    assert share[0].argmax() == 0
    assert share[0, 1] == pytest.approx(0, abs=1e-6)
    assert left[0] < 1e-6
    assert nearest(against[1, :1], against, "cosine").argmax() == 1
    gaps = mixture.copy()
    gaps[:, :40] = np.nan
    assert nearest(gaps, against, "correlation").argmax() == 0
    below = np.linspace(400, 200, 256)
    peaks = 1000 * np.exp(-0.5 * ((np.arange(256) - 100) / 3) ** 2)
    stripped = strip_background((below + peaks)[None], 20)[0]
    assert stripped[100] == pytest.approx(1000, rel=0.05)
    assert np.abs(stripped[150:250]).max() < 20


def test_quality_and_thresholds():
    truth = np.array([[1, 0, 1], [0, 1, 0]], bool)
    scores = np.array([[0.9, 0.3, 0.2], [0.1, 0.8, 0.4]])
    assert analysis.quality(scores, truth, 0.25) == {"top1": 1.0, "recall": 0.75, "f1": pytest.approx(4 / 7)}
    assert 0.4 <= analysis.best_threshold(scores, truth) < 0.8
    summed, formulas = analysis.by_formula(scores, ["TiO2_136", "TiO2_141", "MnO_225"])
    assert formulas == ["TiO2", "MnO"]
    assert summed.tolist() == [[0.9, 0.2], [0.8, 0.4]]


def test_what_a_label_says_of_candidates():
    labels = ["MnO", "TiO2+MnO", "LiF", "MnO+LiF", "sample 12", "MnO+sample 12"]
    found = powder_unknown.holds_unknown(labels, ["TiO2_136", "MnO_225"], ["LiF_225"])
    assert found.tolist() == [0, 0, 1, 1, -1, -1]
    # of a formula some of whose structures are candidates a label cannot tell
    assert powder_unknown.holds_unknown(["TiO2"], ["TiO2_136"], ["TiO2_141"]).tolist() == [0]


def test_scores_are_joined_by_their_standardised_logarithms():
    first, second = np.exp([0.0, 2.0, 4.0]), np.array([1.0, 1.0, 10.0])
    valid = np.array([True, True, False])
    # of the first: mean 1, σ 1 in its logarithm; of the second no scatter
    joined = powder_unknown.combined({"a": first}, valid)
    assert joined == pytest.approx([-1, 1, 3])
    assert np.isfinite(powder_unknown.combined({"a": first, "b": second}, valid)).all()


def test_phases_are_left_out_by_formula(monkeypatch):
    rutile = packaged()["rutile"]
    names = ("TiO2_136", "TiO2_141", "MnO_225")
    monkeypatch.setattr(powder_data, "packaged", lambda: {n: replace(rutile, name=n) for n in names})
    for unknown, left in ((["TiO2"], names[2:]), (["TiO2_141"], (names[0], names[2]))):
        source = Diffraction.model_validate(
            {"source": {"kind": "powder", "unknown": unknown}, "dataset": ""}
        ).source
        known, foreign = powder_data.structures(source, [])
        assert tuple(crystal.name for crystal in known) == left
        assert {crystal.name for crystal in known} | {crystal.name for crystal in foreign} == {*names}


def test_agreement_of_clusters_with_phases():
    phase = np.array([0, 0, 1, 1, 2, 2])
    perfect = powder_groups.agreement(phase + 5, phase)
    assert perfect == pytest.approx({"rand": 1, "nmi": 1, "purity": 1})
    merged = powder_groups.agreement(np.array([0, 0, 0, 0, 1, 1]), phase)
    assert merged["purity"] == pytest.approx(4 / 6)
    assert merged["rand"] < 1


def test_pairs_with_a_phase_in_common():
    labels = [{"A"}, {"A", "B"}, {"B"}, {"C"}]
    on_a_line = np.array([[0.0], [1.0], [2.0], [9.0]])
    # A–AB and AB–B are 1 apart, A–B 2, all to C farther
    assert powder_groups.in_common(on_a_line, labels) == 1
    assert powder_groups.in_common(on_a_line[[0, 3, 1, 2]], labels) < 0.5
    assert np.isnan(powder_groups.in_common(on_a_line[:2], labels[:2]))


def test_log_odds_are_those_of_the_probabilities(run):
    z = run.main.latents["z"].values[:20]
    odds = powder_groups.log_odds(run.main.model(), z)
    likelihood = run.main.model().decode(torch.as_tensor(z), {"exposure": torch.ones(20)})
    assert 1 / (1 + np.exp(-odds)) == pytest.approx(
        likelihood.fields["phases"].mean.detach().numpy(), abs=1e-5
    )


def test_thinned_counts_are_a_shorter_exposure():
    counts = np.full((1, 1, 20000), 50.0)
    counts[..., 0] = np.nan
    thin, rest = thinned(counts, 0.1, 0)
    assert np.isnan(thin[..., 0]).all()
    seen = thin[..., 1:]
    assert seen.mean() == pytest.approx(5.0, rel=0.02)
    assert np.nanmax(np.abs(thin + rest - counts)) == 0


def test_the_latent_of_a_strained_cell_is_chosen_on_validation_patterns():
    """Latent 1 orders as the strain does in both parts; latent 0 in the test part alone, and better."""
    random = np.random.default_rng(0)
    strain, split = random.uniform(-1, 1, 300), np.repeat([0, 1, 2], 100)
    z = np.stack(
        [np.where(split == 2, strain, random.normal(size=300)), -strain + 0.05 * random.normal(size=300)], 1
    )
    data = xr.Dataset(
        {"phases": (("sample", "phase"), np.ones((300, 1)))},
        coords={"strain": ("sample", strain), "split": ("sample", split), "phase": ["Si"]},
    )
    latents = xr.Dataset({"z": (("sample", "latent"), z)})
    settings = SimpleNamespace(source=SimpleNamespace(kind="powder"))
    variant = SimpleNamespace(data=data, latents=latents, settings=settings)
    found = powder_groups.lattice(SimpleNamespace(variants={"main": variant}, main=variant)).metrics["main"]
    assert found["axis"] == 1
    assert 0.98 < found["spearman"] < 1
