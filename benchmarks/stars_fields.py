"""Members of clusters in Gaia fields by every method, against published members; all get the same stars.

    python -m benchmarks.stars_fields OUT [--methods NAME …] [--fields NAME …] [--seeds 0 1 …] [--processes 2]
    python -m benchmarks.stars_fields --timing NGC3293 10000 …   # the same methods, one after another
    python -m benchmarks.stars_fields --table

The peers need ``benchmarks/peers/setup-stars``. The fields (``--data``, default ``$SCIENCEVAE_MIRROR/stars``) are
NAME.parquet with Gaia's columns, NAME.members.parquet (source_id, probability) and, from other catalogues,
NAME.members_alt.parquet. What OUT already holds isn't computed again. ``--timing`` takes names of fields and
numbers of stars: a deep field with copies of it beside it, without its cluster, that have so many together. Results
are kept in benchmarks/results/stars_fields.json.

Every method is a program of its own with one thread (``--threads``), told the stars with finite parallax, proper
motion and errors; its seconds hold its start. A star that a method doesn't return has p = 0. Scores are average
precision, and precision, recall and F1 at p ≥ 0.5, three times: of the cluster that the method names ``first``; of
that of its clusters with the ``best`` average precision, which takes labels to know; and of being in ``any`` of
them. Where nothing is returned, AP is the share of members. Published members are algorithms' output: ``bounds`` is
the F1 of one catalogue against another.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sciencevae.builtin.stars.injection import null_field
from sklearn.metrics import average_precision_score

from benchmarks.stars_split import CHOSEN_ON, SCORED_ONLY
from benchmarks.tables import line
from benchmarks.turns import HERE, keep, measured_now

PEER = HERE.parent / ".venv-stars" / "bin" / "python"
TITLES = {
    "gmm2": "Gaussian mixture, 2 components",
    "gmm15": "Gaussian mixture, 15 components",
    "hdbscan": "HDBSCAN",
    "pyupmask": "pyUPMASK",
    "fastmp": "fastMP",
    "fastmp-centred": "fastMP, told the centre",
    "ours": "sciencevae",
    "members": "sciencevae, `find_members`",
}
OURS = {"ours": "benchmarks.stars_ours", "members": "benchmarks.stars_members"}
EMPTY = "nocluster_ra45_dec0"
NAMED = ("NGC2423", "Berkeley_29_deep", "Berkeley_73_deep", "Saurer_1_deep")
TILE = "Berkeley_73_deep"  # 0.09 deg², to G = 21
HALVES = {
    "all fields": (*CHOSEN_ON, *SCORED_ONLY),
    "fields that settings were chosen on": CHOSEN_ON,
    "fields only scored": SCORED_ONLY,
}
READINGS = ("first", "best", "any")
MEASURED = ["parallax", "pmra", "pmdec", "parallax_error", "pmra_error", "pmdec_error"]
RESULT = HERE / "results" / "stars_fields.json"
KEPT = ("rows", "bounds", "peers", "timing")
Row = dict[str, Any]


def read_field(folder: Path, name: str) -> pd.DataFrame:
    """The stars that every method gets, in the file's order."""
    frame = pd.read_parquet(folder / f"{name}.parquet")
    return frame.loc[np.isfinite(frame[MEASURED].to_numpy()).all(axis=1)].reset_index(drop=True)


def published(folder: Path, name: str) -> np.ndarray:
    """source_id of the members."""
    return pd.read_parquet(folder / f"{name}.members.parquet")["source_id"].to_numpy()


