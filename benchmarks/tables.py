"""Write the kept results into ``benchmarks/README.md``, so that no number there is typed by hand.

python -m benchmarks.tables
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from functools import partial
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


def over_seeds(values: list[float], digits: int) -> str:
    """The mean, and where there is one the spread."""
    from statistics import mean, stdev

    spread = f" ± {stdev(values):.{digits}f}" if len({*values}) > 1 else ""
    return f"{mean(values):.{digits}f}{spread}"


def faces(result: Result) -> str:
    """Smiles beside the real ones: one table a set of pictures."""
    from benchmarks.faces import FIRST, SHARED

    names = {
        FIRST: "neutral picture",
        SHARED: "mean flow, one for all",
        "main": "this model",
        "same": "the same without shapes (`same`)",
        "anew (drawn anew)": "a VAE that draws faces",
        "best deformation": "best deformation, which sees the smile",
    }

    def apart(found: list[float]) -> str:
        return f"{found[0]:+.2f} ({found[1]:+.2f} to {found[2]:+.2f})".replace("-", "−")

    tables = []
    for task, found in result["table"].items():
        first, *groups = found["people"].items()
        seeds = len(found["core_minutes"])
        title = f"{task}, {first[1]} test people, {seeds} seed{'s'[: seeds - 1]}"
        lines = []
        for method, row in found["methods"].items():
            over, own = row[f"over {FIRST}"], [names.get(method, method)]
            for part in ("full", "mouth"):
                own += [over_seeds(row[part], 2), "" if method == FIRST else apart(over["all"][part])]
            own += ["" if method == FIRST else apart(over[group]["mouth"]) for group, _ in groups]
            shared = row[f"over {SHARED}"]["all"]
            own += ["" if method in (FIRST, SHARED) else apart(shared[part]) for part in ("full", "mouth")]
            own += ["" if method == FIRST else f"{min(row['identity']):.3f}"]
            own += [f"{row['folds']}; {row['least_jacobian']:.2f}" if "folds" in row else ""]
            lines.append(f"| {' | '.join(own)} |")
        header = (
            f"| {title} | face, dB | gain | mouth, dB | gain "
            + "".join(f"| mouth, gain of {count} {group} " for group, count in groups)
            + "| face, over mean flow | mouth, over mean flow | eyes, least | folds; least determinant |"
        )
        tables.append(rows(header, lines))
    return "\n\n".join(tables)


def objects(result: Result) -> str:
    """Poses of realistic pictures by model, what they are in simulation, and what they cost in labels."""
    from statistics import mean

    names = {
        "main": "this model",
        "unaided": "this model, without lessons",
        "simulated": "regressor, plain simulation",
        "randomised": "regressor, domain randomisation",
        "real": "regressor, the labelled pictures alone",
        "both": "regressor, simulation and labelled pictures",
        "taught": "regressor, simulation and labelled pictures, with lessons",
        "tuned": "regressor, domain randomisation, tuned on the labelled pictures",
        "tuned-plain": "regressor, plain simulation, tuned on the labelled pictures",
    }

    table = result["table"]
    seeds = len(table["main"]["realistic"]["position"])
    lines = []
    for model, row in sorted(table.items(), key=lambda pair: pair[0].startswith("labels")):
        own = row["realistic"]
        unseen = row.get("realistic, unseen object")
        inside = [row[name] for name in ("plain simulation", "randomised simulation") if name in row]
        cells = [names.get(model, "this model"), str(row["labels"])]
        cells += [over_seeds(own[name], 1) for name in ("position", "median", "pixels", "heading")]
        cells += [f"{mean(own['within_68']):.2f}, {mean(own['within_95']):.2f}"]
        cells += [over_seeds(unseen["position"], 1) if unseen else ""]
        cells += [", ".join(over_seeds(part["position"], 1) for part in inside)]
        lines.append(f"| {' | '.join(cells)} |")
    shares = []
    for name in ("simulated", "real", "tuned-plain", "tuned"):
        if name in table:
            errors = (table[model]["realistic"]["position"] for model in ("main", name))
            share = over_seeds([a / b for a, b in zip(*errors, strict=True)], 2)
            shares.append(f"{share} of that of the {names[name]}")
    if shares:
        lines.append(f"\nThe error of this model's positions is {'; '.join(shares)}.")
    return rows(
        f"| {table['main']['realistic']['count']} realistic test pictures, {seeds} seed{'s'[: seeds - 1]} "
        "| labels | position, mm | median | pixels | heading, °, median | within 68 %, 95 % | unseen object, mm "
        "| in simulation, mm: plain, randomised |",
        lines,
    )


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


def stars_recovery(result: Result) -> str:
    """False alarms, recovery and calibration on fields with a known truth."""
    from benchmarks.stars_recovery import table

    return table(result)


def stars_latents(result: Result) -> str:
    """Where candidates come from."""
    from benchmarks.stars_latents import table

    return table(result)


def stars_fields(result: Result) -> str:
    """Members in Gaia fields by every method."""
    from benchmarks.stars_fields import summary

    return summary(result)


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
BACK = {
    "exact": "come back by the posterior mean, greedy",
    "exact_flat": "the same without stereochemistry",
    "exact_drawn": "come back by 10 encodings × 10 decodings, both drawn",
    "other": "come back from another molecule's latent",
}


def molecules(result: Result) -> str:
    """What the models that come with the package reach on test molecules; see ``benchmarks.pretrained``."""
    models = result["table"]
    parts = [_back_and_new(models)]
    for name, found in models.items():
        asked = ASKED.get(name, {})
        wanted = {row["property"]: asked.get(row["property"], "") for row in found["prediction"]}
        parts.append(f"Properties of test molecules by `{name}`, mean absolute error:")
        parts.append(_by_way(found["prediction"], "property", "asked for", wanted))
        if found.get("conditional"):
            lines = [
                line(
                    f"{row['property']} = {row['asked']:.3g}",
                    f"{row['found']:.3g} ± {row['spread']:.2g}",
                    f"{row['mae']:.3g}",
                    f"{row['mae_unasked']:.3g}",
                )
                for row in found["conditional"]
            ]
            titles = (
                "asked",
                "found: mean ± standard deviation",
                "mean absolute error",
                "that of training molecules",
            )
            parts.append(f"New molecules by `{name}` of which a property is asked, 200 for each value:")
            parts.append(rows(line(*titles), lines))
        if found.get("transfer"):
            read = {row["data"]: f"{row['molecules']:,}, {row['left_out']:,}" for row in found["transfer"]}
            parts.append(f"Measured properties that `{name}` never saw, mean absolute error:")
            parts.append(_by_way(found["transfer"], "data", "molecules that it reads, and not", read))
        if found.get("optimisation"):
            lines = [
                line(way, f"{best['median']:.2f} ({best['lowest']:.2f} to {best['highest']:.2f})")
                for way, best in found["optimisation"].items()
            ]
            parts.append(f"Better molecules by `{name}`:")
            parts.append(rows(line("", "best 5 QED − SAS, median (lowest to highest of the seeds)"), lines))
    return "\n\n".join(parts)


def _back_and_new(models: dict[str, Result]) -> str:
    """Molecules that come back, and new ones: a column a model."""
    back, new = ([found[part] for found in models.values()] for part in ("reconstruction", "generation"))
    lines = []
    for key, told in BACK.items():
        errors = [f" ± {one[f'{key}_error']:.1%}" if f"{key}_error" in one else "" for one in back]
        shares = [f"{one[key]:.1%}{error}" for one, error in zip(back, errors, strict=True)]
        asked = [f"{name}: {ASKED[name][key]}" for name in models if key in ASKED.get(name, {})]
        lines.append(line(told, *shares, "; ".join(asked)))
    lines.append(
        line("KL, active latents", *(f"{one['kl']:.1f} nats, {one['active_units']}" for one in back), "")
    )
    lines += [line(f"{key}, new molecules", *(f"{one[key]:.3f}" for one in new), "") for key in new[0]]
    hours = (f"{found['hours']:.2f} h, {found['epochs']} epochs" for found in models.values())
    lines.append(line("training", *hours, ""))
    return rows(line("", *models, "asked for, published"), lines)


def _by_way(found: list[Result], name: str, title: str, last: dict[str, str]) -> str:
    """Mean absolute errors: a row each of what ``name`` names, a column a way, and what is last in its row."""
    ways: dict[str, None] = dict.fromkeys(row["way"] for row in found)
    cells = {(row[name], row["way"]): f"{row['mae']:.3f} ± {row['mae_error']:.3f}" for row in found}
    units = {row[name]: row["unit"] for row in found}
    lines = [
        line(f"{one} ({unit})", *(cells[one, way] for way in ways), last[one]) for one, unit in units.items()
    ]
    return rows(line("", *ways, title), lines)


def line(*cells: str) -> str:
    """A row of a table."""
    return f"| {' | '.join(cells)} |"


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


def molecules_priors(result: Result) -> str:
    """New molecules by the prior they are drawn from."""
    titles = {"none": "N(0, 1), that of training", "mixture": "mixture", "flow": "autoregressive flow"}
    lines = [
        line(
            titles[kind],
            f"{row['cross_entropy']:.2f}",
            # Unique@10k is not known where one of the 10,000 is not valid
            *(f"{row[name]:.3f}" if name in row else "" for name in ("FCD", "SNN", "Unique@10k", "Novelty")),
            f"{row['minutes']:.0f}",
        )
        for kind, row in result["table"].items()
    ]
    header = line("", "−E log p(z), nats", "FCD", "SNN", "Unique@10k", "Novelty", "minutes of the fit")
    return rows(header, lines)


def molecules_encoder(result: Result) -> str:
    """A short training with and without the sum of the encoder's states, and a weight of the properties."""
    titles = {
        "exact": "back by the mean, greedy",
        "HOMO": "HOMO (eV)",
        "LUMO": "LUMO (eV)",
        "gap": "gap (eV)",
        "logP": "logP",
    }
    lines = [
        line(
            "yes" if row["sums"] else "no",
            f"{row['weight']:g}",
            *(f"{row[name]['mean']:.3f} ± {row[name]['spread']:.3f}" for name in titles),
            f"{row['minutes']['mean']:.1f}",
        )
        for row in result["table"]
    ]
    header = line("sum of the states", "weight of the properties", *titles.values(), "minutes")
    return rows(header, lines)


