"""Write the kept results into ``benchmarks/README.md``, so that no number there is typed by hand.

python -m benchmarks.tables
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.turns import HERE

Result = dict[str, Any]


def rows(header: str, lines: Iterable[str]) -> str:
    """A Markdown table."""
    return "\n".join([header, re.sub(r"[^|]+", "---", header), *lines])


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


def rate(value: float) -> str:
    """Small ones with a decimal."""
    return f"{value:,.{1 if value < 20 else 0}f}"


TIME = {"cpu": "processor time", "wall": "wall time"}


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


def digits(result: Result) -> str:
    """Quality on images, over seeds."""
    from statistics import median

    lines = [
        f"| {task} | {name} | {median(values):.3f} | {min(values):.3f}–{max(values):.3f} ({len(values)}) "
        f"| {max(found['core_minutes']):.1f} | {found['published']} |"
        for task, found in result["table"].items()
        for name, values in found["rows"].items()
    ]
    return rows("| configuration | | median | range (seeds) | core-minutes a training | others |", lines)


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


#: what was asked for, and what others published: Gómez-Bombarelli et al. 2018 and later papers of one table
ASKED = {
    "qm9": {
        "exact_drawn": "≥ 90 % in 2 h",
        "HOMO": "≤ 0.16 (published 0.16)",
        "LUMO": "≤ 0.16 (published 0.16)",
        "gap": "≤ 0.16 (published 0.21)",
    },
    "zinc": {
        "exact_drawn": "CVAE 44.6 %, GVAE 53.7 %, SD-VAE 76.2 %, JT-VAE 76.7 %",
        "logP": "≤ 0.10 (published 0.15)",
        "QED": "≤ 0.03 (published 0.054)",
    },
}


def molecules(result: Result) -> str:
    """What the models that come with the package reach on test molecules; see ``benchmarks.pretrained``."""
    lines = []
    for name, found in result["table"].items():
        back, new, asked = found["reconstruction"], found["generation"], ASKED.get(name, {})
        shares = {
            "exact": "come back by the posterior mean, greedy",
            "exact_flat": "the same without stereochemistry",
            "exact_drawn": "come back by 10 encodings × 10 decodings, both drawn",
            "other": "come back from another molecule's latent",
        }
        errors = {key: f" ± {back[f'{key}_error']:.1%}" for key in ("exact", "exact_drawn")}
        lines += [
            f"| {name} | {told} | {back[key]:.1%}{errors.get(key, '')} | {asked.get(key, '')} |"
            for key, told in shares.items()
        ]
        lines.append(f"| | KL, active latents | {back['kl']:.1f} nats, {back['active_units']} | |")
        lines += [
            f"| | {key}, new molecules | {value:.3f} | |" for key, value in new.items() if value is not None
        ]
        lines += [
            f"| | {row['property']} ({row['unit']}), {row['way']} | {row['mae']:.3f} ± {row['mae_error']:.3f} "
            f"| {asked.get(row['property'], '') if row['way'] == 'the model' else ''} |"
            for row in found.get("prediction", ())
        ]
        lines += [
            f"| | {row['data']} ({row['unit']}; {row['molecules']:,} read, {row['left_out']:,} not), {row['way']} "
            f"| {row['mae']:.3f} ± {row['mae_error']:.3f} | |"
            for row in found.get("transfer", ())
        ]
        lines += [
            f"| | best 5 QED − SAS, {way}, median (lowest to highest) | {best['median']:.2f} ({best['lowest']:.2f} "
            f"to {best['highest']:.2f}) | |"
            for way, best in found.get("optimisation", {}).items()
        ]
        lines.append(f"| | training | {found['hours']:.2f} h, {found['epochs']} epochs | |")
    return rows("| model | | found | asked for, published |", lines)


def moses_rate(result: Result) -> str:
    """The metrics beside the MOSES package."""
    ratio = "{:.1f} ({:.1f}–{:.1f})".format(*result["ratio"])
    lines = [
        f"| processor time, a new molecule and a known one, {result['molecules']:,} each "
        f"| {result['ours_ms']:.1f} ms | {result['theirs_ms']:.1f} ms, {ratio} times ours |"
    ]
    lines += [f"| {name} | {ours:.4f} | {theirs:.4f} |" for name, (ours, theirs) in result["values"].items()]
    return rows("| | ours | the MOSES package |", lines)


def moses_golden(result: Result) -> str:
    """Training molecules as samples, beside the published row."""
    from benchmarks.moses import PUBLISHED

    lines = [
        f"| {metric} against {name} ({result['table'][name]['known']:,} molecules) | "
        f"{result['table'][name][metric]:.4f} | {value:g} |"
        for name, values in PUBLISHED.items()
        for metric, value in values.items()
    ]
    return rows(f"| {result['samples']:,} training molecules as samples | ours | published |", lines)


def molecules_prepare(result: Result) -> str:
    """How fast SMILES are prepared, and in how much memory."""
    lines = [
        f"| {row['kind']} | {row['rows']:,} | {row['per_second']:,.0f} | {row['process_mb']:,.0f} MB | "
        f"{row['worker_mb']:,.0f} MB |"
        for row in result["table"]
    ]
    return rows("| | molecules | a second | memory of the process | of a worker |", lines)


MOLECULES: dict[str, Callable[[Result], str]] = {
    "molecules": molecules, "moses_rate": moses_rate, "moses_golden": moses_golden,
    "molecules_prepare": molecules_prepare,
}  # fmt: skip
TABLES: dict[str, Callable[[Result], str]] = {
    "training_step": training_step, "priors": priors, "parts": parts, "loader": loader, "encode": encode,
    "imports": imports, "digits": digits, "evidence": evidence,
}  # fmt: skip


def main() -> None:
    """Replace what stands between the markers of each result that is kept."""
    write(HERE / "README.md", TABLES)
    write(HERE.parent / "domains" / "digits" / "README.md", {"digits": digits})
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
        body = f"<!-- {name} -->\n{table(result)}\n\n({where})\n<!-- /{name} -->"
        pattern = re.compile(f"<!-- {name} -->.*?<!-- /{name} -->", re.DOTALL)
        text = pattern.sub(body.replace("\\", r"\\"), text)
    readme.write_text(text)


if __name__ == "__main__":
    main()
