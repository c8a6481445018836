"""Pictures of objects on a table: simulated ones by the thousand, and realistic ones that are hard to come by.

    python -m sciencevae.builtin.objects.simulate objects.h5 --plain 100 --randomised 100 --realistic 20

Called by ``fetch`` for a manifest whose source is ``generate: {command: sciencevae.builtin.objects.simulate}``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from sciencevae.data.generate import chosen_parameters
from sciencevae.errors import InputError

from .rasterise import rasterised
from .scenes import SIZE, UNSEEN, Camera, Mesh, beside, box, cylinder, placed, together
from .settings import Setup
from .world import World, world

__all__ = ["DEFAULTS", "VERSION", "canonical", "generate", "twin_of"]

VERSION: int = 1
"""Raised whenever the same parameters and seed would give other pictures."""

COUNTS: dict[str, int] = {"plain": 100, "randomised": 100, "realistic": 20, "unseen": 4, "samples": 16}

DEFAULTS: dict[str, Any] = COUNTS | {"setup": None}

#: others lie within ± so many millimetres of the middle of the built-in table
_FIELD = 80.0
_LIGHT = (0.3, -0.3, 0.9)


def generate(
    path: Path, parameters: Mapping[str, Any], seed: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write pictures with their poses to ``path`` (HDF5), in the groups plain, randomised and realistic.

    ``parameters``: how many pictures of each; unseen, how many more of the realistic ones, at their end, show an
    object that is never simulated; samples, paths of light for each pixel of a realistic one; setup, the solids and
    the camera, as of ``settings.Setup``. The same parameters and seed give the same file contents.

    plain: one light, one table, objects of about one colour, few others beside them. randomised: lights, colours,
    textures, camera, others, blur and noise all drawn from wide ranges (domain randomisation). realistic: by
    another renderer (``realistic.py``). Datasets of each group: pictures (n, 64, 64, 3) uint8; position (n, 2), x
    and y on the table in millimetres; heading (n,) in radians; kind (n,), a number in the attribute ``kinds``.
    """
    chosen = chosen_parameters("objects", parameters, DEFAULTS)
    counts = {name: chosen[name] for name in ("plain", "randomised", "realistic", "unseen")}
    for name, count in ((name, chosen[name]) for name in COUNTS):
        if isinstance(count, bool) or not isinstance(count, int) or count < (name == "samples"):
            raise InputError(f"{name} is a whole number, 0 or more, not {count!r}")
    total = sum(counts.values())
    if not total:
        raise InputError("plain, randomised and realistic are all 0: there is nothing to draw")
    given = chosen.pop("setup")
    setup = None if given is None else Setup.model_validate(given)
    own = world(setup)
    names = (*own.kinds, UNSEEN)
    done = 0
    with h5py.File(path, "w") as file:
        recipe = {"version": VERSION, "seed": seed, "parameters": chosen}
        # the built-in setup is known by the version
        if setup is not None:
            recipe["setup"] = setup.content()
        file.attrs["recipe"] = json.dumps(recipe, sort_keys=True)
        file.attrs["kinds"] = names
        for number, group in enumerate(("plain", "randomised", "realistic")):
            count = counts[group] + (counts["unseen"] if group == "realistic" else 0)
            pictures = np.zeros((count, SIZE, SIZE, 3), np.uint8)
            poses, kinds = np.zeros((count, 3)), np.zeros(count, np.int32)
            for i in range(count):
                # each picture by a generator of its own: more of them leave the first ones as they are
                random = np.random.default_rng((seed, number, i))
                unseen = group == "realistic" and i >= counts["realistic"]
                kinds[i] = len(own.kinds) if unseen else random.integers(len(own.kinds))
                poses[i] = *random.uniform(-own.reach, own.reach, 2), random.uniform(-np.pi, np.pi)
                pictures[i] = _picture(own, group, names[kinds[i]], poses[i], chosen["samples"], random)
                done += 1
                if progress is not None:
                    progress(done, total)
            part = file.create_group(group)
            part.create_dataset("pictures", data=pictures, compression="gzip", compression_opts=1)
            part["position"], part["heading"] = (
                poses[:, :2].astype(np.float32),
                poses[:, 2].astype(np.float32),
            )
            part["kind"] = kinds


def _picture(
    own: World, group: str, kind: str, pose: np.ndarray, samples: int, random: np.random.Generator
) -> np.ndarray:
    if group == "realistic":
        from .realistic import photographed

        picture = photographed(kind, pose, samples, random)
    elif group == "plain":
        picture = _plain(own, kind, pose, random)
    else:
        picture = _randomised(own, kind, pose, random)
    return np.round(255 * picture.clip(0, 1)).astype(np.uint8)


def canonical(own: World, kind: str, x: float, y: float, heading: float) -> np.ndarray:
    """The object alone at its pose, as the simulation always shows it, (SIZE, SIZE, 3).

    Its light comes from above the camera: seen in a mirror it is that of the mirrored pose.
    """
    solid = placed(own.solids[kind], (x, y, heading))
    return rasterised(
        [(solid, (0.85, 0.3, 0.2))], own.camera, (0.0, -0.3, 0.95), 0.45, (0.35, 0.4, 0.45), 0.5
    )


