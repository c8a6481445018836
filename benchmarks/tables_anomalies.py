"""Anomalies in the tables of ADBench: the domain ``tables`` beside other methods, set by set.

    SCIENCEVAE_MIRROR=FOLDER python benchmarks/tables_anomalies.py [--seeds 5] [--sets NAME …] [--table]

FOLDER/tables holds the sets of ADBench (Han et al. 2022) as NAME.npz with X and y, y = 1 for anomalies; they are no
part of this repository. Of each set and seed at most 10,000 rows, drawn at random. Two ways of training:

normal:       half of the normal rows train; the other half and all anomalies are scored
contaminated: half of all rows, drawn without their labels, train; the other half is scored

Every method sees the same rows, each column less its mean and by its standard deviation over the training rows;
no method sees a label. Ours is one configuration for all sets and both ways: three models of the domain (all
columns Gaussian) trained as one ensemble, scored by ``Neighbourhood`` of 3 neighbours; where the rows that train
were not said to be normal, of 5, and 30 % of the rows trimmed; beside it, untrimmed, and their −ELBO. The
autoencoder has the same widths, optimiser, batches and epochs, and is scored by its squared error. The score, the
numbers of neighbours, the weight of the data without latents and the share that is trimmed were chosen on the sets
of ``CHOSEN_ON`` with seeds 11 to 13, which are not among those that count; those of ``SCORED_ONLY`` were looked at
once with these settings. They had been looked at before with an earlier score (distances in u alone, ten
neighbours, a fifth trimmed), from which no choice was made. Wilcoxon's signed-rank test compares the means over
seeds, set by set.

ECOD is that of pyod (a peer, not a dependency), and left out where it is not installed. The last result is kept in
benchmarks/results/tables_anomalies.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from sciencevae.builtin.tables.columns import Column, to_json
from sciencevae.builtin.tables.dataset import fields_of
from sciencevae.builtin.tables.model import build
from sciencevae.builtin.tables.settings import Tables

from sciencevae import Batch, TrainingSettings, networks
from sciencevae.latents.neighbours import Neighbourhood
from sciencevae.latents.score import anomaly_score, auc
from sciencevae.training.ensemble import fit_ensemble

CHOSEN_ON = (
    "2_annthyroid", "12_fault", "18_Ionosphere", "22_magic.gamma", "25_musk", "27_PageBlocks",
    "29_Pima", "37_Stamps", "39_vertebral", "41_Waveform", "43_WDBC", "45_wine",
)  # fmt: skip
SCORED_ONLY = (
    "4_breastw", "14_glass", "20_letter", "23_mammography", "26_optdigits", "28_pendigits",
    "32_shuttle", "38_thyroid", "40_vowels", "42_WBC", "44_Wilt", "47_yeast",
)  # fmt: skip
SETS = (*CHOSEN_ON, *SCORED_ONLY)
WAYS = ("normal", "contaminated")
OURS, WHOLE, BOUND = "ours", "ours, untrimmed", "ours, −ELBO"
METHODS = (
    OURS,
    WHOLE,
    BOUND,
    "kNN, 5th",
    "kNN, mean of 5",
    "kNN, mean of 10",
    "isolation forest",
    "ECOD",
    "autoencoder",
)
ROWS, MEMBERS, STEPS, EPOCHS = 10_000, 3, 400, 60
#: of the neighbourhood, the number of neighbours and the share of the training rows that is nobody's neighbour
NEIGHBOURS, TRIM = {"normal": 3, "contaminated": 5}, {"normal": 0.0, "contaminated": 0.3}
RESULT = Path(__file__).parent / "results" / "tables_anomalies.json"


def split(x: np.ndarray, y: np.ndarray, way: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Training rows, scored rows and the labels of these, scaled by the training rows."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(x))[:ROWS]
    x, y = x[order].astype(float), y[order]
    candidates = np.flatnonzero(y == 0) if way == "normal" else np.arange(len(x))
    train = candidates[: len(candidates) // 2]
    rest = np.setdiff1d(np.arange(len(x)), train)
    mean, deviation = x[train].mean(0), x[train].std(0)
    x = (x - mean) / np.where(deviation > 1e-12, deviation, 1.0)
    return x[train], x[rest], y[rest]


def settings_of(rows: int, seed: int) -> TrainingSettings:
    """Batches of 256, or a quarter of the rows; 60 epochs, and 400 steps at most."""
    size = min(256, max(16, rows // 4))
    epochs = max(5, min(EPOCHS, STEPS // -(-rows // size)))
    return TrainingSettings(
        epochs=epochs, batch_size=size, learning_rate=5e-3, schedule="cosine", warmup_steps=20,
        gradient_clip=10.0, compile=False, seed=seed,
    )  # fmt: skip


def ours(train: np.ndarray, test: np.ndarray, way: str, seed: int) -> dict[str, np.ndarray]:
    """The domain's model, three seeds as one, and its scores."""
    columns = [Column(str(number), "gaussian") for number in range(train.shape[1])]
    fields = fields_of(pd.DataFrame(train, columns=[c.name for c in columns]), columns)
    data = xr.Dataset(fields, attrs={"fields": list(fields), "columns": to_json(columns)})
    known, asked = (
        Batch({"gaussian": torch.tensor(values, dtype=torch.float32)}) for values in (train, test)
    )
    seeds = [100 * seed + member for member in range(MEMBERS)]
    models, _ = fit_ensemble(
        lambda: build(Tables(), data), known, seeds, settings=settings_of(len(train), seed), progress=False
    )
    bound = torch.stack([anomaly_score(model, asked, "elbo", samples=8) for model in models]).mean(0)
    found = {BOUND: bound.numpy()}
    for name, trim in {WHOLE: 0.0, OURS: TRIM[way]}.items() if TRIM[way] else [(OURS, 0.0)]:
        found[name] = Neighbourhood.of(models, known, NEIGHBOURS[way], trim).score(asked).numpy()
    return found


