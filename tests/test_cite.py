"""``sciencevae cite``: BibTeX that a parser takes, each key once, of the data and methods that a run really has."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import pybtex
import pytest
import torch
from pybtex.database import BibliographyData, parse_string

import sciencevae as sv
from sciencevae import methods
from sciencevae.cli import main
from sciencevae.config import load, read_yaml
from sciencevae.data.manifest import list_manifests, load_manifest
from sciencevae.networks import Perceptron, PixelCNN
from sciencevae.provenance import citations
from sciencevae.registry import domain, domains
from sciencevae.runs import Run, configure, write_json
from sciencevae.software import SOFTWARE, used_by
from sciencevae.training.schedules import Cyclic, WarmUp

CONFIGURATIONS = [
    (name, path.stem)
    for name in domains()
    for path in sorted(domain(name).folder.glob("*.yaml"))
    if "training" in read_yaml(path) and path.stem != "own"
]
#: parts whose densities and losses are older than any paper on VAEs, or which are a contract
PLAIN = {
    *("priors.StandardNormal", "priors.UniformCodes", "priors.Prior", "priors.CodePrior"),
    *("encoders.Gaussian", "encoders.Code", "encoders.Codes", "encoders.Encoder"),
    *(
        f"decoders.{name}"
        for name in ("Bernoulli", "Categorical", "Decoder", "Gaussian", "Joint", "StudentT")
    ),
    *(f"decoders.{name}" for name in ("NegativeBinomial", "Poisson", "VonMises")),
    *("objectives.ELBO", "objectives.VQ", "objectives.Objective", "objectives.Loss", "objectives.Term"),
    "objectives.TwoDomains",
}


def _parsed(text: str) -> BibliographyData:
    """Parsed, keys being unique, and set in BibTeX's plain style, for which the fields an entry needs are there."""
    data = parse_string(text, "bibtex")
    assert pybtex.format_from_string(text, style="plain", output_backend="plaintext")
    return data


@pytest.mark.parametrize(("name", "config"), CONFIGURATIONS)
def test_every_configuration_cites_what_bibtex_takes(name: str, config: str, tmp_path: Path) -> None:
    found = domain(name)
    run = configure(tmp_path / "run", found, load(found, config))
    found_entries = dict(citations(run))
    assert {f"software: {p} {version(p)}" for p in ("sciencevae", "torch", "snakemake")} <= set(found_entries)
    data = _parsed("\n".join(bibtex for _, bibtex in citations(run)))
    if run.main.settings.dataset:
        own = methods.citation_key(load_manifest(run.main.settings.dataset).citation.bibtex)
        assert own in data.entries


def test_every_paper_is_one_entry_that_bibtex_takes() -> None:
    assert len(_parsed("\n".join(methods.PAPERS.values())).entries) == len(methods.PAPERS)
    for name in list_manifests():
        entry = load_manifest(name).citation
        assert len(_parsed(entry.bibtex).entries) == 1, name


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("molecules", {"rdkit"}),
        ("stars", {"astropy"}),
        ("tables", {"scikit-learn"}),
        ("xy", {"numba"}),
        ("objects", {"mitsuba", "numba"}),
    ],
)
def test_software_is_what_the_domain_imports(name: str, packages: set[str]) -> None:
    others = {"rdkit", "astropy", "gemmi"} - packages
    found = set(used_by(domain(name)))
    assert packages <= found
    assert not others & found
    assert len(_parsed("\n".join(SOFTWARE.values())).entries) == len(SOFTWARE)


def test_equal_keys_are_of_equal_papers() -> None:
    """A paper that is cited for data and for a method appears once, so both must mean the same."""
    titles: dict[str, str] = {}
    entries = [load_manifest(name).citation.bibtex for name in list_manifests()]
    entries += [*methods.PAPERS.values(), *SOFTWARE.values()]
    for entry in entries:
        for key, parsed in parse_string(entry, "bibtex").entries.items():
            title = parsed.fields["title"].replace("{", "").replace("}", "").lower()
            assert titles.setdefault(key, title) == title


def test_every_part_has_its_papers_or_is_known_to_have_none() -> None:
    parts = {
        f"{room}.{name}"
        for room in ("priors", "encoders", "decoders", "objectives")
        for name in getattr(sv, room).__all__
        if name[0].isupper()
    }
    named = {name for name in methods.PARTS if not name.startswith("flows.")}
    assert parts == named | PLAIN
    assert {key for keys in methods.PARTS.values() for key in keys} <= set(methods.PAPERS)


def _model(**parts: Any) -> sv.VAE:
    conditional = 2 if parts.pop("conditional", False) else 0
    return sv.VAE(
        parts.get("prior") or sv.priors.StandardNormal(2),
        parts.get("encoder") or sv.encoders.Gaussian(Perceptron(4, [8], 4), 2),
        sv.decoders.Gaussian(
            Perceptron(2, [8], 4, condition_features=conditional), conditional=bool(conditional)
        ),
    )


BASE = {"KingmaWelling2014", "Rezende2014"}


