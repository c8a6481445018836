"""Puts a run's model into the package: the weights, their model card, and what a test holds them to.

    python -m benchmarks.pretrained RUN NAME

Writes domains/DOMAIN/weights/NAME.safetensors and NAME.md, and the training's NAME.history.csv. Of molecules also,
for the test of the weights, NAME.csv: the latents of the first 100 test data, as ``sciencevae encode`` gives them;
and its numbers are kept in benchmarks/results/DOMAIN.json, from which ``python -m benchmarks.tables`` writes the
table of its README.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from benchmarks.tables import rows
from benchmarks.turns import HERE, keep

#: bytes of a model that comes with the package, at most
LARGEST = 8_000_000
GOLDEN = 100


class Kind(NamedTuple):
    """What a card says of the models of one domain."""

    on: str
    tables: tuple[str, ...]
    packages: tuple[str, ...]
    limits: Callable[[Any], str]


def publish(folder: Path, name: str) -> Path:
    """Copy the model of a run and write its card; gives the card."""
    from sciencevae.runs import Run

    run = Run(folder)
    source = run.main.model_path
    if source.stat().st_size > LARGEST:
        raise SystemExit(f"{source} has {source.stat().st_size} bytes; in the package are {LARGEST} at most")
    place = HERE.parent / "domains" / run.domain.name / "weights"
    place.mkdir(exist_ok=True)
    shutil.copyfile(source, place / f"{name}.safetensors")
    shutil.copyfile(run.main.folder / "history.csv", place / f"{name}.history.csv")
    (place / f"{name}.md").write_text(card(run, name))
    if run.domain.name == "molecules":
        golden(run).to_csv(place / f"{name}.csv", index=False)
        kept = HERE / "results" / f"{run.domain.name}.json"
        table = json.loads(kept.read_text())["table"] if kept.exists() else {}
        keep(run.domain.name, {"table": table | {name: measured(run)}})
    return place / f"{name}.md"


def measured(run: Any) -> dict[str, Any]:
    """The numbers of a run, for ``benchmarks.tables``."""
    training = run.metrics["training"]["main"]
    return {
        **{name: run.metrics[name]["main"] for name in ("reconstruction", "generation")},
        **{
            name: run.table(name).drop(columns="model").to_dict("records")
            for name in ("prediction", "conditional", "transfer")
            if run.metrics.get(name)
        },
        "optimisation": run.metrics.get("optimisation", {}),
        "hours": training["seconds"] / 3600,
        "epochs": training["epochs"],
    }


def golden(run: Any) -> pd.DataFrame:
    """The first test data and their latents."""
    from sciencevae.data.splits import split_rows

    latents = run.main.latents
    chosen = latents.isel(sample=split_rows(latents, "test")[:GOLDEN])
    z = chosen["z"].values.round(5)
    return pd.DataFrame({"smiles": chosen["smiles"].values, **{f"z_{i}": z[:, i] for i in range(z.shape[1])}})


def card(run: Any, name: str) -> str:
    """The model card, in Markdown: what it is, how it was made, what was measured, what it is not for."""
    from sciencevae.data.manifest import load_manifest
    from sciencevae.provenance import file_hash, run_record

    kind, model, record = KINDS[run.domain.name], run.main.model(), run_record(run)
    data, training = run.main.data, run.metrics["training"]["main"]
    manifest = load_manifest(run.main.settings.dataset)
    splits = [int((data["split"].values == part).sum()) for part in range(3)]
    facts = {
        "model": f"`{run.domain.name}-{name}`, {sum(p.numel() for p in model.parameters()):,} parameters",
        "file": f"`{name}.safetensors`, {run.main.model_path.stat().st_size:,} bytes",
        "SHA-256": f"`{file_hash(run.main.model_path)}`",
        "licence": "Apache-2.0, as the package",
        "data": f"{manifest.title}; {splits[0]:,} for training, {splits[1]:,} for validation, {splits[2]:,} "
        "for testing",
        "licence of the data": f"{manifest.license}. {manifest.license_note or ''}".strip(),
        "made by": f"`sciencevae run {run.domain.name} --config {name} --out RUN`, then "
        f"`python -m benchmarks.pretrained RUN {name}`; its history: `{name}.history.csv`",
        "training": f"{training['epochs']} epochs, {training['steps']:,} steps, {training['seconds'] / 3600:.2f} "
        f"h on a CPU that others used, too; seed {run.main.settings.seed}",
        "prior": f"refitted in {training['refit']['seconds'] / 60:.1f} min"
        if "refit" in training
        else "standard",
        "versions": ", ".join(f"{key} {record['versions'][key]}" for key in kind.packages),
    }
    parts = [
        f"# {run.domain.name}-{name}\n",
        rows("| | |", (f"| {key} | {value} |" for key, value in facts.items())),
        f"\n## Measured, on {kind.on} it was not trained on, one seed\n",
        *(
            f"{_table(run.table(table))}\n"
            for table in kind.tables
            if (run.folder / "tables" / f"{table}.csv").exists()
        ),
        "The columns are explained in the domain's README.\n",
        "## What it reads and what it is not for\n",
        kind.limits(data),
    ]
    return "\n".join(parts)


def _molecules(data: Any) -> str:
    tokens, trained = data.attrs["alphabet"], data.attrs["trained_tokens"]
    listed = " ".join(f"`{token}`" for token in tokens[:trained])
    return (
        f"Molecules of at most {data['tokens'].shape[1] - 1} tokens of SELFIES out of these: {listed}. "
        f"{len(tokens) - trained} more are read that no training molecule has (`encode` names them in the column "
        "`note`): what comes back is a guess. Its column `beyond` is the share of validation molecules that are "
        "likelier under the model: near 1 it has seen few of the kind. Properties "
        "are predictions of the model, not measurements, and hold for molecules like these. It says nothing of "
        "toxicity, synthesis or activity, and is no substitute for a test.\n"
    )


def _faces(data: Any) -> str:
    return (
        f"Faces of adults from the front, cut out at {data.sizes['row']} pixels; `sciencevae edit` finds them in a "
        "photo and deforms that at its own resolution. Pixels move, none are made: a mouth does not open. The "
        "people of the photographs consented to research and teaching. It is not for recognising or profiling "
        "anyone, nor for a picture of a real person that others may take for real without that person's consent: "
        "edit pictures of yourself, or of people who agreed, and say that they are edited. Nothing was measured "
        "for children, for faces seen from the side, or for people whom 102 adults in a studio in London are not "
        "like.\n"
    )


def _table(table: pd.DataFrame) -> str:
    def shown(value: Any) -> str:
        if isinstance(value, (int, np.integer)):
            return f"{value:,}"
        return f"{value:.4g}" if isinstance(value, float) else str(value)

    kept = table[table.model == "main"].drop(columns="model") if "model" in table else table
    if len(kept) == 1:
        return rows("| | |", (f"| {key} | {shown(value)} |" for key, value in kept.iloc[0].items()))
    header = "| " + " | ".join(kept.columns) + " |"
    return rows(header, ("| " + " | ".join(map(shown, row)) + " |" for row in kept.itertuples(index=False)))


KINDS = {
    "molecules": Kind(
        "molecules",
        ("reconstruction", "generation", "prediction", "conditional", "transfer"),
        ("sciencevae", "torch", "rdkit"),
        _molecules,
    ),
    "faces": Kind("people", ("edits", "folds"), ("sciencevae", "torch"), _faces),
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("name")
    given = parser.parse_args()
    print(publish(given.run, given.name))
