"""Two-dimensional Navier–Stokes flow in a periodic square, by a pseudo-spectral method, many runs at once.

    ∂ω/∂t + u·∇ω = ν∇²ω − μω + curl F,   ω = ∂v/∂x − ∂u/∂y,   ∇²ψ = −ω,   u = ∂ψ/∂y,   v = −∂ψ/∂x

Lengths in m, times in s, ν in m²/s, the friction μ in 1/s. Arrays are (B, y, x). Products are free of aliasing (2/3
rule), so that advection conserves energy, enstrophy and the mean of ω; in time it does to fourth order (RK4).
Viscosity and friction are integrated exactly (integrating factor) and set no limit to the time step. Canuto et al.,
Spectral Methods: Evolution to Complex Geometries (2007), §3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.fft import irfft2, rfft2

from sciencevae.errors import InputError

from .checks import check_state

__all__ = ["Budget", "Kolmogorov", "Ring", "Spectral", "random_vorticity"]

CFL_MOST = 1.3
"""Cells crossed in a step, |u| + |v|: RK4 is stable for |u·k| Δt ≤ 2.83, and no component of k is above 2π/3Δx."""


@dataclass(frozen=True)
class Kolmogorov:
    """A steady force F = (A sin 2πky/L, 0): ``amplitude`` A (B,) in m/s², ``wavenumber`` k, a whole number."""

    amplitude: Tensor
    wavenumber: int


@dataclass(frozen=True)
class Ring:
    """Noise, white in time, on the wave vectors of length ``low``–``high`` (in 2π/L).

    It brings in the energy ``power`` (B,), m²/s³, in the mean. A run's noise is set by ``seed`` and by its number,
    the first of a batch being ``first``.
    """

    power: Tensor
    low: float
    high: float
    seed: int
    first: int = 0


class Budget(NamedTuple):
    """Means over the square, each (B,): dE/dt = −2νZ − 2μE + injection, dZ/dt = −2νP − 2μZ + ⟨ω curl F⟩.

    Energy E = ⟨|u|²⟩/2, m²/s²; enstrophy Z = ⟨ω²⟩/2, 1/s²; palinstrophy P = ⟨|∇ω|²⟩/2, 1/(m² s²); injection
    ⟨u·F⟩, m²/s³, that of a ring being its power in the mean.
    """

    energy: Tensor
    enstrophy: Tensor
    palinstrophy: Tensor
    injection: Tensor


class Spectral:
    """A solver for runs with ``viscosity`` (B,) on n × n points of a periodic square of side ``length_m``.

    The state is the spectrum of the vorticity, (B, n, n/2 + 1), as ``start`` makes it. It works in the dtype and on
    the device of ``viscosity``.

    Raises InputError for an odd or tiny grid, a viscosity or friction that is negative, a time step that is not
    positive, a force that the grid does not resolve.

    >>> solver = Spectral(torch.tensor([0.01]), points=32, dt_s=0.01)
    >>> spectrum = solver.start(random_vorticity(1, 32, seed=0))
    >>> solver.vorticity(solver.step(spectrum)).shape
    torch.Size([1, 32, 32])
    """

    def __init__(
        self,
        viscosity: Tensor,
        points: int,
        dt_s: float,
        length_m: float = 2 * math.pi,
        friction: float = 0.0,
        force: Kolmogorov | Ring | None = None,
    ) -> None:
        _check(viscosity, points, dt_s, length_m, friction, force)
        self.viscosity, self.points, self.dt_s, self.length_m = viscosity, points, dt_s, length_m
        self.force, like = force, viscosity
        y, x, kept = _wave_vectors(points, like.device)
        y, x = y * (2 * math.pi / length_m), x * (2 * math.pi / length_m)  # 1/m
        square = x.square() + y.square()
        inverse = kept / torch.where(square > 0, square, math.inf)
        self._square, self._inverse, self._kept = square.to(like), inverse.to(like), kept
        self._to_u, self._to_v = (1j * y * inverse).to(1j * like), (-1j * x * inverse).to(1j * like)
        # curl of −∇·(u u) = (∂²/∂y² − ∂²/∂x²) uv + ∂²/∂x∂y (u² − v²): two transforms each way, not four and one
        self._of_product = (kept * (x.square() - y.square())).to(like)
        self._of_difference = (kept * x * y).to(like)
        rate = viscosity.double()[:, None, None] * square + friction
        self._decay, self._half_decay = ((-rate * dt).exp().to(like) for dt in (dt_s, dt_s / 2))
        # modes of the other half of the plane count too; the first column holds its own
        self._weight = (
            torch.full_like(x, 2).index_fill(-1, torch.tensor([0], device=x.device), 1).to(like) / points**4
        )
        self._curl: Tensor | float = 0.0
        self._force_u: Tensor | None = None
        self._ring: _RingNoise | None = None
        if isinstance(force, Kolmogorov):
            phase = torch.arange(points, dtype=torch.float64, device=like.device) * (2 * math.pi / points)
            wave = (force.wavenumber * phase).sin()[:, None].expand(points, points).to(like)
            self._force_u = rfft2(force.amplitude.to(like)[:, None, None] * wave)
            self._curl = -1j * y.to(like) * self._force_u * kept
        if isinstance(force, Ring):
            self._ring = _RingNoise(force, points, length_m, dt_s, like)

    def start(self, vorticity: Tensor) -> Tensor:
        """The spectrum of a vorticity (B, n, n) in 1/s, without what the grid does not resolve and its mean.

        Raises InputError for another shape, for numbers that are not finite, and for a flow that is too fast for
        the time step (more than 1.3 cells in a step).
        """
        B, n = len(self.viscosity), self.points
        if vorticity.shape != (B, n, n):
            raise InputError(f"a vorticity of shape {(B, n, n)} is needed, found {tuple(vorticity.shape)}")
        if not bool(vorticity.isfinite().all()):
            raise InputError("the vorticity at the start is not finite everywhere: fill its gaps first")
        spectrum = rfft2(vorticity.to(self.viscosity)) * (self._inverse > 0)
        cells = self._cells(spectrum)
        if float(cells.max()) > CFL_MOST:
            raise InputError(
                f"run {int(cells.argmax())} would cross {float(cells.max()):.2g} cells in a step, at most "
                f"{CFL_MOST:g}: take a time step of {self.dt_s * CFL_MOST / float(cells.max()):.2g} s or less"
            )
        return spectrum

    def step(self, w: Tensor) -> Tensor:
        """The spectrum one time step later."""
        dt, decay, half = self.dt_s, self._decay, self._half_decay
        a = self._change(w)
        b = self._change(half * (w + dt / 2 * a))
        c = self._change(half * w + dt / 2 * b)
        d = self._change(decay * w + dt * (half * c))
        w = decay * (w + dt / 6 * a) + dt / 3 * (half * (b + c)) + dt / 6 * d
        return w if self._ring is None else w + self._ring.draw()

    def run(self, spectrum: Tensor, frames: int, every: int) -> Iterator[Tensor]:
        """Spectra after 0, ``every``, 2 ``every``, … steps, ``frames`` of them.

        Raises RunError at a frame that is not finite, or where the flow crosses more than 1.3 cells in a step.
        """
        yield spectrum
        for frame in range(1, frames):
            for _ in range(every):
                spectrum = self.step(spectrum)
            cells = self._cells(spectrum)
            check_state(cells, cells, CFL_MOST, frame * every, self.dt_s)
            yield spectrum

    def vorticity(self, spectrum: Tensor) -> Tensor:
        """ω, 1/s, (B, n, n)."""
        return irfft2(spectrum, s=(self.points, self.points))

    def velocity(self, spectrum: Tensor) -> Tensor:
        """(u, v), m/s, (B, 2, n, n)."""
        both = torch.stack([self._to_u * spectrum, self._to_v * spectrum], 1)
        return irfft2(both, s=(self.points, self.points))

    def budget(self, spectrum: Tensor) -> Budget:
        """Energy, enstrophy, palinstrophy and injected energy of each run."""
        power = self._weight * (spectrum.real.square() + spectrum.imag.square())
        energy, enstrophy, palinstrophy = (
            (power * each).sum((1, 2)) / 2 for each in (self._inverse, self._kept, self._square)
        )
        injection = torch.zeros_like(energy)
        if self._force_u is not None:
            u = self._to_u * spectrum
            injection = (self._weight * (u.conj() * self._force_u).real).sum((1, 2))
        if isinstance(self.force, Ring):
            injection = self.force.power.to(energy)
        return Budget(energy, enstrophy, palinstrophy, injection)

    def _change(self, w: Tensor) -> Tensor:
        """What advection and a steady force do to the spectrum, 1/s²."""
        velocity = w.new_empty(2, *w.shape)
        torch.mul(w, self._to_u, out=velocity[0])
        torch.mul(w, self._to_v, out=velocity[1])
        u, v = irfft2(velocity, s=(self.points, self.points))
        products = u.new_empty(2, *u.shape)
        torch.mul(u, v, out=products[0])
        torch.mul(v - u, v + u, out=products[1])
        product, difference = rfft2(products)
        return self._of_product * product + self._of_difference * difference + self._curl

    def _cells(self, spectrum: Tensor) -> Tensor:
        """The largest |u| + |v| in cells a step, (B,)."""
        speed = self.velocity(spectrum).abs().sum(1).amax((1, 2))
        return speed * (self.dt_s * self.points / self.length_m)


class _RingNoise:
    """Kicks to the modes of a ring: √(2 P Δt n⁴/M) |k| times complex normal numbers, M modes in the whole plane."""

    def __init__(self, ring: Ring, points: int, length_m: float, dt_s: float, like: Tensor) -> None:
        y, x, kept = _wave_vectors(points, torch.device("cpu"))
        length = torch.hypot(x, y)
        half = (x > 0) | (y > 0)  # of a mode and its mirror image, one
        self._rows, self._columns = ((length >= ring.low) & (length <= ring.high) & kept & half).nonzero().T
        count = len(self._rows)
        if not count:
            raise InputError(
                f"no resolved wave vector has a length of {ring.low:g}–{ring.high:g}: widen the ring"
            )
        self._k = (length[self._rows, self._columns] * (2 * math.pi / length_m)).to(like.dtype)
        self._amplitude = (
            points**2 * (2 * ring.power.cpu().to(like.dtype) * dt_s / (2 * count)).sqrt()[:, None]
        )
        self._generators = [_generator(ring.seed, ring.first + row) for row in range(len(ring.power))]
        self._points, self._like = points, like

    def draw(self) -> Tensor:
        """The kicks of one step, (B, n, n/2 + 1)."""
        n, count, like = self._points, len(self._k), self._like
        normal = torch.stack([torch.randn(2, count, generator=g, dtype=like.dtype) for g in self._generators])
        kicks = torch.view_as_complex(normal.movedim(1, -1).contiguous()) * (
            self._amplitude * self._k / math.sqrt(2)
        )
        spectrum = kicks.new_zeros(len(kicks), n, n // 2 + 1)
        spectrum[:, self._rows, self._columns] = kicks
        own = self._columns == 0  # the first column holds both a mode and its mirror image
        spectrum[:, -self._rows[own], 0] = kicks[:, own].conj()
        return spectrum.to(like.device)


def random_vorticity(
    number: int, points: int, seed: int, peak: float = 4.0, energy: float = 0.5, length_m: float = 2 * math.pi
) -> Tensor:
    """Gaussian random vorticity, (B, n, n) float32, 1/s, with the mean ``energy`` (m²/s²) in each run.

    E(k) ∝ k⁷ exp(−3.5 (k/peak)²), k in 2π/L (McWilliams, J. Fluid Mech. 146, 1984, has a broader one). A run is set
    by ``seed`` and its row alone.
    """
    generators = [_generator(seed, row) for row in range(number)]
    white = torch.stack([torch.randn(points, points, generator=g, dtype=torch.float64) for g in generators])
    y, x, kept = _wave_vectors(points, white.device)
    k = torch.hypot(x, y)
    spectrum = rfft2(white) * kept * k**4 * torch.exp(-1.75 * (k / peak) ** 2)
    velocity = irfft2(
        torch.stack([1j * y * spectrum, -1j * x * spectrum], 1) / k.square().clamp(min=1), s=white.shape[1:]
    )
    now = velocity.square().sum(1).mean((1, 2)) / 2 * (length_m / (2 * math.pi)) ** 2
    return (irfft2(spectrum, s=white.shape[1:]) * (energy / now).sqrt()[:, None, None]).float()


def _generator(seed: int, run: int) -> torch.Generator:
    """Of one run, unlike that of any other run of any seed."""
    return torch.Generator().manual_seed(
        int(np.random.SeedSequence((seed, run)).generate_state(1, np.uint64)[0] >> 1)
    )


def _wave_vectors(points: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """k_y (n, 1) and k_x (n/2 + 1,) in 2π/L, in the order of rfft2, and which vectors the 2/3 rule keeps."""
    y = torch.fft.fftfreq(points, 1 / points, dtype=torch.float64, device=device)[:, None]
    x = torch.arange(points // 2 + 1, dtype=torch.float64, device=device)
    return y, x, (3 * y.abs() < points) & (3 * x < points)


def _check(
    viscosity: Tensor,
    points: int,
    dt_s: float,
    length_m: float,
    friction: float,
    force: Kolmogorov | Ring | None,
) -> None:
    if points < 8 or points % 2:
        raise InputError(f"an even number of points, 8 or more, is needed, found {points}")
    if not (0 < dt_s < math.inf and 0 < length_m < math.inf):
        raise InputError(f"time step and length must be positive, found {dt_s:g} s and {length_m:g} m")
    if not bool(((viscosity >= 0) & viscosity.isfinite()).all()) or not 0 <= friction < math.inf:
        raise InputError(
            f"viscosity and friction must not be negative: energy would grow without bound; found "
            f"{float(viscosity.min()):g} m²/s and {friction:g} 1/s"
        )
    if isinstance(force, Kolmogorov) and not 1 <= force.wavenumber < points / 3:
        raise InputError(
            f"the force has wavenumber {force.wavenumber}; {points} points resolve 1 to {(points - 1) // 3}"
        )
    if force is not None:
        rows = len(force.amplitude if isinstance(force, Kolmogorov) else force.power)
        if rows != len(viscosity):
            raise InputError(
                f"a force for {rows} runs and a viscosity for {len(viscosity)}: give one for each run"
            )
    if isinstance(force, Ring) and not bool((force.power >= 0).all()):
        raise InputError("the power of the force must not be negative")