@pytest.mark.parametrize(
    ("parts", "objective", "keys"),
    [
        ({}, sv.objectives.ELBO(), set()),
        ({}, sv.objectives.ELBO(beta=4.0), {"Higgins2017"}),
        ({}, sv.objectives.ELBO(beta=WarmUp(1.0, 10)), {"Bowman2016"}),
        ({}, sv.objectives.ELBO(beta=Cyclic(1.0, 10)), {"Fu2019"}),
        ({}, sv.objectives.ELBO(free_bits=0.5), {"Kingma2016"}),
        ({}, sv.objectives.ELBO(beta=100.0, capacity=5.0), {"Burgess2018"}),
        ({}, sv.objectives.IWAE(5), {"Burda2016"}),
        ({}, sv.objectives.IWAE(5, doubly_reparameterised=True), {"Burda2016", "Tucker2019"}),
        ({}, sv.objectives.BetaTCVAE(100), {"Chen2018"}),
        ({}, sv.objectives.FactorVAE(2, hidden=(4,)), {"KimMnih2018"}),
        ({"conditional": True}, sv.objectives.ELBO(), {"Sohn2015"}),
        ({"prior": sv.priors.GaussianMixture(2, 3)}, sv.objectives.ELBO(), {"Jiang2017"}),
        (
            {"prior": sv.priors.Flow(2, hidden=(4,))},
            sv.objectives.ELBO(),
            {"Chen2017", "Papamakarios2017", "Durkan2019"},
        ),
        (
            {
                "encoder": sv.encoders.Flow(
                    Perceptron(4, [8], 4), 2, kind="autoregressive", hidden=(4,), bins=0
                )
            },
            sv.objectives.ELBO(),
            {"RezendeMohamed2015", "Papamakarios2017", "Kingma2016"},
        ),
        (
            {"encoder": sv.encoders.Flow(Perceptron(4, [8], 4), 2, hidden=(4,))},
            sv.objectives.ELBO(),
            {"RezendeMohamed2015", "Dinh2017", "Durkan2019"},
        ),
    ],
)
def test_a_model_cites_what_it_is_made_of(parts: dict[str, Any], objective: Any, keys: set[str]) -> None:
    found = methods.used(_model(**parts), objective)
    assert set(found) == BASE | keys
    assert len(found) == len(set(found))
    assert set(found) <= set(methods.PAPERS)


def test_a_model_of_codes_and_a_prior_fitted_afterwards() -> None:
    encoder = sv.encoders.Code(Perceptron(8, [16], 4), sv.encoders.Quantiser(8, 4))
    decoder = sv.decoders.Gaussian(Perceptron(4, [16], 8))
    model = sv.VQVAE(sv.priors.UniformCodes(8, ()), encoder, decoder)
    assert methods.used(model, sv.objectives.VQ()) == ["vandenOord2017"]
    assert methods.refitted(sv.priors.GaussianMixture(2, 3)) == ["HoffmanJohnson2016"]
    flow = methods.refitted(sv.priors.Flow(2, hidden=(4,)))
    assert flow == ["HoffmanJohnson2016", "Papamakarios2017", "Durkan2019"]
    pixels = sv.priors.Autoregressive(PixelCNN(8, (2, 2)), 8, (2, 2))
    assert methods.refitted(pixels) == ["HoffmanJohnson2016", "vandenOord2016"]


def test_finding_the_methods_leaves_the_training_as_it_is() -> None:
    """An objective with a network of its own is built to be asked: the generator stays where it was."""
    from dataclasses import replace

    from sciencevae.stages import _methods

    own = replace(domain("toy"), objective=lambda settings, data: sv.objectives.FactorVAE(2, hidden=(4,)))
    model, before = _model(), torch.get_rng_state()
    assert "KimMnih2018" in _methods(own, None, None, model)  # type: ignore[arg-type]
    assert torch.equal(torch.get_rng_state(), before)


def test_the_command_prints_it(toy_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cite", str(toy_run)]) == 0
    data = _parsed(capsys.readouterr().out)
    software = {methods.citation_key(SOFTWARE[name]) for name in used_by(domain("toy"))}
    assert set(data.entries) == BASE | software
    assert data.entries["sciencevae"].fields["note"] == f"Version {sv.__version__}"


def test_a_forecast_cites_what_it_stands_beside(tmp_path: Path) -> None:
    fluids = domain("fluids")
    run = configure(tmp_path / "run", fluids, load(fluids))
    kinds = {"Schmid2010", "ArbabiMezic2017", "Qin2019"}
    assert not kinds & {methods.citation_key(entry) for _, entry in citations(run)}
    write_json(run.folder / "metrics.json", {"forecast": {"main": {"chosen": "linear"}}})
    assert kinds <= {methods.citation_key(entry) for _, entry in citations(Run(run.folder))}


def test_a_users_own_data_cite_no_data_set(tmp_path: Path) -> None:
    xy, data = domain("xy"), tmp_path / "own.h5"
    data.touch()
    run = configure(tmp_path / "run", xy, load(xy), data)
    assert {what.split()[0] for what, _ in citations(run)} == {"software:"}
