"""Frames of a run's data as the model sees them, scaled, and errors in the norm that its likelihood has.

In scaled units a field is measured in its own rms fluctuation, a velocity's components in one, and the coefficients
of modes all in one: the squared error is that of the physical fields, weighted by their mass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .lagging import PAST

if TYPE_CHECKING:
    import torch

    from sciencevae.runs import Variant
    from sciencevae.vae.model import VAE

__all__ = ["Frames", "decoded", "relative"]

_ROWS, _BLOCK_BYTES = 512, 32 << 20  # of frames that are looked at, or decoded, at once


class Frames:
    """The prepared frames of one variant; no more of them are in memory than ``Rows`` holds, and those asked for.

    values(rows) (n, *E), in physical units
    scaled(rows) (n, *E) · mean (*E), of the training frames · weight (*E), the mass of each entry, 0 where there is
    no fluid · outside(rows) (n,), the squared norm of what modes leave out · original: not mirror images.
    """

    def __init__(self, variant: Variant) -> None:
        from sciencevae.data.rows import Rows
        from sciencevae.data.scaling import Scaling

        data = variant.data
        self._x, self._windows = Rows(data, "x"), "lag" in data.dims
        if self._windows:
            data = data.drop_vars(PAST).isel(lag=0)
        self.data = data.assign({name: data[name].load() for name in data.data_vars if name != "x"})
        self.scaling = Scaling.of(data)
        self.split = self.data["split"].values
        self.run, self.time = self.data["run"].values, self.data["time"].values
        self.original = self.data["mirrored"].values == 0
        self.on_modes = "mode" in self.data["x"].dims

    @cached_property
    def mean(self) -> np.ndarray:
        total: Any = 0.0
        for rows in self.blocks(train := self._train):
            total = total + np.nan_to_num(self.scaled(rows).astype(np.float64)).sum(0)
        return np.asarray(total) / len(train)

    @cached_property
    def weight(self) -> np.ndarray:
        fluid = np.isfinite(self.values(self._train[:1])[0])
        if self.on_modes:
            return np.ones(fluid.shape)
        areas = [cell_sizes(self.data[f"{axis}_position"].values) for axis in ("y", "x")]
        mass = np.broadcast_to(np.outer(*areas), fluid.shape) * fluid
        return mass / mass.mean()

    @cached_property
    def _train(self) -> np.ndarray:
        return np.flatnonzero((self.split == 0) & self.original)

    @property
    def frame_bytes(self) -> int:
        """Of one frame, scaled."""
        return 4 * int(np.prod(self.data["x"].shape[1:]))

    def blocks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Rows, so many at a time that their frames take 32 MiB."""
        size = max(1, min(_ROWS, _BLOCK_BYTES // self.frame_bytes))
        for start in range(0, len(rows), size):
            yield rows[start : start + size]

    def by_blocks(self, count: int, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """A number for each of so many frames, (count,), from a function of their places, (b,) → (b,)."""
        found = np.empty(count)  # at once: what is kept of each block would lie between the freed ones
        for places in self.blocks(np.arange(count)):
            found[places] = function(places)
        return found

    def values(self, rows: np.ndarray) -> np.ndarray:
        """Frames of these rows in physical units, (n, *E); of windows each at its own time."""
        found = self._x[rows]
        return found[:, 0] if self._windows else found

    def scaled(self, rows: np.ndarray) -> np.ndarray:
        """Frames of these rows, scaled, (n, *E) float32; NaN where there is no value."""
        return self.scaling.apply("x", self.values(rows).astype(np.float32), reuse=True)

    def outside(self, rows: np.ndarray) -> np.ndarray:
        """‖r‖² of what lies outside the modes, in scaled units; 0 on a grid."""
        if not self.on_modes:
            return np.zeros(len(rows))
        return self.data["residual"].values[rows] / float(self.scaling.fields["x"].scale.flat[0]) ** 2

    def condition(self, rows: np.ndarray) -> torch.Tensor | None:
        """What the model is told of these rows, scaled."""
        import torch

        if "condition" not in self.data:
            return None
        values = self.data["condition"].isel(sample=rows).values.astype(np.float32)
        return torch.from_numpy(self.scaling.apply("condition", values))

    def squares(self, values: np.ndarray) -> np.ndarray:
        """The weighted squared norm of differences (n, *E), (n,)."""
        weighted = np.nan_to_num(values).astype(np.float64, copy=False)
        np.square(weighted, out=weighted)
        weighted *= self.weight
        return weighted.reshape(len(values), -1).sum(1)

    def fluctuation(self, rows: np.ndarray) -> np.ndarray:
        """The squared norm of frames about the training mean, with what modes leave out, (n,)."""

        def squares(places: np.ndarray) -> np.ndarray:
            return self.squares(self.scaled(rows[places]) - self.mean)

        return self.by_blocks(len(rows), squares) + self.outside(rows)

    def saturation(self) -> np.ndarray:
        """How fast a frame changes, in units of the median over the last fifth of its run, (N,).

        The amplitude of an oscillation that grows to a limit cycle, in units of the cycle's.
        """
        found = np.full(len(self.split), np.nan)
        for run in np.unique(self.run[self.original]):
            rows = np.flatnonzero((self.run == run) & self.original)

            def steps(places: np.ndarray, rows: np.ndarray = rows) -> np.ndarray:
                return self.squares(np.diff(self.scaled(rows[places[0] : places[-1] + 2]), axis=0))

            speed = np.sqrt(self.by_blocks(len(rows) - 1, steps))
            speed = np.append(speed, speed[-1])
            found[rows] = speed / np.median(speed[-max(len(speed) // 5, 1) :])
        return found


def cell_sizes(points: np.ndarray) -> np.ndarray:
    """The length that each point of an axis stands for.

    >>> cell_sizes(np.array([0.0, 1.0, 3.0])).tolist()
    [1.0, 1.5, 2.0]
    """
    return np.abs(np.gradient(points)) if len(points) > 1 else np.ones(1)


def relative(errors: np.ndarray, fluctuations: np.ndarray) -> float:
    """√(Σ errors / Σ fluctuations), of squared norms."""
    return float(np.sqrt(errors.sum() / fluctuations.sum())) if len(errors) else float("nan")


def decoded(
    model: VAE, z: Any, condition: torch.Tensor | None, draw: bool = False, lag: int = 0
) -> np.ndarray:
    """E[x | z, c], or a draw, of latents (n, D), scaled, (n, *E); of windows the frame ``lag`` on."""
    import torch

    from sciencevae.latents.forecast.lagged import frames_ahead

    windows = frames_ahead(model) > 0
    z = torch.as_tensor(z, dtype=torch.float32)
    found = []
    with torch.no_grad():
        for start in range(0, len(z), _ROWS):
            rows = slice(start, start + _ROWS)
            context = None if condition is None else {"condition": condition[rows]}
            law = model.decode(z[rows], context)
            x = law.sample() if draw else law.mean
            found.append((x[:, lag] if windows else x).numpy())
    return np.concatenate(found)
