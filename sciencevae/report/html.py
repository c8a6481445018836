"""``report.html``: one file that opens anywhere, with figures, tables, citations and provenance inside."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sciencevae.data.atomic import atomic_path
from sciencevae.provenance import citations, run_record
from sciencevae.report.figures import (
    Drawing,
    Drawn,
    Mapped,
    Moving,
    latent_figure,
    save_figure,
    style,
    training_figure,
)
from sciencevae.report.tables import cell, grid, table_html, title, training_parts
from sciencevae.runs import read_json

if TYPE_CHECKING:
    from sciencevae.progress import Progress
    from sciencevae.runs import Run

__all__ = ["draw_figures", "write_report"]

#: on the page, so that letters are as large in every figure
PIXELS_PER_INCH = 128


def write_report(run: Run, progress: Progress) -> list[str]:
    """Draw the figures of a run and write its page; gives the figures' files, the domain's first."""
    figures = draw_figures(run, progress)
    page = _page(run, figures)
    with atomic_path(run.folder / "report.html") as partial:
        partial.write_text(page, encoding="utf-8")
    return [f"figures/{figure['name']}.{suffix}" for figure in figures for suffix in figure["suffixes"]]


def draw_figures(run: Run, progress: Progress) -> list[dict[str, Any]]:
    """Every figure of the domain, those of the latents' use and the training: name, caption and picture of each."""
    folder = run.folder / "figures"
    folder.mkdir(exist_ok=True)
    wanted: dict[str, Callable[[Run], Drawn | None]] = {
        **run.domain.figures,
        "latent_use": latent_figure,
        "training": training_figure,
    }
    drawn = []
    for done, (name, draw) in enumerate(wanted.items()):
        progress(done, len(wanted), name)
        with style():
            found = draw(run)
            if found is None:
                continue
            figure, caption = found
            spots: list[dict[str, Any]] = []
            films: Mapping[str, bytes] = {}
            if isinstance(figure, Mapped):
                spots, figure = _spots(figure), figure.figure
            if isinstance(figure, Moving):
                films, figure = figure.films, figure.figure
            inches = figure.width if isinstance(figure, Drawing) else figure.get_size_inches()[0]
            width = round(inches * PIXELS_PER_INCH)
            png, _ = save_figure(figure, folder, name)
        for suffix, film in films.items():
            with atomic_path(folder / f"{name}.{suffix}") as partial:
                partial.write_bytes(film)
        kind = "gif" if "gif" in films else "png"
        picture = base64.b64encode(films.get("gif") or png.read_bytes()).decode()
        drawn.append(
            {
                "name": name,
                "caption": caption,
                "picture": picture,
                "kind": kind,
                "width": width,
                "spots": spots,
                "suffixes": ["png", "svg", *films],
            }
        )
    for stale in folder.iterdir():
        if stale.stem not in {figure["name"] for figure in drawn}:
            stale.unlink()
    progress.say(f"{len(drawn)} figures in {folder.name}/")
    return drawn


def _spots(mapped: Mapped) -> list[dict[str, Any]]:
    """What the page shows where the pointer stands; places in percent."""
    return [
        {
            "places": [(f"{100 * x:.2f}", f"{100 * y:.2f}") for x, y in places],
            "text": text,
            "picture": base64.b64encode(picture.encode()).decode(),
        }
        for places, text, picture in zip(mapped.places, mapped.texts, mapped.pictures, strict=True)
    ]


def _page(run: Run, figures: list[dict[str, Any]]) -> str:
    import yaml
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sciencevae.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    metrics = run.metrics
    analysed = read_json(run.record("analyse"))
    about = run.domain.of(run)
    return environment.get_template("report.html.j2").render(
        run=run,
        heading=about.title,
        summary=about.summary,
        figures=figures,
        latents=_latent_use(metrics.get("training", {})),
        training=training_parts(metrics.get("training", {})),
        analyses=list(_analyses(run, metrics, analysed)),
        record=run_record(run),
        citations=list(citations(run)),
        settings=yaml.safe_dump(run.settings.dump(), sort_keys=False, allow_unicode=True),
        data=_data(run),
        cell=cell,
        title=title,
    )


def _latent_use(training: dict[str, Any]) -> list[tuple[str, bool, str]]:
    """(variant, collapsed, what training said of its latents), the collapsed ones first."""
    used = [(name, found["latents"]) for name, found in training.items()]
    rows = [(name, use["collapsed"], use["summary"]) for name, use in used]
    return sorted(rows, key=lambda row: not row[1])


def _analyses(run: Run, metrics: dict[str, Any], analysed: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What each analysis found, those that found something; a metric that a table has too is shown once."""
    for name in run.domain.analyses:
        frames = {table: run.table(table) for table in analysed.get("tables", {}).get(name, [])}
        titles = analysed.get("titles", {}).get(name, {})
        found = {
            "grids": grid(metrics.get(name, {}), list(frames.values())),
            "notes": analysed.get("notes", {}).get(name, []),
            "tables": [
                (table, len(frame), table_html(frame, titles=titles)) for table, frame in frames.items()
            ],
        }
        if any(found.values()):
            yield {"name": name, "titles": titles, **found}


def _data(run: Run) -> list[dict[str, Any]]:
    """What each variant was trained on."""
    rows = []
    for name, variant in run.variants.items():
        data = variant.data
        splits = data["split"].values
        rows.append(
            {
                "variant": name,
                "dataset": run.input.name if run.input else variant.settings.dataset,
                "samples": data.sizes["sample"],
                "train, valid, test": [int((splits == part).sum()) for part in range(3)],
                "fields": [
                    f"{v} {data[v].shape[1:]} {data[v].attrs.get('units', '')}".strip()
                    for v in data.data_vars
                ],
                "fingerprint": str(data.attrs.get("fingerprint", ""))[:12],
                "refused": _refused(data.attrs),
            }
        )
    if not any(row["refused"] for row in rows):
        for row in rows:
            del row["refused"]
    return rows


def _refused(attrs: Mapping[str, Any]) -> str:
    """How many rows a domain could not use, and why, as its ``prepare`` wrote it down."""
    reasons = json.loads(attrs.get("refused_reasons", "{}"))
    told = ", ".join(f"{count} {reason}" for reason, count in reasons.items())
    return f"{attrs['refused']}: {told}" if attrs.get("refused") else ""
