"""The report: one file, everything inside, nothing of the user's taken for markup."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from sciencevae.errors import InputError
from sciencevae.latents.collapse import LatentUse
from sciencevae.progress import Progress
from sciencevae.report import save_figure, style, table_html
from sciencevae.report.figures import (
    COLOURS,
    DOUBLE_COLUMN,
    Mapped,
    image_grid,
    latent_figure,
    places_in,
    training_figure,
)
from sciencevae.report.html import write_report
from sciencevae.report.tables import cell, grid, title, training_parts
from sciencevae.runs import Run, read_json, write_json


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


def test_headers_are_words_with_their_unit() -> None:
    titles = {"minus_elbo": "−ELBO (nats)"}
    html = str(table_html(pd.DataFrame({"minus_elbo": [1.0], "other_name": [2.0]}), titles=titles))
    assert "<th>−ELBO (nats)</th><th>other name</th>" in html
    assert title("main · minus_elbo", titles) == "main · −ELBO (nats)"


def test_a_metric_that_is_a_row_of_a_table_is_shown_once(tmp_path: Path) -> None:
    rows = [{"model": "main", "a": 1 / 3, "b": None}, {"model": "wide", "a": 2 / 3, "b": 5}]
    pd.DataFrame(rows).to_csv(tmp_path / "t.csv", index=False)
    tables = [pd.read_csv(tmp_path / "t.csv")]
    by_model = {row["model"]: {k: v for k, v in row.items() if k != "model"} for row in rows}
    assert grid(by_model, tables) == []
    assert grid({"rows": rows}, tables) == []
    assert grid(by_model) == [(["a", "b"], {"main": [1 / 3, None], "wide": [2 / 3, 5]})]
    changed = by_model | {"wide": {"a": 2 / 3, "b": 6}}
    assert grid(changed, tables) == [(["a", "b"], {"wide": [2 / 3, 6]})]
    assert grid({"mean": 1 / 3, "x": {"a": 1 / 3}}, tables) == [([], {"mean": [1 / 3], "x · a": [1 / 3]})]


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


@pytest.mark.parametrize("gap", [0, 1, 3])
def test_a_grid_of_images_shows_each_in_its_place_on_one_scale(gap: int) -> None:
    import matplotlib.pyplot as plt

    images = np.random.default_rng(0).normal(size=(3, 4, 5, 6))
    images[1, 2, 0, 0] = np.nan
    rows, columns = [f"z{i}" for i in range(3)], [f"{t}σ" for t in range(4)]
    with style():
        figure = image_grid(images, rows, columns, gap=gap, unit="counts")
        axes, bar = figure.axes
        (picture,) = axes.get_images()
        shown = picture.get_array().filled(np.nan)
        for row, top in enumerate(range(0, shown.shape[0], 5 + gap)):
            for column, left in enumerate(range(0, shown.shape[1], 6 + gap)):
                cell = shown[top : top + 5, left : left + 6]
                assert np.array_equal(cell, images[row, column], equal_nan=True)
                # the label stands at the middle of its images
                assert axes.get_yticks()[row] == top + 2
                assert axes.get_xticks()[column] == left + 2.5
        assert np.isfinite(shown).sum() == 3 * 4 * 5 * 6 - 1  # nothing between them
        assert picture.get_clim() == (np.nanmin(images), np.nanmax(images))
        assert [t.get_text() for t in (*axes.get_yticklabels(), *axes.get_xticklabels())] == rows + columns
        assert not any(spine.get_visible() for spine in axes.spines.values())
        assert bar.get_ylabel() == "counts"
        assert figure.get_size_inches()[0] <= DOUBLE_COLUMN
        plt.close(figure)
        figure = image_grid(images, limits=(-1, 1))
        assert figure.axes[0].get_images()[0].get_clim() == (-1, 1)
        assert len(figure.axes) == 1
        plt.close(figure)


def test_what_is_no_grid_of_images_is_refused() -> None:
    with pytest.raises(InputError, match=r"not \(3, 4, 5\)"):
        image_grid(np.zeros((3, 4, 5)))
    with pytest.raises(InputError, match="2 column_labels for 4 columns"):
        image_grid(np.zeros((3, 4, 5, 6)), column_labels=["a", "b"])


def test_what_the_pointer_shows_stands_where_the_datum_is_drawn(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    points = np.array([[0.0, 1.0], [2.0, -3.0], [5.0, 0.5]])
    with style():
        figure, panels = plt.subplots(1, 2, figsize=(5, 3))
        for panel in panels:
            panel.scatter(*points.T, c="red", s=20)
        places = places_in(figure, panels, points)
        png, _ = save_figure(figure, tmp_path, "map")
    assert [len(of_one) for of_one in places] == [2, 2, 2], "in each panel"
    pixels = plt.imread(png)[..., :3]
    height, width = pixels.shape[:2]
    for of_one in places:
        for x, y in of_one:
            assert pixels[round(y * height), round(x * width)].tolist() == [1, 0, 0]


def test_the_page_has_the_picture_and_the_text_of_each_datum(toy_run: Path, tmp_path: Path) -> None:
    import base64
    from dataclasses import replace

    import matplotlib.pyplot as plt

    shutil.copytree(toy_run, tmp_path / "run")
    run = Run(tmp_path / "run")

    def drawn(run: Run) -> tuple[Mapped, str]:
        figure = plt.figure()
        places = [[(0.25, 0.5)], [(0.5, 0.125), (1.0, 0.0)]]
        return Mapped(figure, places, ["C<C", "CO"], ["<svg>first</svg>", "<svg>second</svg>"]), "caption"

    run.domain = replace(run.domain, figures={"chart": drawn})
    write_report(run, Progress())
    page = (run.folder / "report.html").read_text()
    spots = re.findall(r'class="spot ([^"]+)" style="left:(\S+)%;top:(\S+)%"><i>(.*?)</i>', page)
    assert spots == [
        ("chart-1", "25.00", "50.00", "C&lt;C"),
        ("chart-2", "50.00", "12.50", "CO"),
        ("chart-2 west", "100.00", "0.00", "CO"),  # at the right edge the text stands to the left
    ]
    pictures = dict(re.findall(r"\.(chart-\d) i::after .*?base64,(\S+)\"\)", page))
    assert base64.b64decode(pictures["chart-2"]) == b"<svg>second</svg>"


def test_curves_that_are_the_same_are_one() -> None:
    import matplotlib.pyplot as plt

    history = pd.DataFrame(
        {"epoch": [1, 2], "seconds": [1.0, 2.0], "train_loss": [3.0, 2.0], "valid_loss": [3.0, 2.5]}
    )
    histories = {
        "main": history,
        "mixture": history.assign(seconds=[5.0, 9.0]),
        "plane": history.assign(valid_loss=[3.0, 2.6]),
        "codes": history.assign(train_kl=[1.0, 1.0]),
    }
    run = SimpleNamespace(
        variants={name: SimpleNamespace(history=found) for name, found in histories.items()}
    )
    with style():
        figure, _ = training_figure(run)
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert names == ["main = mixture", "plane", "codes"]
    assert len(figure.axes[0].lines) == 6
    plt.close(figure)


def test_kl_and_aggregate_posterior_are_drawn_by_dimension() -> None:
    import matplotlib.pyplot as plt

    def variant(use: object) -> SimpleNamespace:
        return SimpleNamespace(metrics={"latents": use})

    plain = LatentUse(3.0, [2.0, 1.0], 2, 2, 5.0, [0.1, 0.2], [0.9, 1.1]).to_json()
    mixture = LatentUse(3.0, None, 2, 2, 5.0, [0.3, 0.4], [1.0, 1.0]).to_json()
    variants = {"main": variant(plain), "mixture": variant(mixture), "codes": variant({"perplexity": 3.0})}
    with style():
        figure, caption = latent_figure(SimpleNamespace(variants=variants))
    left, right = figure.axes
    assert [list(line.get_ydata()) for line in left.lines] == [[2.0, 1.0]]
    assert [list(line.get_ydata()) for line in right.lines] == [[0.1, 0.2], [0.3, 0.4]]
    assert np.abs(right.lines[0].get_xdata() - [0, 1]).max() < 0.5
    assert "(nats)" in left.get_ylabel()
    assert "mixture" in caption
    plt.close(figure)
    assert latent_figure(SimpleNamespace(variants={"codes": variants["codes"]})) is None
    with style():
        figure, caption = latent_figure(SimpleNamespace(variants={"mixture": variants["mixture"]}))
    assert len(figure.axes) == 1, "no empty panel where no KL is known by dimension"
    assert caption.startswith("Latents of validation data")
    plt.close(figure)


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
    assert text.count("<img") == 3
    for section in ("Figures", "Results", "Training", "Data", "Cite", "Provenance"):
        assert f"<h2>{section}</h2>" in text
    assert "@misc{sciencevae" in text
    assert re.search(r"torch==2\.\d+", text)


def test_a_collapsed_model_is_called_so_on_top_of_the_page(toy_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(toy_run, folder, symlinks=True)
    collapsed = LatentUse(0.01, [0.01], 0, 1, 0.02, [0.0], [1.0])
    used = LatentUse(2.5, [2.5], 1, 1, 7.1, [0.0], [1.0])

    def page(**uses: LatentUse) -> str:
        metrics = read_json(folder / "metrics.json")
        for name, use in uses.items():
            metrics["training"][name]["latents"] = use.to_json()
        write_json(folder / "metrics.json", metrics)
        write_report(Run(folder), Progress())
        return (folder / "report.html").read_text()

    text = page(main=used, wide=collapsed)
    (banner,) = re.findall(r'<p class="warning" role="alert">(.*?)</p>', text)
    assert "wide" in banner
    assert collapsed.describe() in banner
    assert "free_bits" in banner, "it says what to try"
    assert 0 < text.index(used.describe()) < text.index('id="figures"'), "the others' use is near the top too"
    assert "<h3>spread</h3>" in text
    analysed = read_json(folder / "state" / "analyse.json")
    analysed["notes"]["spread"], analysed["tables"]["spread"] = [], []
    write_json(folder / "state" / "analyse.json", analysed)
    write_json(folder / "metrics.json", read_json(folder / "metrics.json") | {"spread": {}})
    assert "<h3>spread</h3>" not in page(), "what found nothing has no heading"
    assert "warning" not in page(main=used, wide=used).split("</style>")[1]


def test_what_training_measured_stands_apart_from_the_prior_fitted_afterwards() -> None:
    use = LatentUse(1.2, None, 3, 8, 5.0, [0.0] * 8, [1.0] * 8).to_json()
    main = {
        "epochs": 2,
        "train_loss": 9.0,
        "valid_loss": 9.5,
        "valid_kl": 4.2,
        "valid_perplexity": 7.0,
        "latents": use,
    }
    plain = training_parts({"main": main})
    assert [len(rows) for _, rows in plain] == [5, 5]
    assert not any("anew" in title for title, _ in plain)

    refitted = training_parts(
        {
            "main": main,
            "mixture": main
            | {"refit": {"epochs": 1, "train_loss": 20.3, "valid_before": 22.0, "kept": "the fitted one"}},
        }
    )
    (before, own), (_, refit), (after, latents) = refitted
    assert "before the prior" in before
    assert own["KL, validation data (nats)"] == {"main": 4.2, "mixture": 4.2}
    assert "perplexity, validation data" in own
    cross_entropy = "cross-entropy −E_q[log p(z)]"
    assert refit[f"{cross_entropy}, training data (nats)"] == {"mixture": 20.3}
    assert refit[f"{cross_entropy} of the prior of training, validation data (nats)"] == {"mixture": 22.0}
    assert refit["prior that the model has"] == {"mixture": "the fitted one"}
    assert "of the final model" in after
    assert latents["KL (nats)"]["mixture"] == 1.2
    assert not any(isinstance(v, list) for row in latents.values() for v in row.values()), "lists are drawn"