def twin_of(own: World, kind: str, x: float, y: float, heading: float) -> np.ndarray:
    """The same as a field of the model, (3, SIZE/2, SIZE/2)."""
    drawn = canonical(own, kind, x, y, heading)
    return drawn.reshape(SIZE // 2, 2, SIZE // 2, 2, 3).mean((1, 3)).transpose(2, 0, 1)


def _plain(own: World, kind: str, pose: np.ndarray, random: np.random.Generator) -> np.ndarray:
    colour = np.array([0.8, 0.35, 0.25]) + random.normal(0, 0.08, 3)
    solids = [(placed(own.solids[kind], pose), colour)]
    solids += [
        (_other(own, random, pose), random.uniform(0.05, 0.95, 3)) for _ in range(random.integers(0, 3))
    ]
    light = np.add(_LIGHT, [*random.normal(0, 0.1, 2), 0])
    table = np.full(3, 0.5) * random.uniform(0.8, 1.2)
    picture = rasterised(solids, own.camera, light, 0.45, table, 0.5)
    return picture + random.normal(0, 0.01, picture.shape)


def _randomised(own: World, kind: str, pose: np.ndarray, random: np.random.Generator) -> np.ndarray:
    solids = [
        (placed(own.solids[kind], pose, scale=random.uniform(0.9, 1.1)), random.uniform(0.05, 0.95, 3)),
        *(
            (_other(own, random, pose, wide=True), random.uniform(0.05, 0.95, 3))
            for _ in range(random.integers(0, 4))
        ),
    ]
    across, up = random.uniform(0, 2 * np.pi), random.uniform(0.5, 1.4)
    light = (np.cos(across) * np.cos(up), np.sin(across) * np.cos(up), np.sin(up))
    believed, nearer = own.camera, own.camera.distance / Camera().distance
    camera = Camera(
        np.array(believed.place) + nearer * random.normal(0, 5, 3),
        np.array(believed.target) + own.size * np.array([*random.normal(0, 2, 2), 0.0]),
        believed.view + believed.view / Camera.view * random.normal(0, 0.2),
        believed.roll + random.normal(0, 1),
    )
    table = random.uniform(0.1, 0.9, 3) * _texture(random)[..., None]
    picture = rasterised(solids, camera, light, random.uniform(0.25, 0.7), table, random.uniform(0.1, 0.8))
    blur = random.uniform(0, 0.8)
    picture = gaussian_filter(picture, (blur, blur, 0)) * random.uniform(0.6, 1.4)
    picture *= 1 + random.normal(0, 0.05, 3)
    return picture + random.normal(0, random.uniform(0, 0.06), picture.shape)


def _other(own: World, random: np.random.Generator, pose: np.ndarray, wide: bool = False) -> Mesh:
    """Something else on the table, beside the object."""
    place = beside(pose, own.size * _FIELD, random, own.reach)
    r, shape = own.size * random.uniform(8, 18), random.integers(3)
    if shape == 0:
        solid = box(0, 0, 0.8 * r, 1.6 * r, 1.6 * r, 1.6 * r)
    elif shape == 1:
        solid = cylinder(0, 0, r, r, 2 * r, random.uniform(0.1, 1) if wide else 1.0)
    else:
        solid = _ball(r)
    return placed(solid, (*place, random.uniform(0, 2 * np.pi)))


def _ball(radius: float) -> Mesh:
    """Slices of cones."""
    rings = np.linspace(0.05, np.pi - 0.05, 7)
    parts = []
    for upper, lower in pairwise(rings):
        middle = radius * (1 + (np.cos(upper) + np.cos(lower)) / 2)
        high = radius * (np.cos(upper) - np.cos(lower))
        taper = np.sin(upper) / np.sin(lower)
        parts.append(cylinder(0, 0, middle, radius * np.sin(lower), high, taper, sides=10))
    return together(parts)


def _texture(random: np.random.Generator) -> np.ndarray:
    """Brightness of the table, (n, n) about 1: even, clouds, stripes or squares."""
    size, kind = 2 * SIZE, random.integers(4)
    if kind == 0:
        return np.ones((size, size))
    if kind == 1:
        clouds = zoom(random.standard_normal((9, 9)), size / 9, order=1)
        return (1 + 0.25 * clouds[:size, :size]).clip(0.2, 2)
    if kind == 2:
        angle, often = random.uniform(0, np.pi), random.uniform(3, 20)
        y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
        return 1 + 0.3 * np.sign(np.sin(often * (np.cos(angle) * x + np.sin(angle) * y)))
    squares = random.standard_normal((size // 4, size // 4)).repeat(4, 0).repeat(4, 1)
    return (1 + 0.2 * squares).clip(0.2, 2)


def main(argv: list[str] | None = None) -> None:
    """The command in the docstring of this module."""
    import argparse

    from sciencevae.data.generate import generate_file

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path)
    for name, default in COUNTS.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--seed", type=int, default=0)
    chosen = vars(parser.parse_args(argv))
    path, seed = chosen.pop("path"), chosen.pop("seed")
    generate_file(generate, path, chosen, seed)


if __name__ == "__main__":
    main()
