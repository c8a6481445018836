"""The domain of molecules."""

from __future__ import annotations

from benchmarks.tables import Result, line, rows

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
