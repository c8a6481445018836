"""The shared core: training, priors, encoding, reading."""

from __future__ import annotations

from benchmarks.tables import TIME, Result, rate, rows


def training_step(result: Result) -> str:
    """One table a problem and number of threads."""
    from benchmarks.training_step import PROBLEMS

    tables = []
    for table in result["tables"]:
        threads = table["threads"]
        title = f"{PROBLEMS[table['problem']]}; {threads} thread{'s'[: threads - 1]}, {TIME[table['time']]}, "
        title += f"load {table['load']}"
        lines = [
            f"| {name} | {rate(row['steps_per_second'])} | {row['time_ratio']:.2f} ({row['smallest']:.2f}–"
            f"{row['largest']:.2f}) | {row['target'] or ''} | {row['start_up_seconds']:.0f} s |"
            for name, row in table["programs"].items()
        ]
        tables.append(rows(f"| {title} | steps/s | time of a step, ours = 1 | target | start-up |", lines))
    return "\n\n".join(tables)


def priors(result: Result) -> str:
    """One table for training and one for sampling."""
    from benchmarks.priors import TITLES

    tables = []
    for title, table in result["tables"].items():
        lines = []
        for prior, row in table["rows"].items():
            cells = [
                f"{found['images_per_second']:,} | {found['time_ratio']:.2f} ({found['smallest']:.2f}–"
                f"{found['largest']:.2f})"
                for found in row.values()
            ]
            lines.append(f"| {TITLES[prior]} | {' | '.join(cells)} |" + " | |" * (len(cells) == 1))
        header = f"| {title}, load {table['load']} | images/s | time, N(0, 1) = 1 "
        tables.append(rows(header + "| Pythae, images/s | its time, ours = 1 |", lines))
    return "\n\n".join(tables)


def encode(result: Result) -> str:
    """Rows a second and memory."""
    header = (
        f"| | threads | data | rows / CPU-second | rows / s | extra memory (≤ {result['limit_mib']} MiB) |"
    )
    return rows(
        header,
        (
            f"| {r['case']} | {r['threads']} | {r['data_mb']:,} MB "
            f"| {r['rows_per_cpu_second']:,} ({r['smallest']:,}–{r['largest']:,}) "
            f"| {r['rows_per_second']:,} | {r['extra_mib']} MiB |"
            for r in result["table"]
        ),
    )


def imports(result: Result) -> str:
    """Seconds of new processes."""
    return rows(
        "| | seconds | of which processor | limit |",
        (
            f"| {name} | {r['seconds']:.2f} ({r['smallest']:.2f}–{r['largest']:.2f}) "
            f"| {r['processor_seconds']:.2f} | {r['limit'] or ''} |"
            for name, r in result["table"].items()
        ),
    )


def loader(result: Result) -> str:
    """Samples a second."""
    from statistics import median

    wall, cpu = (
        {name: median(pair[i] for pair in found) for name, found in result["samples_per_second"].items()}
        for i in (0, 1)
    )
    ours = "sciencevae"
    return rows(
        "| 64×64 fields, batches of 256 | samples/s | ours is | samples / CPU-second | ours is |",
        (
            f"| {name} | {wall[name]:,.0f} | {wall[ours] / wall[name]:.1f}× "
            f"| {cpu[name]:,.0f} | {cpu[ours] / cpu[name]:.1f}× |"
            for name in wall
        ),
    )


def parts(result: Result) -> str:
    """What compiling and vectorising gain, by part."""

    def line(row: Result) -> str:
        eager, one, four = row["eager"], row["compiled"], row["ensemble"]
        gain = f"{eager / one:.1f}×" if one else "no"
        together = f"{four / one:.1f}" if one and four else "no"
        return f"| {row['part']} | {row['name']} | {1e6 * eager:,.0f} µs | {gain} | {together} |"

    header = "| part | | uncompiled step | compiled, faster by | 4 seeds as one, in compiled steps of one |"
    return rows(header, map(line, result["table"]))


def evidence(result: Result) -> str:
    """What importance sampling falls short of annealing."""
    lines = []
    for task, row in result["table"].items():
        first = f"| {task}, {row['rows']} images | {row['minus_log_p']:.2f}, {row['annealed_seconds']:.0f} s"
        lines += [
            f"{first} | {int(draws):,} | {short['nats']:.3f} ± {short['error']:.3f} | {short['trusted']:.0%} "
            f"| {short['seconds']:.1f} s |"
            for draws, short in row["shortfall"].items()
        ]
    return rows("| | −log p(x), annealed | draws | fall short by, nats | trusted | time |", lines)
