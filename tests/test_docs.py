"""The pages under docs/ say what is there: their code runs, every part is listed, and names and arguments exist."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from pages import python_blocks, run_blocks

import sciencevae as sv

ROOT = Path(__file__).parent.parent
PAGES = {name: (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("models.md", "migration.md")}
#: what no user builds a model of: contracts, helpers, and what parts return
NO_PARTS = {"Prior", "CodePrior", "tril_from_flat", "Encoder", "Codes", "Decoder", "Loss", "Objective"}


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def spans(text: str) -> list[str]:
    """What stands between backticks in running text and tables."""
    return re.findall(r"`([^`]+)`", without_code(text))


def anchors(text: str) -> set[str]:
    """The names by which headings are linked to."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def found(dotted: str) -> Any:
    """What ``sv.x.y`` names; AttributeError where there is none."""
    value: Any = {"sv": sv}
    first, *rest = dotted.split(".")
    value = value[first]
    for name in rest:
        value = getattr(value, name)
    return value


def calls(code: str) -> list[tuple[str, ast.Call]]:
    """The calls of names under sv in an expression, with the dotted name."""
    tree = ast.parse(code.replace("…", "..."), mode="eval")
    named = [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(name, node) for name, node in named if name.startswith("sv.")]


def bind(function: Any, call: ast.Call) -> None:
    """TypeError where the function does not take these arguments; all of its own need not be told."""
    named = {keyword.arg: None for keyword in call.keywords if keyword.arg is not None}
    inspect.signature(function).bind_partial(*[None] * len(call.args), **named)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """The namespace that the models page leaves; its first training is as told, the others have one epoch."""
    first, *rest = python_blocks(PAGES["models.md"])
    shorter = "settings = settings.model_copy(update={'epochs': 1})"
    return run_blocks([first, shorter, *(code.replace("epochs=10", "epochs=1") for code in rest)])


def test_what_the_models_page_says_of_shapes(names):
    assert names["posterior"].batch_shape == names["likelihood"].batch_shape == (200,)
    assert names["new"].shape == (5, 6)
    assert names["elbo"].shape == names["tighter"].shape == (200,)
    assert names["groups"].shape == (200, 3)
    assert names["filled"].shape == (1000, 6)
    assert names["drawn"].shape == (10, 1, 8, 8)
    assert names["x_of_kind_1"].shape == (100, 6)
    assert names["fours"].z.shape == (20, 2)
    assert names["written"].shape == (20, 6)
    assert names["gap"].shape == (20,)
    assert names["evidence"].trusted.shape == (200,)
    assert names["annealed"].value.shape == (5,)
    assert names["walk"].mean.shape == (2, 7, 6)
    assert names["path"].shape == (9, 2, 2)
    assert names["plane"].mean.shape == (10, 10, 6)
    assert list(names["table"].factor) == ["kind", "level", "all"]


def test_what_the_models_page_trains_learns(names):
    rows = names["history"].rows
    assert rows[-1]["valid_loss"] < rows[0]["valid_loss"] - 1
    assert not names["use"].collapsed
    assert names["use"].active_units == 2
    assert not names["filled"].isnan().any()
    assert names["area"] > 0.9, "noise as large as the data is anomalous"
    assert (names["gap"] >= 0).all()
    # a bound lies below the evidence
    annealed = names["annealed"]
    assert (names["refined"].after[:5] < annealed.value + 4 * annealed.stderr + 0.5).all()
    better = names["tighter"] - names["elbo"]
    assert better.mean() > -0.05
    # fitted afterwards
    assert isinstance(names["vade"].prior, sv.priors.GaussianMixture)
    assert isinstance(names["vae"].prior, sv.priors.Flow)
    assert isinstance(names["vqvae"].prior, sv.priors.Autoregressive)


def test_papers_take_five_lines():
    text = PAGES["models.md"]
    papers = text[text.index("### VAE\n") : text.index("## All parts")]
    titles = re.findall(r"^### (.*)$", papers, re.MULTILINE)
    assert len(titles) == 13
    for title, section in zip(titles, re.split(r"^### .*$", papers, flags=re.MULTILINE)[1:], strict=True):
        blocks = [
            code for code in python_blocks(section) if "sv.networks." not in code
        ]  # those are the preamble's
        assert blocks, title
        for code in blocks:
            lines = code.strip().splitlines()
            assert len(lines) <= 5, title
            assert max(map(len, lines)) <= 116, title


@pytest.mark.parametrize("space", ["priors", "encoders", "decoders", "objectives"])
def test_every_part_is_listed(space):
    (table,) = re.findall(rf"^\| `sv\.{space}\.` .*?\n\n", PAGES["models.md"], re.DOTALL | re.MULTILINE)
    rows = [re.findall(r"`([^`]+)`", row) for row in table.splitlines()[2:] if row]
    listed = set()
    for row in rows:
        (name, call), *_ = calls(f"sv.{space}.{row[0]}")
        bind(found(name), call)
        listed.add(name.rpartition(".")[2])
    everything = set(getattr(sv, space).__all__) - NO_PARTS
    assert listed | {"Quantiser"} == everything | {"Quantiser"}  # which is told of in the row of Code


@pytest.mark.parametrize("page", PAGES)
def test_names_and_arguments_exist(page):
    checked = 0
    for code in spans(PAGES[page]):
        for dotted in re.findall(r"\bsv(?:\.[A-Za-z]\w*)+", code):
            found(dotted)
            checked += 1
        if re.match(r"sv\.[\w.]+\(", code):
            for name, call in calls(code):
                bind(found(name), call)
        for field in re.findall(r"^settings\.(\w+)$", code):
            assert field in sv.TrainingSettings.model_fields, field
    assert checked > 20


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)]+)\)", without_code(PAGES[page])):
        file, _, anchor = target.partition("#")
        assert not file or (ROOT / "docs" / file).exists(), target
        assert not anchor or anchor in anchors(PAGES[file or page]), target
