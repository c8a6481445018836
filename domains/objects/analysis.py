"""What is looked at: how far poses are off, in the simulation and in reality, and whether models know it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from sciencevae.registry import Findings

from .scenes import UNSEEN
from .views import wrapped
from .world import world

if TYPE_CHECKING:
    from sciencevae.runs import Run, Variant

__all__ = ["Found", "found_poses", "poses"]

TITLES = {
    "model": "model",
    "pictures": "pictures",
    "count": "number",
    "position": "error of the position (mm)",
    "low": "from",
    "high": "to",
    "median": "median (mm)",
    "pixels": "in the picture (pixels)",
    "heading": "median error of the heading (°)",
    "within_68": "coordinates within 68 % intervals (share)",
    "within_95": "within 95 % (share)",
    "heading_within_68": "headings within 68 % intervals (share)",
    "heading_within_95": "within 95 % (share)",
    "kind": "object",
    "error": "error of the position (mm)",
    "turn": "error of the heading (°)",
    "labels": "realistic pictures with labels",
}
_ROWS = 100
_ANGLES = 16


@dataclass(frozen=True)
class Found:
    """Poses read from N pictures: where, which way, and how far either may be off.

    position (N, 2) in mm, heading (N,) in radians: means over draws of z and, of the heading, of angles given z.
    below (N, 2): the probability that the model gives to a coordinate below the true one. beyond (N,): to a heading
    further from the mean than the true one is. error (N,) in mm, pixels (N,), turn (N,) in degrees. NaN where the
    truth is not known.
    """

    position: np.ndarray
    heading: np.ndarray
    below: np.ndarray
    beyond: np.ndarray
    error: np.ndarray
    pixels: np.ndarray
    turn: np.ndarray

    def within(self, share: float) -> tuple[float, float]:
        """The share of coordinates, and of headings, that lie within the intervals that hold ``share`` of them."""
        beyond = self.beyond[np.isfinite(self.beyond)]
        headings = float((beyond > 1 - share).mean()) if len(beyond) else math.nan
        return float((abs(self.below - 0.5) < share / 2).mean()), headings

    @property
    def median_turn(self) -> float:
        """The median error of the headings that are known, in degrees."""
        known = self.turn[np.isfinite(self.turn)]
        return float(np.median(known)) if len(known) else math.nan


@torch.no_grad()
def found_poses(variant: Variant, rows: np.ndarray, samples: int, seed: int = 0) -> Found:
    """The poses of some rows: p(pose | picture) = E p(pose | z) over ``samples`` draws z ~ q(z | picture)."""
    model, data = variant.model(), variant.data
    model.eval()
    places, headings, below, beyond = [], [], [], []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for start in range(0, len(rows), _ROWS):
            block = data.isel(sample=rows[start : start + _ROWS])
            posterior = model.encode(
                {"picture": torch.from_numpy(block["picture"].values)},
                {"condition": torch.from_numpy(block["condition"].values)},
            )
            pose: Any = model.decoder(posterior.sample((samples,)), {}).fields
            place, way = pose["position"].base_dist, pose["heading"]
            truth = torch.from_numpy(np.stack([block["x"].values, block["y"].values], -1))
            places.append(place.mean.mean(0))
            below.append(place.cdf(truth).mean(0))
            angle = way.sample((_ANGLES,)).flatten(0, 1)[..., 0]  # (A·S, B)
            mean = torch.atan2(angle.sin().mean(0), angle.cos().mean(0))
            headings.append(mean)
            off = wrapped(torch.from_numpy(block["true_heading"].values) - mean).abs()
            further = (wrapped(angle - mean).abs() > off).double().mean(0)
            beyond.append(further.where(off.isfinite(), torch.nan))
    position, heading, lower, outside = (
        torch.cat(parts).double().numpy() for parts in (places, headings, below, beyond)
    )
    known = np.stack([data["x"].values[rows], data["y"].values[rows]], -1)
    camera = world(variant.settings.source.setup).camera
    apart = [camera.project(np.c_[p, np.zeros(len(p))])[:, :2] for p in (position, known)]
    turn = wrapped(torch.from_numpy(heading - data["true_heading"].values[rows])).numpy()
    return Found(
        position,
        heading,
        lower,
        outside,
        error=np.linalg.norm(position - known, axis=1),
        pixels=np.linalg.norm(apart[0] - apart[1], axis=1),
        turn=np.degrees(abs(turn)),
    )


def parts_of(variant: Variant) -> dict[str, np.ndarray]:
    """The rows that poses are looked for in, by what they show: realistic, of an unseen object, simulated."""
    data = variant.data
    split, domain, kind = (data[name].values for name in ("split", "domain", "kind"))
    unseen = kind == UNSEEN
    parts = {
        "realistic": (split == 2) & ~unseen,
        "realistic, unseen object": (split == 2) & unseen,
        "realistic, to choose by": (split == 1) & (domain == "realistic"),
        "plain simulation": (split == 1) & (domain == "plain"),
        "randomised simulation": (split == 1) & (domain == "randomised"),
    }
    return {name: np.flatnonzero(own) for name, own in parts.items() if own.any()}


def poses(run: Run) -> Findings:
    """How far poses are off in pictures that no model has seen, by model and by what the pictures are.

    Intervals, 95 %, are of a bootstrap over pictures.
    """
    chosen = run.settings.analyse
    rows: list[dict[str, Any]] = []
    each: list[pd.DataFrame] = []
    metrics: dict[str, Any] = {}
    for name, variant in run.variants.items():
        metrics[name] = {"labels": variant.settings.prepare.labelled}
        for part, own in parts_of(variant).items():
            found = found_poses(variant, own, chosen.samples, chosen.seed)
            drawn = np.random.default_rng(chosen.seed).integers(len(own), size=(chosen.draws, len(own)))
            low, high = np.quantile(found.error[drawn].mean(1), [0.025, 0.975])
            within = {share: found.within(share / 100) for share in (68, 95)}
            row = {
                "model": name,
                "pictures": part,
                "count": len(own),
                "position": found.error.mean(),
                "low": low,
                "high": high,
                "median": np.median(found.error),
                "pixels": found.pixels.mean(),
                "heading": found.median_turn,
                **{f"within_{share}": both[0] for share, both in within.items()},
                **{f"heading_within_{share}": both[1] for share, both in within.items()},
            }
            rows.append(row)
            each.append(
                pd.DataFrame(
                    {
                        "model": name,
                        "pictures": part,
                        "kind": variant.data["kind"].values[own],
                        "error": found.error,
                        "turn": found.turn,
                    }
                )
            )
            if part == "realistic":
                metrics[name] |= {key: value for key, value in row.items() if not isinstance(value, str)}
    table = pd.DataFrame(rows)
    note = (
        f"The pictures are of the recipe {run.main.data.attrs['recipe']}; intervals are 95 % of {chosen.draws:,} "
        f"bootstrap draws over them. A pose is the mean over {chosen.samples} draws of the latents."
    )
    return Findings(metrics, {"poses": table, "pictures": pd.concat(each)}, (note,), TITLES)