def moses_curve(result: Result) -> str:
    """What comes back against how the new molecules are distributed."""
    from benchmarks.moses import DD_VAE

    measures = {
        "exact": "back by the mean, greedy",
        "exact_drawn": "back, both drawn",
        "FCD": "FCD",
        "FCD/TestSF": "FCD, new scaffolds",
        "Novelty": "Novelty",
        "Unique@10k": "Unique@10k",
        "Filters": "Filters",
        "kl": "KL (nats)",
    }
    lines = [
        line(
            f"β = {row['beta']:g}, {row['rows']:,} molecules, {row['epochs']} epochs, {row['hours']:.1f} h",
            *(f"{row[measure]:.3f}" for measure in measures),
        )
        for row in result["table"]
    ]
    published = [
        line(
            "DD-VAE (a deterministic decoder), published",
            f"{back:.2f}",
            "",
            f"{fcd:.2f}",
            *[""] * (len(measures) - 3),
        )
        for back, fcd in DD_VAE.items()
    ]
    return rows(line("", *measures.values()), lines + published)


def moses_draws(result: Result) -> str:
    """Whether the prior or the decoder is to blame for new molecules unlike those of training."""
    lines = [
        line(
            f"β = {row['beta']:g}",
            row["origin"],
            "greedy" if row["greedy"] else "drawn",
            *(f"{row[name]:.3f}" for name in ("FCD", "SNN", "W1 QED", "W1 SAS")),
        )
        for row in result["table"]
    ]
    return rows(line("", "latents of", "tokens", "FCD", "SNN", "W1 QED", "W1 SAS"), lines)


