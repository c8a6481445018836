"""Write the kept results into the READMEs, so that no number there is typed by hand.

python -m benchmarks.tables
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.tables import Result
from benchmarks.tables.core import encode, evidence, imports, loader, parts, priors, training_step
from benchmarks.tables.fluids import fluids_cavity, fluids_smoke, fluids_solvers
from benchmarks.tables.molecules import (
    molecules,
    molecules_encoder,
    molecules_prepare,
    molecules_priors,
    moses_curve,
    moses_draws,
    moses_golden,
    moses_rate,
)
from benchmarks.tables.pictures import digits, faces, objects
from benchmarks.tables.scale import jobs, kills, memory, planning, ranks, soak
from benchmarks.tables.stars import stars_fields, stars_latents, stars_recovery
from benchmarks.turns import HERE

MOLECULES: dict[str, Callable[[Result], str]] = {
    "molecules": molecules, "moses_rate": moses_rate, "moses_golden": moses_golden,
    "moses_curve": moses_curve, "moses_draws": moses_draws,
    "molecules_priors": molecules_priors, "molecules_encoder": molecules_encoder,
    "molecules_prepare": molecules_prepare,
}  # fmt: skip


TABLES: dict[str, Callable[[Result], str]] = {
    "training_step": training_step, "priors": priors, "parts": parts, "loader": loader, "encode": encode,
    "imports": imports, "digits": digits, "faces": faces, "objects": objects,
    "evidence": evidence, "stars_fields": stars_fields,
    "stars_recovery": stars_recovery, "stars_latents": stars_latents,
    "fluids_cavity": fluids_cavity,
    "fluids_solvers": fluids_solvers, "fluids_smoke": fluids_smoke,
    "memory": memory, "memory_table": partial(memory, what="a table (Parquet)"),
    "ranks": ranks, "kills": kills, "soak": soak, "jobs": jobs,
    "planning": planning,
}  # fmt: skip


def main() -> None:
    """Replace what stands between the markers of each result that is kept."""
    write(HERE / "README.md", TABLES)
    write(HERE.parent / "domains" / "digits" / "README.md", {"digits": digits})
    write(HERE.parent / "domains" / "faces" / "README.md", {"faces": faces})
    write(HERE.parent / "domains" / "objects" / "README.md", {"objects": objects})
    write(HERE.parent / "domains" / "molecules" / "README.md", MOLECULES)


def write(readme: Path, tables: dict[str, Callable[[Result], str]]) -> None:
    """The tables into one file."""
    text = readme.read_text()
    for name, table in tables.items():
        path = HERE / "results" / f"{name}.json"
        if not path.exists():
            continue
        result = json.loads(path.read_text())
        where = ", ".join(f"{k} {result[k]}" for k in ("date", "cores", "load") if k in result)
        told = f"{table(result)}\n\n({where})" if where else table(result)
        body = f"<!-- {name} -->\n{told}\n<!-- /{name} -->"
        pattern = re.compile(f"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
        text = pattern.sub(body.replace("\\", r"\\"), text)
    readme.write_text(text)


if __name__ == "__main__":
    main()
