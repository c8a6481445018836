"""The whole domain at toy size, for each family of models, by the stages that the command line calls."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sciencevae.builtin.digits import DOMAIN
from sciencevae.builtin.digits.analysis import matched_accuracy

from sciencevae.config import load
from sciencevae.errors import InputError
from sciencevae.latents.files import sample_file
from sciencevae.methods import citation_key
from sciencevae.provenance import citations
from sciencevae.runs import Run, configure

SMALL = [
    "objective={}",
    "refit={}",
    "model.hidden=[32]",
    "model.latent=3",
    "training={epochs: 4, batch_size: 64, learning_rate: 3.0e-3, threads: 1}",
    "analyse={evidence_rows: 20, evidence_samples: 100}",
    "prepare={binarise: dynamic}",
]
REFIT = "training: {epochs: 2, batch_size: 64}"
CASES = {
    "codes": [
        "model={kind: vq, latent: 4, codes: 8, channels: [4, 8]}",
        "objective.kind=vq",
        f"refit={{prior: pixelcnn, {REFIT}}}",
        "variants={}",
    ],
    "priors": [
        "analyse.clusters=5",
        "variants={plane: {model: {latent: 2}}, mixture: {refit: {prior: mixture, components: 3}}, "
        f"flow: {{refit: {{prior: flow, {REFIT}}}}}, vamp: {{model: {{prior: vamp, components: 5}}}}, "
        "convolution: {model: {network: convolution, channels: [4, 8], prior: mixture}}}",
    ],
    "cvae": [
        "prepare={binarise: dynamic, condition: quadrants, quadrants: 1}",
        "model.prior=conditional",
        "variants={network: {model: {kind: deterministic, prior: standard}}, two: {prepare: {quadrants: 2}}}",
    ],
    "labels": ["prepare.condition=label", "variants={}"],
    "oneclass": ["prepare={anomaly: 0, binarise: threshold}", "variants={one: {prepare: {anomaly: 1}}}"],
    "sprites": [
        "dataset=dsprites",
        "source={scales: 2, orientations: 4, x: 8, y: 8, size: 16}",
        "prepare.binarise=none",
        "objective={kind: tc, beta: 2.0}",
        "variants={factor: {objective: {kind: factor}}, iwae: {objective: {kind: iwae, beta: 1.0, samples: 3}}}",
    ],
}

VAE = {"KingmaWelling2014", "Rezende2014", "Burda2016"}  # the last of how log p(x) is estimated
MEASURES = {"Chen2018", "KimMnih2018", "EastwoodWilliams2018", "Kumar2018"}
CITED = {
    "codes": {"vandenOord2017", "HoffmanJohnson2016", "vandenOord2016", "Burda2016"},
    "priors": VAE
    | {"TomczakWelling2018", "Jiang2017", "HoffmanJohnson2016", "Papamakarios2017", "Durkan2019"},
    "cvae": VAE | {"Sohn2015"},
    "labels": VAE | {"Sohn2015"},
    "oneclass": VAE - {"Burda2016"} | {"AnCho2015"},
    "sprites": VAE | MEASURES,
}


@pytest.fixture(scope="module", params=CASES)
def run(request, files, tmp_path_factory, do_all_stages) -> Run:
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCIENCEVAE_CACHE", str(folder / "cache"))
        overrides = [*SMALL, *CASES[request.param]]
        if request.param != "sprites":
            patch.setattr("sciencevae.data.fetch.fetch", lambda name, parameters: files)
        run = configure(folder / request.param, DOMAIN, load(DOMAIN, "mnist", overrides=overrides))
        return do_all_stages(run)


FOUND = {
    "codes": ({"likelihood"}, {"reconstructions", "samples"}),
    "priors": (
        {"likelihood", "clusters"},
        {"reconstructions", "samples", "manifold", "traversal", "latent_map"},
    ),
    "cvae": ({"likelihood", "completion"}, {"latent_map", "completed"}),
    "labels": ({"likelihood"}, {"reconstructions", "samples", "latent_map"}),
    "oneclass": (
        {"anomalies", "thresholds"},
        {"reconstructions", "samples", "traversal", "latent_map", "curves"},
    ),
    "sprites": ({"likelihood", "disentanglement"}, {"reconstructions", "samples", "traversal", "factors"}),
}


def test_each_family_has_its_tables_and_figures(run: Run) -> None:
    tables, figures = FOUND[run.folder.name]
    assert {path.stem for path in run.tables.glob("*.csv")} == tables
    assert {path.stem for path in (run.folder / "figures").glob("*.svg")} == figures | {"training"} | (
        set() if run.folder.name == "codes" else {"latent_use"}
    )
    assert (run.folder / "report.html").stat().st_size > 20_000
    found = json.loads((run.folder / "metrics.json").read_text())
    for name in tables - {"thresholds"}:
        assert found[name], name


def test_the_numbers_are_of_the_right_kind(run: Run) -> None:
    if run.folder.name in ("priors", "cvae", "sprites", "labels"):
        table = run.table("likelihood").set_index("model")
        assert np.isfinite(table.minus_log_p).all()
        slack = 4 * table.minus_log_p_error
        assert (table.minus_log_p <= table.minus_elbo + slack).all(), "log p(x) is above its bound"
        for name in {"mixture", "flow"} & {*table.index}:
            assert "refit" in run.variants[name].metrics
    if run.folder.name == "cvae":
        table = run.table("completion")
        assert set(table.method) == {"CVAE", "network", "nearest neighbours"}
        assert set(table.quadrants) == {1, 2}
        network = run.variants["network"].model()
        told = {"condition": torch.ones(2, 196)}
        z = torch.tensor([[0.0, 1.0, 2.0], [5.0, -3.0, 1.0]])
        assert torch.allclose(*network.decode(z, told).mean), "a deterministic network sees no latents"
    if run.folder.name == "oneclass":
        table = run.table("anomalies")
        assert table.auc.between(0, 1).all()
        assert set(table["class"]) == {0, 1}
        thresholds = run.table("thresholds")
        assert (thresholds.false_positive_rate <= 0.05).all()


def test_title_and_citations_are_of_what_ran(run: Run) -> None:
    title, summary, cited = DOMAIN.of(run)
    sprites = run.folder.name == "sprites"
    assert title == ("Images of sprites" if sprites else "Images of digits")
    assert summary.startswith("dSprites" if sprites else "MNIST")
    for name in ("disentanglement", "anomalies", "completion"):
        assert (name in summary) == (name in FOUND[run.folder.name][0])
    assert any("AnCho" in entry for entry in cited) == (run.folder.name == "oneclass")
    methods = {citation_key(bibtex) for what, bibtex in citations(run) if what == "method"}
    assert methods == CITED[run.folder.name]


def test_new_images_in_the_domains_own_formats(run: Run, tmp_path) -> None:
    if run.folder.name != "sprites":
        return
    model = run.main.folder / "model.safetensors"
    sample_file(model, tmp_path / "new.npz", 3)
    assert np.load(tmp_path / "new.npz")["images"].shape == (3, 16, 16)
    sample_file(model, tmp_path / "new.h5", 3)
    with pytest.raises(InputError, match=r"ends with \.npz or \.npy or \.h5"):
        sample_file(model, tmp_path / "new.png", 3)


def test_clusters_are_matched_one_to_one() -> None:
    label = np.repeat([0, 1, 2], [30, 20, 10])
    assert matched_accuracy((label + 1) % 3, label) == 1
    assert matched_accuracy(np.zeros(60, int), label) == 0.5
    split = label.copy()
    split[:15] = 3  # half of the first class in a component of its own
    assert matched_accuracy(split, label) == 0.75