def molecules_prepare(result: Result) -> str:
    """How fast SMILES are prepared, and in how much memory."""
    lines = [
        f"| {row['kind']} | {row['rows']:,} | {row['per_second']:,.0f} | {row['process_mb']:,.0f} MB | "
        f"{row['worker_mb']:,.0f} MB |"
        for row in result["table"]
    ]
    return rows("| | molecules | a second | memory of the process | of a worker |", lines)


def fluids_cavity(result: Result) -> str:
    """Errors of forecasts of the measured cavity flow, differences to the best baseline, and distributions."""
    lines, differences = [], []
    for name, row in result["rows"].items():
        cells = []
        for lead in ("1", "8"):
            seeds = row[lead].get("seeds")
            told = f" (single seeds {min(seeds):.3f}–{max(seeds):.3f})" if seeds else ""
            cells.append(f"{row[lead]['test']:.3f}{told}")
            if pair := row[lead].get("paired"):
                differences.append(
                    f"{lead} ahead: {pair['difference']:+.4f} ± {pair['stderr']:.4f} against {pair['against']}"
                )
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    law = [
        f"| {name} | " + " | ".join(
            f"{found[who]['crps']:.2f} | {' / '.join(f'{c:.0%}' for c in found[who]['coverage'])}"
            for found in (result["distributions"][lead] for lead in ("1", "8"))
        ) + " |"
        for who, name in (("ours", "ours"), ("ridge", "ridge on POD modes, Gaussian"))
    ]  # fmt: skip
    sharper = "; ".join(
        f"{lead} ahead: {found['difference']:+.3f} ± {found['stderr']:.3f} m/s"
        for lead, found in result["distributions"].items()
    )
    return "\n\n".join(
        [
            rows("| error, test | 1 frame ahead | 8 frames |", lines),
            "Paired differences: " + "; ".join(differences) + ".",
            rows("| draws, test | CRPS at 1, m/s | coverage of 68/95 % | CRPS at 8, m/s | coverage |", law),
            f"Paired differences of the CRPS, ours less the ridge: {sharper}.",
        ]
    )


