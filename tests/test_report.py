"""The report: one file, everything inside, nothing of the user's taken for markup."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sciencevae.report import save_figure, style, table_html
from sciencevae.report.figures import COLOURS
from sciencevae.report.tables import cell, flatten


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0123456, "0.01235"),
        (float("nan"), "–"),
        (None, "–"),
        (np.float32(0.5), "0.5"),
        (np.int64(12345), "12,345"),
        (True, "yes"),
        ([1, 2.5], "1, 2.5"),
        (6.02e23, "6.02e+23"),
        (4857316.0, "4,857,316"),
        ("M 45", "M 45"),
    ],
)
def test_numbers_have_the_digits_one_reads(value: object, text: str) -> None:
    assert cell(value) == text


def test_tables_are_escaped_and_cut() -> None:
    frame = pd.DataFrame({"<name>": ["<script>alert(1)</script>"] * 40, "n": range(40)})
    html = str(table_html(frame, rows=10))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "&lt;name&gt;" in html
    assert html.count("<tr>") == 11
    assert "and 30 more rows" in html
    assert flatten({"a": {"b": 1, "c": {"d": 2}}}) == {"a · b": 1, "a · c · d": 2}


def test_figures_are_written_twice_and_the_same_each_time(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    written = []
    for attempt in ("one", "two"):
        with style():
            figure, axes = plt.subplots()
            axes.scatter(*np.random.default_rng(0).normal(size=(2, 5000)))
            axes.set_xlabel("x (m)")
            written.append(save_figure(figure, tmp_path / attempt, "cloud"))
        assert not plt.get_fignums()
    for one, two in zip(*written, strict=True):
        assert one.read_bytes() == two.read_bytes()
    svg = written[0][1].read_text()
    assert "<image" in svg  # 5000 points as pixels
    assert ">x (m)</text>" in svg  # text stays text


def test_colours_differ_in_lightness_too() -> None:
    """Also in print without colour: neighbours in the cycle differ by their luminance."""
    rgb = np.array([[int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)] for c in COLOURS])
    luminance = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [
        0.2126,
        0.7152,
        0.0722,
    ]
    assert (np.abs(np.diff(luminance)) > 0.03).all()


class _Parsed(HTMLParser):
    """Tags that are left open, and everything that is loaded from elsewhere."""

    EMPTY = {"meta", "img", "link", "br", "hr"}  # noqa: RUF012

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_escaped(toy_run: Path) -> None:
    text = (toy_run / "report.html").read_text()
    page = _Parsed(text)
    assert page.open == []
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.loaded)
    assert not page.tags & {"script", "toy", "b>", "angle"}
    assert "Points &amp; lines &lt;toy&gt;" in text
    assert "Histogram of the latents &lt;b&gt;." in text
    assert "A note with &lt;angle&gt; brackets." in text
    assert text.count("<img") == 2
    for section in ("Figures", "Results", "Training", "Data", "Cite", "Provenance"):
        assert f"<h2>{section}</h2>" in text
    assert "@software{sciencevae" in text
    assert re.search(r"torch==2\.\d+", text)
