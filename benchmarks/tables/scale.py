"""What takes much: memory, ranks, faults, jobs."""

from __future__ import annotations

from benchmarks.tables import Result, line, rows


def memory(result: Result, what: str = "fields") -> str:
    """The largest memory of each stage on data larger than that."""
    return rows(
        f"| {result['gib']:.1f} GiB of {what}, one thread | seconds | largest memory, GiB (≤ 2) |",
        (f"| {name} | {row['seconds']:.0f} | {row['gib']:.2f} |" for name, row in result["stages"].items()),
    )


def ranks(result: Result) -> str:
    """Steps a second on one rank and on two."""
    from statistics import median

    setups = ("1 rank", "2 ranks", "1 rank, 2 threads")
    lines = []
    for name in ("dense", "convolutional"):
        found = result[name]
        cells = [f"{median(found[s]):.1f} ({min(found[s]):.1f}–{max(found[s]):.1f})" for s in setups]
        ratio = median(found["2 ranks"]) / median(found["1 rank"])
        lines.append(f"| {name} | {' | '.join(cells)} | {ratio:.2f}× |")
    return rows(f"| steps a second | {' | '.join(setups)} | 2 ranks / 1 rank |", lines)


def kills(result: Result) -> str:
    """What was killed, and what came of it."""
    lines = [
        f"| {by.removeprefix('by ')} | {', '.join(f'{name} {count}' for name, count in result[by].items())} |"
        for by in ("by target", "by stage")
    ]
    lines.append(f"| wrong | {len(result['wrong'])} |")
    return rows(f"| {result['kills']} kills | over {result['pipelines']} pipelines |", lines)


def soak(result: Result) -> str:
    """Faults injected, survived and lost, by kind."""
    from benchmarks.soak import by_kind

    found = by_kind(result["faults"])
    counts = [sum(row[column] for row in found if isinstance(row[column], int)) for column in (1, 2, 3)]
    pipelines = sum(result["pipelines"].values())
    return rows(
        f"| {pipelines} pipelines in {result['minutes']:.0f} minutes | injected | survived | lost | at stage |",
        [
            *(f"| {' | '.join(map(str, row))} |" for row in found),
            f"| all | {' | '.join(map(str, counts))} | |",
        ],
    )


def jobs(result: Result) -> str:
    """What the workflow takes for each job, in groups, and to plan many."""
    cost = rows("| | seconds a job |", (f"| {name} | {s:g} |" for name, s in result["a job, s"].items()))
    groups = rows(
        "| jobs in one of Slurm | jobs of Slurm | seconds |",
        (
            f"| {size} | {row['slurm_jobs']} | {row['seconds']:.0f} |"
            for size, row in result["groups"].items()
        ),
    )
    plan = rows(
        "| variants | jobs | configured in, s | planned in, s | peak memory, MB "
        "| planned in groups of 100, s | peak memory, MB |",
        (
            f"| {int(name):,} | {row['jobs']:,} | {row['configuring']} | {row['seconds']} | {row['peak_mb']:,} "
            f"| {row['grouped_seconds']} | {row['grouped_peak_mb']:,} |"
            for name, row in result["planning"].items()
        ),
    )
    return f"{cost}\n\n{groups}\n\n{plan}"


def planning(result: Result) -> str:
    """What each domain costs at scale, and the measured costs it is drawn on from."""
    from benchmarks.planning import PLANS, STAGES, fitted, per_datum, told

    header = "| | data | processor (longest stage) | largest memory | disk | carried by |"
    scale = [line(*row) for name, found in result["domains"].items() for row in told(name, found)]
    each = []
    for name, found in result["domains"].items():
        counts = [run["rows"] for run in found["runs"]]
        cells = {which: per_datum(of) for which, of in fitted(found)["stages"].items()}
        told_of = f"{name}, {min(counts):,}–{max(counts):,} {PLANS[name].unit}"
        each.append(line(told_of, *(cells.get(which, "") for which in STAGES)))
    return f"{rows(line('', *STAGES), each)}\n\n{rows(header, scale)}"
