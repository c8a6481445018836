"""A table with planted anomalies through every stage: they come out on top, with the columns that are odd."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sciencevae.builtin.tables import DOMAIN

from sciencevae import stages
from sciencevae.config import load
from sciencevae.latents.files import decode_file, encode_file, sample_file, score_file
from sciencevae.runs import Run, configure

ROWS = 600
#: row of the file -> the column in which it is odd
PLANTED = {100: "length", 200: "hits", 300: "kind", 400: "width"}


def simulated(seed: int = 0) -> pd.DataFrame:
    """Width follows length, the rate of hits follows the kind, and the kind the length; four rows break a rule."""
    random = np.random.default_rng(seed)
    kind = random.integers(0, 2, ROWS)
    length = random.normal(4.0 * kind, 0.7)
    frame = pd.DataFrame(
        {
            "name": [f"row-{i}" for i in range(ROWS)],
            "length": length,
            "width": 2 * length + random.normal(0, 0.3, ROWS),
            "hits": random.poisson(np.where(kind == 1, 60, 20)).astype(float),
            "kind": np.array(["small", "large"])[kind],
        }
    )
    frame.loc[random.choice(ROWS, 40, replace=False), "hits"] = np.nan
    frame.loc[100, "length"] = 25.0
    frame.loc[200, "hits"] = 500
    frame.loc[300, "kind"] = "large" if frame.loc[300, "length"] < 2 else "small"
    frame.loc[400, "width"] += 9.0
    frame["state"] = ["odd" if i in PLANTED else "usual" for i in range(ROWS)]
    return frame


def run_of(folder: Path, frame: pd.DataFrame, *overrides: str) -> Run:
    source = folder / "table.parquet"
    frame.to_parquet(source, index=False)
    settings = load(
        DOMAIN, "own", ["prepare.identifier=name", "training.epochs=40", "training.batch_size=64", *overrides]
    )
    return configure(folder / "run", DOMAIN, settings, source)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, do_all_stages: Callable[[Run], Run]) -> Run:
    """Trained on all rows, planted ones among them, of which it is told nothing."""
    labels = ["prepare.label=state", "prepare.normal=[usual]", "prepare.train_on=all"]
    return do_all_stages(run_of(tmp_path_factory.mktemp("tables"), simulated(), *labels))


def test_a_table_of_fewer_rows_than_a_batch(
    tmp_path: Path, do_all_stages: Callable[[Run], Run], capsys: pytest.CaptureFixture[str]
) -> None:
    done = do_all_stages(run_of(tmp_path, simulated()[:60], "training.epochs=2"))
    assert "a batch is all 48 rows, fewer than training.batch_size" in capsys.readouterr().err
    assert len(pd.read_parquet(done.folder / "scores.parquet")) == 60


def test_planted_rows_come_out_with_the_columns_that_are_odd(run: Run) -> None:
    scores = pd.read_parquet(run.folder / "scores.parquet").set_index("row")
    rank = scores["score"].rank(ascending=False)
    assert rank[list(PLANTED)].max() <= 12
    parts = scores.filter(like="contribution.")
    excess = parts - parts[scores["split"] == "train"].median()
    for row, column in PLANTED.items():
        told = excess.loc[row].drop("contribution.(latents)").nlargest(2).index
        # of a broken relation either side is odd
        assert f"contribution.{column}" in told or {"length", "width"} >= {column}, (row, told)
    assert excess.loc[200].idxmax() == "contribution.hits"


def test_what_a_run_leaves(run: Run) -> None:
    scores = pd.read_parquet(run.folder / "scores.parquet")
    assert scores["row"].tolist() == list(range(ROWS))
    assert scores["id"].tolist() == [f"row-{i}" for i in range(ROWS)]
    parts = scores.filter(like="contribution.")
    assert list(parts) == [f"contribution.{n}" for n in ("length", "width", "hits", "kind", "(latents)")]
    np.testing.assert_allclose(parts.sum(axis=1), scores["score"])
    assert (scores["beyond"].between(0, 1)).all()
    kinds = run.table("columns").set_index("column")
    assert kinds.loc["hits", "kind"] == "counts"
    assert kinds.loc["hits", "missing"] == 40
    assert kinds.loc["name", "left_out"] == "identifier"
    for name in ("scores", "top_anomalies", "latent_map"):
        assert (run.folder / "figures" / f"{name}.png").stat().st_size > 10_000
    page = (run.folder / "report.html").read_text()
    assert "Trained on all rows, whatever their label" in page


def test_missing_values_add_nothing_of_their_own(run: Run) -> None:
    """A row without hits: by the ELBO nothing, exactly."""
    out = run.folder / "own.parquet"
    score_file(run.folder / "model.safetensors", run.folder.parent / "table.parquet", out, explain=True)
    scores = pd.read_parquet(out)
    frame = simulated()
    missing = frame["hits"].isna().to_numpy()
    assert (scores.loc[missing, "contribution.hits"] == 0).all()
    assert (scores.loc[~missing, "contribution.hits"] != 0).all()
    assert scores["id"].tolist() == frame["name"].tolist()
    np.testing.assert_allclose(
        scores.filter(like="contribution.").sum(axis=1), scores["score"], rtol=1e-3, atol=1e-3
    )
    assert scores["score"].rank(ascending=False)[[100, 200, 400]].max() <= 12


def test_new_and_decoded_rows_have_the_columns_of_the_table(run: Run) -> None:
    model, frame = run.folder / "model.safetensors", simulated()
    sample_file(model, run.folder / "new.csv", 400, seed=1)
    new = pd.read_csv(run.folder / "new.csv")
    assert list(new) == ["row", "length", "width", "hits", "kind"]
    assert set(new["kind"]) <= {"small", "large", "(another)"}
    assert (new["hits"] % 1 == 0).all()
    assert new["hits"].mean() == pytest.approx(frame["hits"].mean(), rel=0.2)
    assert new[["length", "width"]].corr().iloc[0, 1] > 0.5
    encode_file(model, run.folder.parent / "table.parquet", run.folder / "z.parquet")
    decode_file(model, run.folder / "z.parquet", run.folder / "back.parquet")
    back = pd.read_parquet(run.folder / "back.parquet")
    assert back["id"].tolist() == frame["name"].tolist()
    usual = frame["state"] == "usual"
    assert np.corrcoef(back.loc[usual, "width"], frame.loc[usual, "width"])[0, 1] > 0.95
    assert (back.loc[usual, "kind"] == frame.loc[usual, "kind"]).mean() > 0.9


@pytest.mark.parametrize("kind", ["elbo", "evidence"])
def test_other_scores_and_normal_training(kind: str, tmp_path: Path) -> None:
    """Trained on rows labelled usual alone; one class of labels in test is said, not measured."""
    labels = ["prepare.label=state", "prepare.normal=[usual]", f"analyse.score={kind}", "training.epochs=60"]
    run = run_of(tmp_path, simulated(1), *labels)
    for stage in (stages.prepare, stages.train, stages.encode):
        stage(run, run.main)
    stages.analyse(run)
    run = Run(run.folder)
    scores = pd.read_parquet(run.folder / "scores.parquet").set_index("row")
    assert (scores.loc[list(PLANTED), "split"] == "test").all()
    assert run.metrics["detection"]["main"]["auc"] > 0.85
    assert set(run.table("detection")["method"]) >= {"isolation forest", "5th neighbour"}
    np.testing.assert_allclose(scores.filter(like="contribution.").sum(axis=1), scores["score"], rtol=1e-6)
    assert "nats" in json.loads(run.record("analyse").read_text())["notes"]["anomalies"][0]


def test_labels_of_one_class_are_not_measured(tmp_path: Path) -> None:
    frame = simulated(2).drop(index=list(PLANTED), errors="ignore").reset_index(drop=True)
    run = run_of(tmp_path, frame, "prepare.label=state", "prepare.normal=[usual]", "training.epochs=2")
    for stage in (stages.prepare, stages.train, stages.encode):
        stage(run, run.main)
    stages.analyse(run)
    notes = json.loads(run.record("analyse").read_text())["notes"]["detection"]
    assert "0 anomalous ones by their label, too few of one kind" in notes[0]


def test_the_table_that_scikit_learn_brings_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sciencevae.builtin.tables.dataset import prepare

    from sciencevae.data.fetch import fetch

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SCIENCEVAE_MIRROR", raising=False)
    data = prepare(load(DOMAIN), fetch("breast_cancer", progress=False), None)
    assert data.sizes == {"sample": 569, "gaussian_column": 30}
    assert int((data["anomaly"] == 1).sum()) == 212
    assert set(data["split"].values[data["anomaly"].values == 1]) == {2}
