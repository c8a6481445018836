"""The whole domain at toy size, by the stages and verbs of the command line."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from rdkit import Chem
from sciencevae.builtin.molecules import DOMAIN
from sciencevae.builtin.molecules.chemistry import standard
from sciencevae.builtin.molecules.model import objective
from sciencevae.builtin.molecules.optimise import score
from sciencevae.builtin.molecules.settings import Objective

from sciencevae.cli import main
from sciencevae.config import load
from sciencevae.data.batches import as_batches
from sciencevae.latents import asked
from sciencevae.latents.files import sample_file
from sciencevae.runs import Run, configure

SMALL = [
    "prepare={properties: [logP, QED], notation: selfies}",
    "model={latent: 4, encoder_width: 16, decoder_width: 32, embedding: 8, head: [16], token_dropout: 0.0}",
    "training={epochs: 60, batch_size: 32, learning_rate: 1.0e-2, threads: 1}",
    "refit={prior: mixture, components: 3}",
    "analyse={rows: 18, draws: 2, samples: 200, optimise_calls: 130, optimise_seeds: 1}",
    "variants={smiles: {prepare: {notation: smiles}}}",
]


@pytest.fixture(scope="module")
def run(smiles, tmp_path_factory, do_all_stages) -> Run:
    folder = tmp_path_factory.mktemp("molecules")
    source = folder / "mine.smi"
    source.write_text("".join(f"{text} m{number}\n" for number, text in enumerate(smiles)) + "C( broken\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCIENCEVAE_CACHE", str(folder / "cache"))
        patch.delenv("SCIENCEVAE_MIRROR", raising=False)
        patch.setenv("SCIENCEVAE_OFFLINE", "1")
        return do_all_stages(configure(folder / "run", DOMAIN, load(DOMAIN, overrides=SMALL), input=source))


@pytest.fixture(scope="module")
def model(run) -> str:
    return str(run.main.folder / "model.safetensors")


def test_what_the_properties_weigh(run):
    data, model = run.main.data, run.main.model()
    batch = next(iter(as_batches(data).blocks(16)))
    noise = torch.randn(model.noise_shape(1, 16), generator=torch.Generator().manual_seed(0))

    def loss(weight):
        settings = run.settings.model_copy(update={"objective": Objective(property_weight=weight)})
        with torch.no_grad():
            return objective(settings, data)(model, batch, noise)

    own, heavy = loss(1.0), loss(3.0)
    with torch.no_grad():
        properties = model(batch, 1, noise).log_px_by_field["properties"][0]
    assert torch.allclose(heavy.per_datum, own.per_datum - 2 * properties, atol=1e-5)
    assert torch.equal(heavy.parts["reconstruction"], own.parts["reconstruction"])
    assert "properties" not in own.parts


def test_tables_and_figures(run):
    assert {path.stem for path in run.tables.glob("*.csv")} == {
        "reconstruction",
        "generation",
        "prediction",
        "conditional",
        "optimisation",
    }
    figures = {path.stem for path in (run.folder / "figures").glob("*.svg")}
    assert figures >= {"samples", "interpolation", "neighbourhood", "latent_map"}
    table = run.table("reconstruction").set_index("model")
    assert table.exact.between(0, 1).all()
    # every sequence of SELFIES is a molecule, but for those without an atom
    assert 0.98 < table.loc["main", "valid"] <= 1
    generation = run.table("generation").set_index("model")
    drawn = [line.split(" ")[0] for line in (run.main.folder / "samples.smi").read_text().splitlines()]
    assert len(drawn) == 200
    assert all(Chem.MolFromSmiles(text) is not None for text in drawn)
    assert generation.loc["main", "Valid"] == np.mean([bool(text) for text in drawn]) > 0.98
    assert "FCD" not in generation, "ChemNet cannot be fetched offline, and the page says so"
    assert any(
        "ChemNet" in note
        for record in run.records()
        for note in record.get("notes", {}).get("generation", [])
    )
    page = (run.folder / "report.html").read_text()
    assert "1: 1 not a SMILES" in page, "what was refused is said"
    assert "<td>mine.smi</td>" in page, "and of which data"
    assert "Krenn" in page
    assert "Preuer2018" not in page, "what was not done is not cited"
    prediction = run.table("prediction")
    assert set(prediction.way) == {
        "the model",
        "ridge on the latents",
        "ridge on Morgan fingerprints",
        "the training mean",
    }


def test_measured_properties_from_the_latents(run, smiles, tmp_path, monkeypatch):
    """The property is linear in the latents, so that ridge regression on them finds it, and nothing else does."""
    from sciencevae.builtin.molecules import prediction

    data = run.main.data
    z = run.main.latents["z"].values.astype(float)
    value = dict(zip(data["smiles"].values.tolist(), z @ [1.0, -2.0, 3.0, -4.0], strict=True))
    rows = [f"{text},{value[standard(text)]}" for text in smiles if standard(text) in value]
    path = tmp_path / "freesolv.csv"
    path.write_text("\n".join(["smiles,expt", *rows, "CC[Si],1.0", "C(,1.0", "CCO,"]))
    monkeypatch.setattr(prediction, "fetch", lambda name, progress: {"freesolv.csv": path})
    chosen = run.settings.model_copy(
        update={"analyse": run.settings.analyse.model_copy(update={"transfer": ("freesolv",)})}
    )
    asked = SimpleNamespace(settings=chosen, variants={"main": run.main})
    table = prediction.transfer(asked).tables["transfer"].set_index("way")
    assert (table.molecules == len(rows)).all()
    assert (table.left_out == 3).all(), "a token it lacks, no SMILES, no value"
    assert (table.rmse >= table.mae).all()
    spread = table.loc["the training mean", "mae"]
    assert table.loc["ridge on the latents", "mae"] < 1e-2 * spread
    assert table.loc["ridge on Morgan fingerprints", "mae"] > 0.1 * spread
    monkeypatch.setattr(prediction, "_LEAST", len(rows) + 1)
    found = prediction.transfer(asked)
    assert not found.tables
    assert f"main reads {len(rows)} molecules of freesolv" in found.notes[0]


def test_what_is_asked_of_new_molecules_they_have_rather_than_others(run):
    table = run.table("conditional").set_index(["model", "property"])
    for model, name in set(table.index):
        part = table.loc[(model, name)]
        assert (np.diff(part.asked) > 0).all()
        assert np.corrcoef(part.asked, part.found)[0, 1] > 0.5
    assert (table.loc["main"].molecules > 150).all()


def test_each_way_of_optimisation_has_the_same_calls(run):
    table = run.table("optimisation")
    assert set(table.calls) == {100, 130}
    first = table[table.calls == 100]
    assert len(first) == 3
    assert first.best.nunique() == 1, "all begin with the same molecules"
    last = table[table.calls == 130]
    assert (last.best.to_numpy() >= first.best.to_numpy()).all()
    for smiles, best in last[["smiles", "best"]].itertuples(index=False):
        assert score(smiles) == pytest.approx(best)


def test_encode_decode_score_in_order(run, model, tmp_path):
    source = tmp_path / "new.smi"
    source.write_text("OCC first\nC( second\nCC(=O)N third\nCC[Si] fourth\n")
    assert main(["encode", "--model", model, str(source), "-o", str(tmp_path / "z.parquet")]) == 0
    z = pd.read_parquet(tmp_path / "z.parquet")
    assert z["id"].tolist() == ["first", "second", "third", "fourth"]
    assert z["status"].tolist() == ["ok", "not a SMILES", "ok", "the model's alphabet lacks [Si]"]
    assert np.isfinite(z["z_0"]).tolist() == [True, False, True, False]
    assert z["beyond"].dropna().between(0, 1).all()
    assert (
        main(["decode", "--model", model, str(tmp_path / "z.parquet"), "-o", str(tmp_path / "out.smi")]) == 0
    )
    lines = [line.split(" ") for line in (tmp_path / "out.smi").read_text().splitlines()]
    assert [name for _, name in lines] == ["first", "second", "third", "fourth"]
    assert lines[1][0] == lines[3][0] == ""
    assert lines[0][0] == standard(lines[0][0])
    assert main(["score", "--model", model, str(source), "-o", str(tmp_path / "s.parquet")]) == 0
    assert np.isfinite(pd.read_parquet(tmp_path / "s.parquet")["score"]).tolist() == [
        True,
        False,
        True,
        False,
    ]


def test_latents_that_are_not_its_own_are_refused_and_names_may_repeat(run, model, tmp_path, capsys):
    source = tmp_path / "new.smi"
    source.write_text("OCC same\nCCN same\nCCC same\n")
    assert main(["encode", "--model", model, str(source), "-o", str(tmp_path / "z.parquet")]) == 0
    z = pd.read_parquet(tmp_path / "z.parquet")
    assert z["id"].tolist() == ["same"] * 3
    other, out = str(run.variant("smiles").model_path), str(tmp_path / "out.smi")
    assert main(["decode", "--model", other, str(tmp_path / "z.parquet"), "-o", out]) == 2
    assert "was encoded by another model" in capsys.readouterr().err
    z.drop(columns="z_3").to_parquet(tmp_path / "short.parquet")
    assert main(["decode", "--model", model, str(tmp_path / "short.parquet"), "-o", out]) == 2
    assert "has 3 latent columns z_0 …; the model has 4" in capsys.readouterr().err
    z.loc[1, "z_2"] = np.nan
    z.to_parquet(tmp_path / "nan.parquet")
    assert main(["decode", "--model", model, str(tmp_path / "nan.parquet"), "-o", out]) == 0
    lines = [line.split(" ") for line in (tmp_path / "out.smi").read_text().splitlines()]
    assert [name for _, name in lines] == ["same"] * 3
    assert [bool(text) for text, _ in lines] == [True, False, True], "what has no latents is no molecule"


def test_decoded_greedily_by_a_beam_or_drawn(run, model, tmp_path, capsys):
    z = pd.DataFrame(run.main.latents["z"].values[:40]).add_prefix("z_")
    z.to_parquet(tmp_path / "z.parquet")

    def decoded(*options: str) -> list[str]:
        arguments = ["decode", "--model", model, str(tmp_path / "z.parquet"), "-o", str(tmp_path / "x.smi")]
        assert main([*arguments, *options]) == 0
        return [line.split(" ")[0] for line in (tmp_path / "x.smi").read_text().splitlines()]

    assert decoded("--beam", "1") == decoded()
    first, again, other = decoded("--draw"), decoded("--draw"), decoded("--draw", "--seed", "1")
    assert first == again != other
    assert len(decoded("--beam", "3")) == 40
    arguments = ["decode", "--model", model, str(tmp_path / "z.parquet"), "-o", str(tmp_path / "x.smi")]
    assert main([*arguments, "--beam", "3", "--draw"]) == 2
    assert "draws are not searched for" in capsys.readouterr().err


def test_between_two_and_near_one(run, model, smiles, tmp_path):
    assert (
        main(["interpolate", "--model", model, "CCO", "CC(=O)N", "-n", "5", "-o", str(tmp_path / "way.smi")])
        == 0
    )
    lines = [line.split(" ") for line in (tmp_path / "way.smi").read_text().splitlines()]
    assert [share for _, share in lines] == ["0.000", "0.250", "0.500", "0.750", "1.000"]
    assert main(["interpolate", "--model", model, "CCO", "C(", "-o", str(tmp_path / "no.smi")]) == 2
    among = tmp_path / "among.smi"
    among.write_text(
        "".join(f"{text} m{number}\n" for number, text in enumerate(smiles[:50])) + "C( broken\n"
    )
    arguments = ["neighbours", "--model", model, "CCO", "CCCN", "--among", str(among), "-n", "3"]
    assert main([*arguments, "-o", str(tmp_path / "near.csv")]) == 0
    near = pd.read_csv(tmp_path / "near.csv")
    assert near["asked"].tolist() == ["CCO"] * 3 + ["CCCN"] * 3
    assert near["rank"].tolist() == [1, 2, 3, 1, 2, 3]
    first = near[near["rank"] == 1]
    assert first["smiles"].tolist() == ["CCO", "CCCN"]
    assert (first["distance"] < 1e-5).all()


def test_nothing_is_written_over_what_is_read(run, model, smiles, tmp_path, capsys):
    two = tmp_path / "two.smi"
    two.write_text("CCO a\nCCN b\n")
    table = tmp_path / "two.csv"
    table.write_text("smiles,id\nCCO,a\nCCN,b\n")
    for arguments in (
        ["interpolate", "--model", model, str(two), "-o", str(two)],
        ["neighbours", "--model", model, "CCO", "--among", str(table), "-o", str(table)],
        ["neighbours", "--model", model, str(table), "--among", str(two), "-o", str(table)],
    ):
        assert main(arguments) == 2
        assert "is the input itself" in capsys.readouterr().err
    assert two.read_text() == "CCO a\nCCN b\n"
    assert table.read_text().endswith("CCN,b\n")
    assert main(["interpolate", "--model", model, "missing.smi", "-o", str(tmp_path / "x.smi")]) == 2
    assert "no file missing.smi" in capsys.readouterr().err


def test_names_with_line_breaks_and_tokens_never_seen(run, model, tmp_path):
    source = tmp_path / "new.csv"
    source.write_text('smiles,id\nCCO,"two\nlines"\nCC(=N)C,b\n')
    assert main(["encode", "--model", model, str(source), "-o", str(tmp_path / "z.parquet")]) == 0
    assert main(["decode", "--model", model, str(tmp_path / "z.parquet"), "-o", str(tmp_path / "o.smi")]) == 0
    lines = (tmp_path / "o.smi").read_text().splitlines()
    assert [line.split(" ", 1)[1] for line in lines] == ["two lines", "b"]
    z = pd.read_parquet(tmp_path / "z.parquet")
    assert z["note"].tolist() == ["", "no training molecule has [=N]"]
    assert z["status"].tolist() == ["ok", "ok"]


def test_sample_with_a_property(run, model, tmp_path, caplog):
    arguments = ["sample", "--model", model, "-n", "300", "-o"]
    for name, value in (("low", "-0.5"), ("high", "2.0")):
        assert main([*arguments, str(tmp_path / f"{name}.csv"), "--condition", f"logP={value}"]) == 0
    low, high = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("low", "high"))
    assert list(low.columns) == ["id", "smiles", "logP_model", "QED_model"]
    assert high["logP_model"].mean() > low["logP_model"].mean() + 1
    assert main([*arguments, str(tmp_path / "far.csv"), "--condition", "logp=40"]) == 0
    assert "outside the training data" in caplog.text
    assert main([*arguments, str(tmp_path / "none.csv"), "--condition", "mass=40"]) == 2
    assert not (tmp_path / "none.csv").exists()


def test_of_more_molecules_those_are_kept_that_have_it_when_they_are_read_again(
    run, model, tmp_path, monkeypatch
):
    off = {}
    for drawn in (1, 4):
        monkeypatch.setattr(asked, "_DRAWN", drawn)
        sample_file(model, tmp_path / f"{drawn}.csv", 200, condition={"logP": 1.5})
        found = pd.read_csv(tmp_path / f"{drawn}.csv")
        assert len(found) == 200
        off[drawn] = (found["logP_model"] - 1.5).abs().mean()
    assert off[4] < 0.8 * off[1]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("1.5", "by name: logP=NUMBER"),
        ("", "write numbers"),
        (" , ", "write numbers"),
        ("logP=1,LOGP=2", "LOGP is given twice"),
    ],
)
def test_conditions_that_say_nothing(run, model, tmp_path, capsys, condition, message):
    out = tmp_path / "no.csv"
    assert main(["sample", "--model", model, "-o", str(out), "--condition", condition]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_molecules_of_your_own_are_taken_whole(file, tmp_path):
    out = tmp_path / "run"
    assert main(["configure", "molecules", "--input", str(file), "--out", str(out)]) == 0
    chosen = Run(out).settings.prepare
    assert chosen.rows is None, "not the part of the demonstration's data"
    assert chosen.properties == ("logP", "QED", "SAS")
