"""Names, labels, settings and error texts that try to become markup, formulas, or orders to a terminal."""

from __future__ import annotations

import csv
import json
import random
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from lxml import etree

from sciencevae import stages
from sciencevae.cli import main
from sciencevae.errors import one_line
from sciencevae.report.figures import save_figure, style
from sciencevae.runs import Run
from sciencevae.workflow import configured

SCRIPT = "<script>alert(1)</script>"
NAMES = [
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "$\\frac{$",  # of which matplotlib would make mathematics, and fails
    "</style></pre></td><svg onload=alert(1)>",
    "=cmd|' /C calc'!A0",
    "a]]>&amp;&#60;b",
    "{{7*191}}",
    "{% raw %}",
    "_hidden",
    "\x1b[2Jclear",
    "javascript:alert(1)",
]
LABEL = "label</summary><script>alert(2)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table whose every name attacks."""
    place = tmp_path_factory.mktemp("hostile")
    source, rng = place / f"{SCRIPT.replace('/', '')}.csv", random.Random(0)
    with source.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *NAMES, LABEL])
        for row in range(120):
            z = rng.gauss(0, 1)
            values = [z + rng.gauss(0, 0.3) for _ in NAMES]
            values[0] = (
                float("inf") if row < 2 else values[0]
            )  # refused, with the column's name in the reason
            kind = rng.choice(["normal", SCRIPT])
            writer.writerow([f"=1+{row}" if row % 2 else f"{SCRIPT}{row}\x1b[31m$x_{{$", *values, kind])
    chosen = ["prepare.identifier=id", f"prepare.label={json.dumps(LABEL)}", "prepare.minimum_rows=20"]
    chosen += ["training.epochs=1", "analyse.samples=2"]
    run = configured("tables", None, chosen, str(source), place / "run")(place / "run")
    stages.prepare(run, run.main)
    stages.train(run, run.main)
    stages.encode(run, run.main)
    stages.analyse(run)
    stages.report(run)
    return place / "run"


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_nothing_of_a_users_table_becomes_markup(folder: Path) -> None:
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "svg", "iframe", "object", "embed", "form", "input", "base", "link"}
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert (attributes.get("href") or "#").startswith("#")
        assert (attributes.get("src") or "data:image/").startswith("data:image/")
    assert page.text.count(SCRIPT) > 10  # shown as it stands, in tables, settings and reasons
    assert f"{NAMES[0]} is infinite" in page.text
    assert "{{7*191}}" in page.text
    assert "1337" not in page.text


def test_a_page_asks_the_browser_for_nothing(folder: Path) -> None:
    """Should something slip through all the same: no script runs, nothing is loaded."""
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    policies = [a.get("content") for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_figures_are_well_formed_and_hold_no_script(folder: Path) -> None:
    figures = sorted((folder / "figures").glob("*.svg"))
    assert len(figures) >= 3
    shown = ""
    for path in figures:
        for element in etree.parse(path).iter():
            if isinstance(element.tag, str):
                name = etree.QName(element).localname
                assert name not in {"script", "foreignObject", "iframe", "a", "set", "animate"}
                assert not [a for a in element.attrib if etree.QName(a).localname.startswith("on")]
                shown += element.text or ""
    assert "<script>alert(1)</" in shown  # cut to its first letters
    assert "$\\frac{$" in shown


def test_text_that_is_no_mathematics_is_drawn_as_it_stands(tmp_path: Path) -> None:
    with style():
        figure, axes = plt.subplots()
        axes.set_title("$\\frac{$")
        axes.set_xlabel("$\\mu$ and \x00\x1b")
        axes.set_ylabel("$z$ --><script>alert(1)</script>")  # matplotlib puts mathematics into a comment, too
        axes.plot([0, 1], label="$$")
        axes.set_xticks([0, 1], ["$^$", "$x$"])
        axes.legend(title="\\$ $\\unknown$")
        svg = save_figure(figure, tmp_path, "a")[1].read_text()
    assert "$\\frac{$" in svg
    assert "oblique" in svg  # the µ that is one
    tags = {etree.QName(e).localname for e in etree.fromstring(svg.encode()).iter() if isinstance(e.tag, str)}
    assert "text" in tags
    assert "script" not in tags


def test_tables_hold_what_the_user_wrote(folder: Path) -> None:
    """Formulas too: a table is data, and an identifier that we changed would name nothing. SECURITY.md says so."""
    found = pd.read_csv(folder / "tables" / "top_anomalies.csv")
    rows = pd.read_csv(Run(folder).input).set_index("id")
    assert set(found["id"]) <= set(rows.index)
    assert set(pd.read_csv(folder / "tables" / "columns.csv")["column"]) >= set(NAMES)


def test_errors_steer_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x1b]0;title\x07\x1b[2J\u202e\x9b31m"
    (tmp_path / "a.csv").write_text(f"{name},{name}\n1,2\n")
    assert main(["configure", "toy", "--set", f"{name}=1", "--out", str(tmp_path / "run")]) == 2
    assert main(["run", "tables", "--input", f"{tmp_path}/{name}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 2
    assert said.replace("\n", "").isprintable()
    assert "\\x1b[2J" in said
    assert one_line("plain, 2θ = 5°") == "plain, 2θ = 5°"
