"""The wake of a cylinder at Re = 100 (PySINDy's example data, MIT): a rank-9 reconstruction on spectral elements.

Not raw snapshots: u(x, t) = base(x) + Σ_i a_i(t) mode_i(x), the unstable steady flow, eight POD modes of the
saturated wake and the shift mode (Noack et al. 2003, J. Fluid Mech. 497, 335), mass-orthonormal on 2,622 elements
of 7 × 7 Gauss–Lobatto–Legendre nodes; the mass is the quadrature weight. So the mass-weighted Gaussian likelihood
of all nodes is exactly that of the nine coefficients, which is what the model is given. In units of the diameter D
and the inflow U; the domain −5 ≤ y ≤ 5 is narrow (blockage 10 %), hence its Strouhal number of 0.179.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.errors import InputError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["NOTE", "open_wake", "read_nek"]

NOTE = "a rank-9 reconstruction of a simulation (base flow and nine modes), not its snapshots"
REYNOLDS, RADIUS = 100.0, 0.5
_MODES = 9
_COEFFICIENTS = "vonKarman_a.dat"


def open_wake(path: Path) -> xr.Dataset:
    """Coefficients (run, time, mode) and their basis, from the source's folder or from one .npz of it.

    The folder: ``vonKarman_a.dat``, ``mass_matrix.dat`` and the Nek5000 files ``cyl0.f00001`` (base flow) to
    ``cyl0.f00010`` (modes). The .npz: a_t (T,), a (T, 9), x, y, mass (E, 7, 7), base_u, base_v (E, 7, 7), mode_u,
    mode_v (9, E, 7, 7). InputError for anything else.
    """
    import xarray as xr

    found = _from_folder(path) if path.is_dir() else _from_npz(path)
    modes = np.stack([found["mode_u"], found["mode_v"]], 1)  # (9, 2, P)
    mass = found["mass"]
    gram = np.einsum("icp,jcp,p->ij", modes, modes, mass)
    if (worst := float(np.abs(gram - np.eye(_MODES)).max())) > 1e-3:
        raise InputError(f"{path}: the modes are not orthonormal in their mass (by {worst:.2g})")
    stay = {"travels": 0}
    return xr.Dataset(
        {"coefficients": (("run", "time", "mode"), found["a"][None], {"units": "1"})},
        {
            "time": ("time", np.round(found["t"], 6), {"units": "D/U"}),
            "basis_mean": (("field", "point"), np.stack([found["base_u"], found["base_v"]]), stay),
            "basis_modes": (("mode", "field", "point"), modes.astype(np.float32), stay),
            "basis_mass": ("point", mass, stay),
            "basis_scale": ("field", np.ones(2), stay),
            "basis_x": ("point", found["x"], stay | {"units": "D"}),
            "basis_y": ("point", found["y"], stay | {"units": "D"}),
        },
        {
            "channels": ["u", "v"],
            "units": ["U", "U"],
            "odd_modes": _odd(modes, mass, found["x"], found["y"]),
            "note": NOTE,
            "reynolds": REYNOLDS,
            "hole": RADIUS,
        },
    )


def read_nek(path: Path) -> dict[str, np.ndarray]:
    """A 2-D Nek5000 field file: x, y, u, v, and p and t where they are there, each (elements, 7, 7) in order.

    The format: a header of 132 characters, a float that tells the byte order, the elements' numbers, then field by
    field the values of all elements (Nek5000 documentation, "field files").
    """
    raw = path.read_bytes()
    header = raw[:132].split()
    if len(raw) < 136 or header[:1] != [b"#std"] or header[1] not in (b"4", b"8"):
        raise InputError(f"{path} is no Nek5000 field file")
    order = "<" if abs(np.frombuffer(raw, "<f4", 1, 132)[0] - 6.54321) < 1e-4 else ">"
    kind = np.dtype(f"{order}f{header[1].decode()}")
    n, depth, elements = int(header[2]), int(header[4]), int(header[5])
    if depth != 1:
        raise InputError(f"{path} is three-dimensional; a planar flow is read")
    numbers = np.frombuffer(raw, f"{order}i4", elements, 136)
    place, back = 136 + 4 * elements, np.argsort(numbers)
    found: dict[str, np.ndarray] = {}
    for block in header[11].decode():
        names = {"X": ("x", "y"), "U": ("u", "v"), "P": ("p",), "T": ("t",)}.get(block, ())
        count = elements * len(names) * n * n
        if place + count * kind.itemsize > len(raw):
            raise InputError(f"{path} ends within its field {block!r}: fetch it again")
        values = np.frombuffer(raw, kind, count, place).reshape(elements, len(names), n, n)[back]
        found |= {name: values[:, k] for k, name in enumerate(names)}
        place += count * kind.itemsize
    return found


def _from_npz(path: Path) -> dict[str, Any]:
    from sciencevae.data.arrays import Arrays

    wanted = ("a_t", "a", "x", "y", "mass", "base_u", "base_v", "mode_u", "mode_v")
    with Arrays(path, "a") as file:
        if missing := [name for name in wanted if name not in file]:
            raise InputError(f"{path} is no cylinder wake: it has no array {missing[0]!r}")
        found = {name: np.asarray(file[name], np.float64) for name in wanted}
    flat = {name: found[name].reshape(-1) for name in ("x", "y", "mass", "base_u", "base_v")}
    modes = {name: found[name].reshape(_MODES, -1) for name in ("mode_u", "mode_v")}
    return flat | modes | {"t": found["a_t"], "a": found["a"]}


def _from_folder(path: Path) -> dict[str, Any]:
    for name in (_COEFFICIENTS, "mass_matrix.dat", "cyl0.f00001", f"cyl0.f{_MODES + 1:05d}"):
        if not (path / name).is_file():
            raise InputError(f"{path} is no cylinder wake: it has no file {name!r}")
    base = read_nek(path / "cyl0.f00001")
    modes = [read_nek(path / f"cyl0.f{k + 2:05d}") for k in range(_MODES)]
    table = np.loadtxt(path / _COEFFICIENTS)
    return {
        "x": base["x"].reshape(-1).astype(np.float64),
        "y": base["y"].reshape(-1).astype(np.float64),
        "mass": np.loadtxt(path / "mass_matrix.dat"),
        "base_u": base["u"].reshape(-1).astype(np.float64),
        "base_v": base["v"].reshape(-1).astype(np.float64),
        "mode_u": np.stack([mode["u"].reshape(-1) for mode in modes]).astype(np.float64),
        "mode_v": np.stack([mode["v"].reshape(-1) for mode in modes]).astype(np.float64),
        "t": table[:, 0],
        "a": table[:, 1 : _MODES + 1],
    }


def _odd(modes: np.ndarray, mass: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[int]:
    """Which modes (K, 2, P) are odd under (x, y; u, v) → (x, −y; u, −v): 1 or 0 each, by the nearest nodes."""
    from scipy.spatial import cKDTree

    some = np.arange(0, len(x), 17)
    _, near = cKDTree(np.stack([x, y], 1)).query(np.stack([x[some], -y[some]], 1))
    image = modes[:, :, near] * np.array([1.0, -1.0])[:, None]
    overlap = np.einsum("kcp,kcp,p->k", modes[:, :, some], image, mass[some])
    return [int(value < 0) for value in overlap]