def autoencoder(train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
    """Squared error of a plain autoencoder."""
    settings, model_settings = settings_of(len(train), seed), Tables().model
    wide, hidden = train.shape[1], list(model_settings.hidden)
    dim = max(1, min(model_settings.latent, wide // 2))
    torch.manual_seed(seed)
    network = torch.nn.Sequential(
        networks.Perceptron(wide, hidden, dim), networks.Perceptron(dim, hidden[::-1], wide)
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=0.0)
    steps = settings.steps(len(train))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    known, asked = (torch.tensor(values, dtype=torch.float32) for values in (train, test))
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(known)).split(settings.batch_size):
            optimiser.zero_grad()
            (network(known[rows]) - known[rows]).square().mean().backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip)
            optimiser.step()
            schedule.step()
    with torch.no_grad():
        return (network(asked) - asked).square().sum(1).numpy()


def peers(train: np.ndarray, test: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Scores of the other methods, with their authors' settings."""
    from sklearn.ensemble import IsolationForest
    from sklearn.neighbors import NearestNeighbors

    distance = NearestNeighbors(n_neighbors=10).fit(train).kneighbors(test)[0]
    found = {
        "kNN, 5th": distance[:, 4],
        "kNN, mean of 5": distance[:, :5].mean(1),
        "kNN, mean of 10": distance.mean(1),
        "isolation forest": -IsolationForest(random_state=seed).fit(train).score_samples(test),
        "autoencoder": autoencoder(train, test, seed),
    }
    if find_spec("pyod") is not None:
        from pyod.models.ecod import ECOD

        found["ECOD"] = ECOD().fit(train).decision_function(test)
    return found


def one(folder: Path, name: str, way: str, seed: int) -> dict[str, float]:
    """Area under the ROC curve of each method."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
        x, y = arrays["X"], arrays["y"]
    train, test, label = split(x, y, way, seed)
    scores = ours(train, test, way, seed) | peers(train, test, seed)
    areas = {}
    for method, score in scores.items():
        score = np.nan_to_num(score.astype(float), nan=np.inf)
        areas[method] = round(auc(score[label == 0], score[label == 1]).value, 5)
    return areas


def measure(folder: Path, sets: Sequence[str], seeds: int, result: Path) -> None:
    """Every set, way and seed that the result has not yet, kept after each."""
    kept: dict[str, Any] = json.loads(result.read_text()) if result.exists() else {"areas": {}}
    for seed in range(seeds):
        for name in sets:
            for way in WAYS:
                known = kept["areas"].setdefault(way, {}).setdefault(name, {})
                if str(seed) in known:
                    continue
                began = time.process_time()
                known[str(seed)] = one(folder, name, way, seed)
                print(
                    f"{name} {way} {seed}: {known[str(seed)]} in {time.process_time() - began:.0f} s",
                    flush=True,
                )
                kept |= {
                    "date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "torch": torch.__version__,
                    "python": platform.python_version(),
                }  # fmt: skip
                result.parent.mkdir(exist_ok=True)
                result.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")


def means(areas: dict[str, Any], way: str, sets: Sequence[str]) -> pd.DataFrame:
    """Mean over seeds: a row a set, a column a method."""
    found = {name: pd.DataFrame(areas[way][name].values()).mean() for name in sets if areas[way].get(name)}
    table = pd.DataFrame(found).T
    return table[[method for method in METHODS if method in table]]


def tables(kept: dict[str, Any]) -> str:
    """Markdown: set by set, the means, and Wilcoxon's test."""
    from scipy.stats import wilcoxon

    parts = []
    for way in WAYS:
        table = means(kept["areas"], way, SETS)
        seeds = min(len(kept["areas"][way][name]) for name in table.index)
        lines = [
            f"| {way}, {seeds} seeds | " + " | ".join(table.columns) + " |",
            "|---" * (1 + len(table.columns)) + "|",
        ]
        for name, row in table.iterrows():
            mark = "" if name in CHOSEN_ON else " *"
            lines.append(
                f"| {str(name).partition('_')[2]}{mark} | " + " | ".join(f"{v:.3f}" for v in row) + " |"
            )
        for title, names in (("all", SETS), ("chosen on", CHOSEN_ON), ("scored only *", SCORED_ONLY)):
            chosen = table.loc[[name for name in names if name in table.index]]
            if len(chosen):
                cells = " | ".join(f"**{value:.4f}**" for value in chosen.mean())
                lines.append(f"| **mean, {title} ({len(chosen)})** | {cells} |")
        for title, alternative in (("p, ours above", "greater"), ("p, two-sided", "two-sided")):
            cells = ["–"] + [
                f"{wilcoxon(table[OURS], table[peer], alternative=alternative).pvalue:.2g}"
                for peer in table.columns[1:]
            ]
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
        better = [f"{int((table[OURS] > table[peer]).sum())} of {len(table)}" for peer in table.columns[1:]]
        lines.append("| sets on which ours is above | – | " + " | ".join(better) + " |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def main() -> None:
    """Measure, or print what is kept."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", nargs="*", choices=SETS, default=SETS)
    parser.add_argument("--result", type=Path, default=RESULT)
    parser.add_argument("--table", action="store_true", help="print the kept result as Markdown")
    arguments = parser.parse_args()
    if not arguments.table:
        if not (mirror := os.environ.get("SCIENCEVAE_MIRROR")):
            parser.error("set SCIENCEVAE_MIRROR: the folder whose tables/ holds the sets of ADBench")
        torch.set_num_threads(1)
        measure(Path(mirror) / "tables", arguments.sets, arguments.seeds, arguments.result)
    print(tables(json.loads(arguments.result.read_text())))


if __name__ == "__main__":
    main()
