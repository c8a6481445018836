"""The domains of pictures: digits, faces, objects."""

from __future__ import annotations

from benchmarks.tables import Result, over_seeds, rows


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
        "simulated": "regressor, plain simulation, no views",
        "randomised": "regressor, domain randomisation",
        "real": "regressor, the labelled pictures alone",
        "both": "regressor, simulation and labelled pictures",
        "taught": "regressor, simulation and labelled pictures, with lessons",
        "tuned": "regressor, domain randomisation, tuned on the labelled pictures",
        "tuned-plain": "regressor, plain simulation in views, tuned on the labelled pictures",
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

    def share(own: str, other: str) -> str:
        errors = (table[model]["realistic"]["position"] for model in (own, other))
        ratios = over_seeds([a / b for a, b in zip(*errors, strict=True)], 2)
        return f"{ratios} of that of the {names[other]}"

    others = ("simulated", "randomised", "real", "tuned-plain", "tuned", "taught")
    shares = [share("main", name) for name in others if name in table]
    if "unaided" in table and "tuned" in table:
        shares.append(f"without lessons it is {share('unaided', 'tuned')}")
    if shares:
        lines.append(f"\nThe error of this model's positions is {'; '.join(shares)}.")
    return rows(
        f"| {table['main']['realistic']['count']} realistic test pictures, {seeds} seed{'s'[: seeds - 1]} "
        "| labels | position, mm | median | pixels | heading, °, median | within 68 %, 95 % | unseen object, mm "
        "| in simulation, mm: plain, randomised |",
        lines,
    )