def fluids_solvers(result: Result) -> str:
    """How fast the solvers of flows are, and how far they are from PhiFlow's fields."""
    from statistics import median

    rates, apart = result["steps_per_cpu_second"], result["relative_difference"]
    fastest = median(rates["smoke, cosines"])
    lines = []
    for name, found in rates.items():
        differs = ", ".join(f"{field} {100 * value:.2f} %" for field, value in apart.get(name, {}).items())
        ratio = "" if name == "spectral" or "cosines" in name else f"{fastest / median(found):.0f}×"
        lines.append(
            f"| {name} | {median(found):,.0f} ({min(found):,.0f}–{max(found):,.0f}) "
            f"| {result['targets'].get(name, '')} | {ratio} | {differs} |"
        )
    return rows(
        "| 64 × 64 | steps / CPU-second | target | smoke, cosines, is | its fields differ by |", lines
    )


def fluids_smoke(result: Result) -> str:
    """Errors of forecasts of smoke, and their time beside the solvers'."""
    leads = (1, 5, 10, 20)
    header = (
        "| relative L2 error, frames ahead | "
        + " | ".join(map(str, leads))
        + " | density at 20 | velocity at 20 |"
    )
    errors = rows(
        header,
        (
            f"| {name} | " + " | ".join(f"{found['all'][k - 1]:.3f}" for k in leads)
            + f" | {found['density'][-1]:.3f} | {found['velocity'][-1]:.3f} |"
            for name, found in result["errors"].items()
        ),
    )  # fmt: skip
    times = result["milliseconds"]
    published, ours = (next(v for k, v in times.items() if word in k) for word in ("gradients", "cosines"))
    speeds = rows(
        "| 20 frames | ms a scene, one core | published way = 1 | cosines = 1 |",
        (
            f"| {name} | {value:.1f} | {published / value:.1f}× | {ours / value:.1f}× |"
            for name, value in times.items()
        ),
    )
    return f"{errors}\n\n{speeds}"


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
