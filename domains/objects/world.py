"""What is simulated: solids, a camera over a table, and how far from its middle objects lie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from sciencevae.data.download import sha256_of
from sciencevae.data.foreign import parsing
from sciencevae.errors import InputError, RunError

from .scenes import REACH, SIZE, Camera, Mesh, box, cylinder, together
from .settings import Setup, Solid

__all__ = ["World", "world"]

_SOLIDS: dict[str, Mesh] = {
    "mug": together([cylinder(0, 0, 22, 19, 44), box(24, 0, 34, 14, 7, 6), box(24, 0, 12, 14, 7, 6),
                     box(30, 0, 23, 6, 7, 28)]),
    "bracket": together([box(10, 0, 6, 56, 22, 12), box(-12, 0, 22, 12, 22, 44)]),
    "tee": together([box(10, 0, 9, 52, 16, 18), box(-18, 0, 9, 16, 60, 18)]),
}  # fmt: skip
#: triangles of a solid, of which each picture draws all
_MOST = 20_000
#: how far a solid may stand above or below the table, and be from its own mirror image, as a share of its size
_NEAR = 0.02


@dataclass(frozen=True, eq=False)
class World:
    """What is simulated.

    files: of solids of one's own, by the name of their kind; none: the built-in ones. camera: as the simulation
    believes it to be. reach: positions lie within ± so many millimetres.

    Raises InputError where the camera does not see all positions.
    """

    files: Mapping[str, Solid] = field(default_factory=dict)
    camera: Camera = field(default_factory=Camera)
    reach: float = REACH

    def __post_init__(self) -> None:
        corners = [(x, y, 0.0) for x in (-self.reach, self.reach) for y in (-self.reach, self.reach)]
        for corner, seen in zip(corners, self.camera.project(np.array(corners)), strict=True):
            if not (seen[2] > 0 and (seen[:2] >= 0).all() and (seen[:2] <= SIZE).all()):
                raise InputError(
                    f"source.setup: the camera does not see {corner[0]:g}, {corner[1]:g} mm on the table: lower "
                    "reach, or give the camera a wider view, another place or another target"
                )

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(self.files or _SOLIDS)

    @cached_property
    def solids(self) -> Mapping[str, Mesh]:
        """Meshes by kind, in millimetres; each stands at its origin on z = 0 and points along x.

        They are read when they are drawn: where poses are only read, their files need not be.

        Raises InputError for a file that is no mesh, is not what it was when the run was configured, is far from
        being in millimetres, or does not stand on z = 0; RunError where no reader of meshes is installed.
        """
        return {name: _read(name, file, self.reach) for name, file in self.files.items()} or _SOLIDS

    @property
    def size(self) -> float:
        """How many times as large as the built-in one the table is."""
        return self.reach / REACH

    @cached_property
    def mirrored(self) -> bool:
        """Whether a mirror shows what might be: the camera stands in the plane x = 0, and solids are symmetric."""
        camera = self.camera
        upright = camera.place[0] == camera.target[0] == camera.roll == 0
        return upright and all(map(_symmetric, self.solids.values()))


def world(setup: Setup | None) -> World:
    """The world of some settings; without any the built-in one."""
    return _made((setup or Setup()).model_dump_json())


@cache
def _made(text: str) -> World:
    setup = Setup.model_validate_json(text)
    camera = Camera() if setup.camera is None else Camera(**setup.camera.model_dump())
    return World(setup.solids or {}, camera, REACH if setup.reach is None else setup.reach)


def _read(name: str, solid: Solid, reach: float) -> Mesh:
    try:
        import trimesh
    except ImportError as error:
        raise RunError(
            "solids are read by trimesh, which is not installed: pip install 'sciencevae[objects]'"
        ) from error
    path = Path(solid.file)
    try:
        found = sha256_of(path)
    except OSError as error:
        raise InputError(
            f"cannot read the solid {name}, {path}: {error.strerror}; put it back, or configure the run again with "
            f"source.setup.solids.{name}"
        ) from error
    if found != solid.sha256:
        raise InputError(
            f"{path} is not what it was when this was configured: configure the run again, with "
            f"source.setup.solids.{name}"
        )
    with parsing(path, "a mesh"):
        made = trimesh.load_mesh(path, process=False, skip_materials=True)
        corners, triangles = np.array(made.vertices, float), np.array(made.faces, np.int64)
    shaped = corners.shape == (len(corners), 3) and triangles.shape == (len(triangles), 3)
    known = shaped and len(triangles) and np.isin(triangles, np.arange(len(corners))).all()
    if not (known and np.isfinite(corners).all() and _areas((corners, triangles)).sum() > 0):
        raise InputError(f"{path} has no triangles, or such without a place: export it again as a mesh")
    if len(triangles) > _MOST:
        raise InputError(
            f"{path} has {len(triangles):,} triangles, and each of thousands of pictures draws all: simplify it to "
            f"{_MOST:,} or fewer"
        )
    low, high = corners.min(0), corners.max(0)
    size = float((high - low).max())
    if not reach / 20 < size < 4 * reach:
        raise InputError(
            f"the solid {name} is {size:.3g} mm long, and source.setup.reach is {reach:g} mm: is its file in "
            "another unit? Scale it to millimetres"
        )
    if (low[:2] > size / 2).any() or (high[:2] < -size / 2).any():
        raise InputError(
            f"the solid {name} lies from {low[0]:.4g}, {low[1]:.4g} to {high[0]:.4g}, {high[1]:.4g} mm, far from "
            "its origin, whose position is asked: move it there"
        )
    if abs(low[2]) > _NEAR * size:
        raise InputError(
            f"the solid {name} begins at z = {low[2]:.3g} mm, and the table is z = 0: move it to stand there, with "
            "the point whose position is asked at x = y = 0, and pointing along x"
        )
    return corners, triangles


def _symmetric(mesh: Mesh) -> bool:
    """Whether a solid is its own mirror image in the plane y = 0, by its corners and by points all over it."""
    from scipy.spatial import KDTree

    corners, triangles = mesh
    near = _NEAR * math.dist(corners.min(0), corners.max(0))
    apart, _ = KDTree(corners).query(corners * [1, -1, 1])
    if apart.max() > near:
        return False
    random, areas = np.random.default_rng(0), _areas(mesh)
    chosen = random.choice(len(triangles), 20_000, p=areas / areas.sum())
    shares = random.dirichlet(np.ones(3), len(chosen))
    points = (shares[:, :, None] * corners[triangles[chosen]]).sum(1)
    apart, _ = KDTree(points).query(points * [1, -1, 1])
    return bool(np.quantile(apart, 0.999) < 2 * near)


def _areas(mesh: Mesh) -> np.ndarray:
    """Twice the area of each triangle."""
    a, b, c = mesh[0][mesh[1]].transpose(1, 0, 2)
    return np.linalg.norm(np.cross(b - a, c - a), axis=1)