def side_by_side(folder: Path, count: int, seed: int = 0) -> pd.DataFrame:
    """``count`` stars as dense as a deep field: that field, and beside it copies without its cluster.

    A copy is a ``null_field`` of it: its stars resampled without the published members and what is left of the
    cluster beside them.
    """
    frame = read_field(folder, TILE)
    members = frame["source_id"].isin(published(folder, TILE)).to_numpy()
    copies = max(0, -(-(count - len(frame)) // int((~members).sum())))
    side = int(np.ceil(np.sqrt(copies + 1)))
    parts = [frame]
    for number in range(1, copies + 1):
        part = null_field(frame, members, seed + number)
        for name, step in zip(("ra", "dec"), divmod(number, side), strict=True):
            part[name] += step * np.ptp(frame[name])
        parts.append(part)
    found = pd.concat(parts, ignore_index=True).iloc[:count]
    return found.assign(source_id=np.arange(1, len(found) + 1))


def run(method: str, frame: pd.DataFrame, seed: int, found: Path, threads: int = 1) -> Row:
    """One method on one field, its answer to ``found``; its seconds."""
    if method in OURS:
        command = [sys.executable, "-m", OURS[method]]
    elif PEER.exists():
        command = [str(PEER), str(HERE / "stars_peers.py"), method]
    else:
        raise SystemExit("the peers' environment is missing: run benchmarks/peers/setup-stars")
    found.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        field, answer, log = (Path(name) / file for file in ("field.parquet", "answer.parquet", "log"))
        frame.to_parquet(field, index=False)
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
        begin = time.perf_counter()
        with log.open("w") as file:
            process = subprocess.Popen(
                [*command, str(field), str(answer), str(seed)],
                env=environment,
                cwd=HERE.parent,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
            _, status, usage = os.wait4(process.pid, 0)  # with what it started, and of no other program
        wall = time.perf_counter() - begin
        if status:
            raise RuntimeError("\n".join(log.read_text().strip().splitlines()[-3:]))
        pd.read_parquet(answer).to_parquet(found, index=False)
    cpu = usage.ru_utime + usage.ru_stime
    return {"stars": len(frame), "wall_s": round(wall, 1), "cpu_s": round(cpu, 1)}


def measured(member: np.ndarray, probability: np.ndarray) -> Row:
    """Scores of one cluster's p (N,) against the published members (N,) bool."""
    chosen = probability >= 0.5
    right = int((chosen & member).sum())
    return {
        "AP": round(float(average_precision_score(member, probability)), 4),
        "F1": round(2 * right / max(int(chosen.sum() + member.sum()), 1), 4),
        "precision": round(right / max(int(chosen.sum()), 1), 4),
        "recall": round(right / max(int(member.sum()), 1), 4),
    }


def scores(stars: pd.DataFrame, members: np.ndarray, found: pd.DataFrame) -> Row:
    """Of the first cluster in the table, the best, and any; of an empty field only how many stars it claims."""
    names = pd.unique(found["cluster"])
    columns = found.pivot(index="source_id", columns="cluster", values="probability")
    columns = columns.reindex(index=stars["source_id"], columns=names).fillna(0.0)
    p = columns.to_numpy() if len(names) else np.zeros((len(stars), 1))
    row: Row = {"clusters": len(names), "claimed": int((p >= 0.5).any(axis=1).sum())}
    if not len(members):
        return row
    member = stars["source_id"].isin(members).to_numpy()
    each = [measured(member, column) for column in p.T]
    combined = measured(member, p.sum(axis=1).clip(max=1))
    return row | {"first": each[0], "best": max(each, key=lambda one: one["AP"]), "any": combined}


def bounds(folder: Path, name: str) -> dict[str, float]:
    """F1 of the members against those of the same cluster in other catalogues."""
    path = folder / f"{name}.members_alt.parquet"
    if not path.exists():
        return {}
    first = set(published(folder, name))
    found = {}
    for (catalogue, _), rows in pd.read_parquet(path).groupby(["catalogue", "cluster"]):
        other = set(rows["source_id"])
        if shared := len(first & other):  # a neighbouring cluster shares none
            found[str(catalogue)] = round(2 * shared / (len(first) + len(other)), 4)
    return found


def read_lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def fill(out: Path, data: Path, plan: Iterable[tuple[str, str, int]], processes: int) -> None:
    """Run what ``out`` hasn't got; one line of ``out/runs.jsonl`` and one Parquet file each."""
    lines, lock = out / "runs.jsonl", threading.Lock()
    known = {(row["method"], row["field"], row["seed"]) for row in read_lines(lines)}

    def one(task: tuple[str, str, int]) -> None:
        method, field, seed = task
        try:
            row = run(method, read_field(data, field), seed, answer(out, *task))
        except RuntimeError as error:
            print(f"{method} failed on {field}, seed {seed}: {error}", file=sys.stderr, flush=True)
            return
        with lock, lines.open("a") as file:
            file.write(json.dumps({"method": method, "field": field, "seed": seed, **row}) + "\n")
        print(method, field, seed, row, flush=True)

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(one, (task for task in plan if task not in known)))


def answer(out: Path, method: str, field: str, seed: int) -> Path:
    return out / method / f"{field}-{seed}.parquet"


def collect(out: Path, data: Path) -> Row:
    """Scores of all that ``out`` holds."""
    rows = []
    for row in read_lines(out / "runs.jsonl"):
        field = row["field"]
        found = pd.read_parquet(answer(out, row["method"], field, row["seed"]))
        rows.append(row | scores(read_field(data, field), published(data, field), found))
    fields = sorted({row["field"] for row in rows})
    return {"rows": rows, "bounds": {field: bounds(data, field) for field in fields}, "peers": versions()}


def versions() -> dict[str, str]:
    """Of the peers' packages, and the commit of pyUPMASK."""
    names = ("asteca", "scikit-learn", "numpy", "scipy", "astropy")
    code = f"from importlib.metadata import version; print(*map(version, {names}))"
    found = subprocess.run([PEER, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    folder = PEER.parents[1] / "pyUPMASK"
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
    )
    return {**dict(zip(names, found, strict=True)), "pyUPMASK": commit.stdout.strip()}


def timing(data: Path, methods: Sequence[str], fields: Sequence[str], threads: int, seed: int) -> list[Row]:
    """Methods one after another on each field (a name, or a number of stars)."""
    rows = []
    for field in fields:
        frame = side_by_side(data, int(field)) if field.isdigit() else read_field(data, field)
        for method in methods:
            with tempfile.TemporaryDirectory() as folder:
                row = run(method, frame, seed, Path(folder) / "found.parquet", threads)
            rows.append({"method": method, "field": field, "threads": threads, **row, **measured_now()})
            print(rows[-1], flush=True)
    return rows


def summary(result: Row) -> str:
    """Markdown: scores of the first cluster by half; other readings, named fields and seconds; the timing."""
    parts = [_by_half(result, title, fields) for title, fields in HALVES.items()]
    parts.append(_by_method(result))
    if result.get("timing"):
        parts.append(
            table(
                ["field", "stars", "method", "threads", "s processor", "s wall"],
                (
                    [row["field"], f"{row['stars']:,}", TITLES[row["method"]], str(row["threads"])]
                    + [f"{row[kind]:.1f}" for kind in ("cpu_s", "wall_s")]
                    for row in result["timing"]
                ),
            )
        )
    return "\n\n".join(parts)


def _by_half(result: Row, title: str, fields: Sequence[str]) -> str:
    rows = []
    for method in TITLES:
        found = _scores(result, method, fields)
        if not len(found):
            continue
        mean = found.groupby("field").mean(numeric_only=True)
        worst = found.iloc[int(found["F1"].argmin())]
        cells = [mean["AP"].mean(), mean["AP"].median(), found["AP"].min(), mean["F1"].mean()]
        cells += [mean["F1"].median(), worst["F1"], mean["precision"].mean(), mean["recall"].mean()]
        told = [f"{cell:.3f}" for cell in cells]
        told[5] += f" {worst['field']}"
        rows.append([TITLES[method], *told, f"{len(mean)}, {found['seed'].nunique()}"])
    agreed = [f1 for field in fields for f1 in result["bounds"].get(field, {}).values()]
    if agreed:
        told = [f"{cell:.3f}" for cell in (np.mean(agreed), np.median(agreed), min(agreed))]
        rows.append(["one catalogue against another", "", "", "", *told, "", "", str(len(agreed))])
    header = [title, "AP mean", "median", "worst", "F1 mean", "median", "worst", "precision", "recall"]
    return table([*header, "fields, seeds"], rows)


def _by_method(result: Row) -> str:
    rows = []
    for method in TITLES:
        mine = [row for row in result["rows"] if row["method"] == method]
        if not mine:
            continue
        f1 = [_scores(result, method, HALVES["all fields"], which)["F1"].mean() for which in READINGS]
        f1 += [_scores(result, method, (field,))["F1"].mean() for field in NAMED]
        empty = [row["claimed"] > 0 for row in mine if row["field"] == EMPTY]
        seconds = [f"{np.median([row[kind] for row in mine]):.1f}" for kind in ("cpu_s", "wall_s")]
        alarms = f"{sum(empty)} of {len(empty)}" if empty else ""
        rows.append([TITLES[method], *(f"{value:.3f}" for value in f1), alarms, *seconds])
    header = ["F1 mean", *READINGS, *NAMED, "false alarm in the empty field", "s processor, median"]
    return table([*header, "s wall, median"], rows)


def _scores(result: Row, method: str, fields: Sequence[str], which: str = "first") -> pd.DataFrame:
    found = [
        {"field": row["field"], "seed": row["seed"], **row[which]}
        for row in result["rows"]
        if row["method"] == method and row["field"] in fields and which in row
    ]
    return pd.DataFrame(found, columns=["field", "seed", "AP", "F1", "precision", "recall"])


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [line(*header), "|---" * len(header) + "|"]
    return "\n".join([*lines, *(line(*row) for row in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, nargs="?", help="folder of what is computed")
    parser.add_argument("--methods", nargs="+", choices=TITLES, default=list(TITLES))
    parser.add_argument("--fields", nargs="+", default=HALVES["all fields"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1, help="of each program, with --timing")
    parser.add_argument(
        "--timing", nargs="+", metavar="FIELD", help="only: seconds on fields or numbers of stars"
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SCIENCEVAE_MIRROR", ".")) / "stars")
    parser.add_argument("--table", action="store_true", help="only print the table of the last result")
    arguments = parser.parse_args()
    if not arguments.table:
        if arguments.timing:
            new = timing(
                arguments.data, arguments.methods, arguments.timing, arguments.threads, arguments.seeds[0]
            )
            mine = {(row["method"], row["field"], row["threads"]) for row in new}
            old = [
                row
                for row in last().get("timing", [])
                if (row["method"], row["field"], row["threads"]) not in mine
            ]
            found: Row = {"timing": old + new}
        elif arguments.out is None:
            parser.error("OUT is needed: the folder of what is computed")
        else:
            arguments.out.mkdir(parents=True, exist_ok=True)
            plan = [(m, f, s) for m in arguments.methods for s in arguments.seeds for f in arguments.fields]
            fill(arguments.out, arguments.data, plan, arguments.processes)
            found = collect(arguments.out, arguments.data)
        keep(RESULT.stem, {name: last()[name] for name in KEPT if name in last()} | found)
    print(summary(last()))


def last() -> Row:
    """What the last run kept."""
    return dict(json.loads(RESULT.read_text())) if RESULT.exists() else {"rows": [], "bounds": {}}


if __name__ == "__main__":
    main()
