"""Monte Carlo of the XY model on a periodic square lattice: independent chains, several per temperature.

    E = −J Σ_⟨ij⟩ cos(θ_i − θ_j),    k_B = J = 1,    p(θ) ∝ exp(−E/T)

One *update* is a Metropolis sweep, some over-relaxation sweeps (a reflection of each spin about its local
field, at constant energy) and some Wolff clusters; each leaves p(θ) invariant. Spins are unit vectors, so no
update needs a sine. A chain owns its random state (xoshiro256++, seeded from ``numpy.random.SeedSequence``),
so what it draws depends on its seed alone and not on how many threads run beside it.

References: Wolff (1989) PRL 62, 361; Creutz (1987) PRD 36, 515 (over-relaxation); Blackman and Vigna (2021)
ACM TOMS 47, 36 (xoshiro256++); Sokal (1997) in Functional Integration, NATO ASI 361 (autocorrelation).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

import numpy as np
from numba import njit, uint64

from sciencevae.errors import InputError

from .observables import autocorrelation_time

__all__ = ["COLUMNS", "Chain", "ChainSettings", "run_chain", "run_chains", "run_temperature"]

COLUMNS = ("energy", "mx", "my", "cos_x", "cos_y", "sin_x", "sin_y", "vortices")
"""What is measured on each configuration: energy and vortices per site, magnetisation per site, bond sums."""

_BELOW_PI = np.float32(3.1415925)  # the largest float32 not above π


@dataclass(frozen=True)
class ChainSettings:
    """How one chain is run; the defaults were the fastest of those tried (``benchmarks/xy_sampler.py``)."""

    overrelaxation: int = 1  # sweeps in one update
    clusters: int = 3  # Wolff clusters in one update
    thermalise: int = 200  # updates before anything is measured: ≥ 30 autocorrelation times up to L = 64
    pilot: int = 1024  # updates over which τ_int is measured, shared by the chains of a temperature
    spacing: float = 2.0  # updates between stored configurations, in integrated autocorrelation times


@dataclass(frozen=True)
class Chain:
    """What one chain gave: n configurations, their observables and how they were thinned."""

    theta: np.ndarray  # (n, L, L) float32, in (−π, π]
    observables: np.ndarray  # (n, len(COLUMNS)) float64
    tau_int: float  # integrated autocorrelation time of the slowest observable, in updates
    thinning: int  # updates between stored configurations


@njit(inline="always")
def _rotl(x, k):  # type: ignore[no-untyped-def]
    return (x << uint64(k)) | (x >> uint64(64 - k))


@njit(inline="always")
def _uniform(state):  # type: ignore[no-untyped-def]
    """A float in [0, 1) from xoshiro256++, whose state (4,) uint64 is advanced."""
    s0, s1, s2, s3 = state[0], state[1], state[2], state[3]
    result = _rotl(s0 + s3, 23) + s0
    s2 ^= s0
    s3 ^= s1
    state[1] = s1 ^ s2
    state[0] = s0 ^ s3
    state[2] = s2 ^ (s1 << uint64(17))
    state[3] = _rotl(s3, 45)
    return float(result >> uint64(11)) * (1.0 / 9007199254740992.0)


@njit(cache=True, nogil=True)
def _metropolis(spins, beta, window, state):  # type: ignore[no-untyped-def]
    """One sweep; proposals turn a spin by 2 atan(u), u uniform in ±window. Returns the accepted fraction."""
    side, accepted = spins.shape[0], 0
    for i in range(side):
        up, down = (i - 1) % side, (i + 1) % side
        for j in range(side):
            left, right = (j - 1) % side, (j + 1) % side
            hx = spins[up, j, 0] + spins[down, j, 0] + spins[i, left, 0] + spins[i, right, 0]
            hy = spins[up, j, 1] + spins[down, j, 1] + spins[i, left, 1] + spins[i, right, 1]
            u = window * (2.0 * _uniform(state) - 1.0)
            scale = 1.0 / (1.0 + u * u)
            c, s = (1.0 - u * u) * scale, 2.0 * u * scale
            x, y = spins[i, j, 0], spins[i, j, 1]
            new_x, new_y = c * x - s * y, s * x + c * y
            gain = beta * (hx * (new_x - x) + hy * (new_y - y))
            if gain >= 0.0 or _uniform(state) < math.exp(gain):
                norm = 1.5 - 0.5 * (new_x * new_x + new_y * new_y)  # a Newton step back to length 1
                spins[i, j, 0], spins[i, j, 1] = norm * new_x, norm * new_y
                accepted += 1
    return accepted / (side * side)


@njit(cache=True, nogil=True)
def _overrelax(spins):  # type: ignore[no-untyped-def]
    """One sweep of reflections about the local field: E is unchanged."""
    side = spins.shape[0]
    for i in range(side):
        up, down = (i - 1) % side, (i + 1) % side
        for j in range(side):
            left, right = (j - 1) % side, (j + 1) % side
            hx = spins[up, j, 0] + spins[down, j, 0] + spins[i, left, 0] + spins[i, right, 0]
            hy = spins[up, j, 1] + spins[down, j, 1] + spins[i, left, 1] + spins[i, right, 1]
            square = hx * hx + hy * hy
            if square > 1e-20:
                x, y = spins[i, j, 0], spins[i, j, 1]
                along = 2.0 * (x * hx + y * hy) / square
                spins[i, j, 0], spins[i, j, 1] = along * hx - x, along * hy - y


@njit(cache=True, nogil=True)
def _wolff(spins, beta, members, seen, state):  # type: ignore[no-untyped-def]
    """Grow one cluster from a random site and reflect it across a random line. Returns its size."""
    side = spins.shape[0]
    angle = 2.0 * math.pi * _uniform(state)
    rx, ry = math.cos(angle), math.sin(angle)
    members[0] = int(_uniform(state) * side * side)
    seen[members[0] // side, members[0] % side] = True
    size, head = 1, 0
    while head < size:
        i, j = members[head] // side, members[head] % side
        head += 1
        x, y = spins[i, j, 0], spins[i, j, 1]
        along = x * rx + y * ry
        spins[i, j, 0], spins[i, j, 1] = x - 2.0 * along * rx, y - 2.0 * along * ry
        for k in range(4):  # on a 2 × 2 lattice each neighbour comes twice: the double bond is tried twice
            ni, nj = i, j
            if k == 0:
                ni = i + 1 if i + 1 < side else 0
            elif k == 1:
                ni = i - 1 if i > 0 else side - 1
            elif k == 2:
                nj = j + 1 if j + 1 < side else 0
            else:
                nj = j - 1 if j > 0 else side - 1
            if not seen[ni, nj]:
                bond = 2.0 * beta * along * (spins[ni, nj, 0] * rx + spins[ni, nj, 1] * ry)
                if bond > 0.0 and _uniform(state) > math.exp(-bond):
                    seen[ni, nj] = True
                    members[size] = ni * side + nj
                    size += 1
    for k in range(size):
        seen[members[k] // side, members[k] % side] = False
    return size


@njit(cache=True, nogil=True)
def _rotate(spins, state):  # type: ignore[no-untyped-def]
    """Turn all spins by one random angle: an exact symmetry, so the direction of m never correlates."""
    angle = 2.0 * math.pi * _uniform(state)
    c, s = math.cos(angle), math.sin(angle)
    for i in range(spins.shape[0]):
        for j in range(spins.shape[1]):
            x, y = spins[i, j, 0], spins[i, j, 1]
            spins[i, j, 0], spins[i, j, 1] = c * x - s * y, s * x + c * y


@njit(cache=True, nogil=True)
def _measure(spins, row):  # type: ignore[no-untyped-def]
    """Fill ``row`` with COLUMNS, the vortices excepted."""
    side = spins.shape[0]
    row[:] = 0.0
    for i in range(side):
        down = i + 1 if i + 1 < side else 0
        for j in range(side):
            right = j + 1 if j + 1 < side else 0
            x, y = spins[i, j, 0], spins[i, j, 1]
            row[1] += x
            row[2] += y
            row[3] += x * spins[i, right, 0] + y * spins[i, right, 1]
            row[4] += x * spins[down, j, 0] + y * spins[down, j, 1]
            row[5] += x * spins[i, right, 1] - y * spins[i, right, 0]
            row[6] += x * spins[down, j, 1] - y * spins[down, j, 0]
    sites = side * side
    row[0] = -(row[3] + row[4]) / sites
    row[1] /= sites
    row[2] /= sites


@njit(cache=True, nogil=True)
def _vortices(theta):  # type: ignore[no-untyped-def]
    """Vortices and antivortices per site: plaquettes around which θ turns by ±2π."""
    side, count = theta.shape[0], 0
    turn = 2.0 * math.pi
    for i in range(side):
        down = i + 1 if i + 1 < side else 0
        for j in range(side):
            right = j + 1 if j + 1 < side else 0
            a, b, c, d = theta[i, j], theta[i, right], theta[down, right], theta[down, j]
            across = round((b - a) / turn) + round((c - b) / turn)
            back = round((d - c) / turn) + round((a - d) / turn)
            if across + back != 0:
                count += 1
    return count / (side * side)


@njit(cache=True, nogil=True)
def _advance(spins, beta, window, overrelaxation, clusters, updates, members, seen, state):  # type: ignore[no-untyped-def]
    """Make ``updates`` updates; returns the mean accepted fraction of the Metropolis sweeps."""
    accepted = 0.0
    for _ in range(updates):
        accepted += _metropolis(spins, beta, window, state)
        for _ in range(overrelaxation):
            _overrelax(spins)
        for _ in range(clusters):
            _wolff(spins, beta, members, seen, state)
    return accepted / max(updates, 1)


@njit(cache=True, nogil=True)
def _record(spins, beta, window, overrelaxation, clusters, thinning, members, seen, state, rows, theta):  # type: ignore[no-untyped-def]
    """Fill ``rows`` (n, 8), and ``theta`` (n, L, L) unless it is empty, ``thinning`` updates apart."""
    side = spins.shape[0]
    for k in range(rows.shape[0]):
        _advance(spins, beta, window, overrelaxation, clusters, thinning, members, seen, state)
        if theta.shape[0] > 0:
            _rotate(spins, state)
            for i in range(side):
                for j in range(side):
                    angle = np.float32(math.atan2(spins[i, j, 1], spins[i, j, 0]))
                    theta[k, i, j] = min(max(angle, -_BELOW_PI), _BELOW_PI)
        _measure(spins, rows[k])
        if theta.shape[0] > 0:
            rows[k, 7] = _vortices(theta[k])


def _start(lattice: int, seed: np.random.SeedSequence) -> tuple[np.ndarray, ...]:
    """Spins all along x, room for a cluster and its marks, and the random state."""
    spins = np.zeros((lattice, lattice, 2))
    spins[..., 0] = 1.0
    sites = lattice * lattice
    marks = np.zeros((lattice, lattice), np.bool_)
    return spins, np.empty(sites, np.int64), marks, seed.generate_state(4, np.uint64)


def run_temperature(
    lattice: int,
    temperature: float,
    sizes: Sequence[int],
    seeds: Sequence[np.random.SeedSequence],
    settings: ChainSettings | None = None,
) -> list[Chain]:
    """Independent chains at one temperature, ``sizes`` configurations each, about ``spacing`` · τ_int apart.

    Each chain thermalises from the ordered state while its Metropolis window is tuned. τ_int is measured on
    all chains together, for E, m² and (Σ sin)² in x and y; the largest decides. Every
    ``ceil(spacing · τ_int)``-th update is then stored.
    """
    how = settings or ChainSettings()
    if lattice < 2 or min(sizes) < 1 or not temperature > 0:
        raise InputError(
            f"an XY chain needs lattice ≥ 2, samples ≥ 1 and temperature > 0; "
            f"found lattice={lattice}, samples={min(sizes)}, temperature={temperature}"
        )
    beta, mix = 1.0 / temperature, (how.overrelaxation, how.clusters)
    starts, windows, pilots = [_start(lattice, seed) for seed in seeds], [], []
    unused = np.empty((0, 1, 1), np.float32)
    for spins, members, marks, state in starts:
        window = min(1.0, 0.7 * math.sqrt(temperature))
        for _ in range(4):  # aim at half of the proposals accepted
            accepted = _advance(spins, beta, window, *mix, max(1, how.thermalise // 4), members, marks, state)
            window = min(4.0, max(0.05, window * (0.5 + accepted)))
        rows = np.empty((max(64, how.pilot // len(seeds)), len(COLUMNS)))
        _record(spins, beta, window, *mix, 1, members, marks, state, rows, unused)
        windows.append(window)
        pilots.append(np.stack([rows[:, 0], np.square(rows[:, 1:3]).sum(1), *np.square(rows[:, 5:7].T)]))
    tau = max(autocorrelation_time(series)[0] for series in np.stack(pilots, 1))  # each (chains, updates)
    thinning = max(1, math.ceil(how.spacing * tau))
    result = []
    for (spins, members, marks, state), window, samples in zip(starts, windows, sizes, strict=True):
        rows = np.empty((samples, len(COLUMNS)))
        theta = np.empty((samples, lattice, lattice), np.float32)
        _record(spins, beta, window, *mix, thinning, members, marks, state, rows, theta)
        result.append(Chain(theta, rows, tau, thinning))
    return result


def run_chain(
    lattice: int, temperature: float, samples: int, seed: int, settings: ChainSettings | None = None
) -> Chain:
    """One chain.

    >>> chain = run_chain(lattice=8, temperature=0.9, samples=10, seed=1)
    >>> chain.theta.shape, chain.observables.shape
    ((10, 8, 8), (10, 8))
    """
    return run_temperature(lattice, temperature, [samples], [np.random.SeedSequence(seed)], settings)[0]


def run_chains(
    lattice: int,
    temperatures: Sequence[float],
    samples: int,
    chains: int,
    seed: int,
    *,
    threads: int | None = None,
    settings: ChainSettings | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, list[Chain]]]:
    """Yield (position of the temperature, its chains) as they finish, temperatures side by side in threads.

    Each temperature gets ``samples`` configurations, shared out over its ``chains``. ``progress`` is called
    with (temperatures done, temperatures in all). What is drawn does not depend on ``threads``.
    """
    if chains < 1 or samples < chains:
        raise InputError(
            f"need samples ≥ chains ≥ 1 at each temperature; found samples={samples}, chains={chains}"
        )
    total = len(temperatures)
    seeds = np.random.SeedSequence(seed).spawn(total * chains)
    sizes = [samples // chains + (replica < samples % chains) for replica in range(chains)]
    workers = threads or len(os.sched_getaffinity(0))

    def task(k: int) -> tuple[int, list[Chain]]:
        own = seeds[k * chains : (k + 1) * chains]
        return k, run_temperature(lattice, temperatures[k], sizes, own, settings)

    with ThreadPoolExecutor(max_workers=max(1, min(workers, total))) as pool:
        pending = [pool.submit(task, k) for k in range(total)]
        try:
            for done, future in enumerate(as_completed(pending), start=1):
                yield future.result()
                if progress is not None:
                    progress(done, total)
        finally:
            for future in pending:
                future.cancel()
