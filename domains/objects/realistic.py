"""Realistic pictures: path-traced scenes whose shapes, materials, light and camera the simulation has not.

The renderer is Mitsuba 3 (Jakob et al. 2022); no code that shades, and no solid, is shared with ``rasterise.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from sciencevae.errors import RunError

from .scenes import REACH, SIZE, Mesh, beside, placed

__all__ = ["photographed"]

#: of a picture's width and height in the texture of a table
_FINE = 256
#: how the camera stands, other than the simulation believes
_OFF, _AIM, _VIEW = np.array([6.0, -4.0, 5.0]), np.array([4.0, -3.0, 0.0]), 16.4
#: how far an object's colour is from its table's, in red, green and blue
_CONTRAST = 0.35
_METALS = ((0.90, 0.90, 0.90), (0.95, 0.60, 0.45), (0.95, 0.75, 0.35))


def photographed(kind: str, pose: np.ndarray, samples: int, random: np.random.Generator) -> np.ndarray:
    """A picture (SIZE, SIZE, 3) of an object at its pose (x, y in millimetres, heading), as a camera gives it.

    Light: a lamp with an extent, a window and a dim sky, at most three bounces. Materials: glossy, dull, metallic;
    tables of wood, cloth, stone and print. Camera: a thin lens (aperture 8 mm) that stands some millimetres
    from where it should, its white balance and exposure off, darker corners, shot and read noise, γ = 2.2.
    samples: paths for each pixel.
    """
    mi = _mitsuba()
    scene: dict[str, Any] = {"type": "scene", "integrator": {"type": "path", "max_depth": 3}}
    place = np.array([0.0, -260.0, 520.0]) + _OFF + random.normal(0, 3, 3)
    transform = mi.ScalarTransform4f
    scene["sensor"] = {
        "type": "thinlens",
        "fov": _VIEW + 0.1 * random.normal(),
        "aperture_radius": 8.0,
        "focus_distance": float(np.linalg.norm(place) - 10),
        "to_world": transform().look_at(
            origin=place.tolist(),
            target=(_AIM + random.normal(0, 1, 3)).tolist(),
            up=[0.01 + 0.01 * random.normal(), 0, 1],
        ),
        "film": {
            "type": "hdrfilm",
            "width": SIZE,
            "height": SIZE,
            "rfilter": {"type": "box"},
            "pixel_format": "rgb",
        },
        "sampler": {"type": "multijitter", "sample_count": samples},
    }
    table = _table(random)
    scene["table"] = {
        "type": "rectangle",
        "to_world": transform().rotate([0, 0, 1], random.uniform(0, 360)).scale([260, 260, 1]),
        "bsdf": {
            "type": "principled",
            "roughness": random.uniform(0.25, 0.9),
            "specular": 0.5,
            "base_color": {
                "type": "bitmap",
                "bitmap": mi.Bitmap(table.astype(np.float32)),
                "raw": True,
                "to_uv": transform().scale([1.3, 1.3, 1]),
            },
        },
    }
    stuff = _stuff(random, table.mean((0, 1)))
    for i, part in enumerate(_object(kind, random.uniform(-1, 1))):
        scene[f"object{i}"] = _mesh(mi, placed(part, pose), stuff, f"object{i}")
    for i in range(random.integers(0, 3)):
        solid = placed(_other(random), (*beside(pose, 2 * REACH, random), random.uniform(0, 2 * np.pi)))
        scene[f"other{i}"] = _mesh(mi, solid, _stuff(random), f"other{i}")
    scene |= _lights(mi, random)
    found = np.array(mi.render(mi.load_dict(scene), seed=int(random.integers(2**31))), float)
    return _developed(found, random)


def _mitsuba() -> Any:
    try:
        import mitsuba
    except ImportError as error:
        raise RunError(
            "realistic pictures are drawn by Mitsuba 3, which is not installed: "
            "pip install 'sciencevae[objects]', or bring pictures of your own (--input) and set source.realistic=0 "
            "and source.unseen=0"
        ) from error
    if mitsuba.variant() is None:
        mitsuba.set_variant("scalar_rgb")
        mitsuba.set_log_level(mitsuba.LogLevel.Error)
    return mitsuba


def _mesh(mi: Any, mesh: Mesh, stuff: Any, name: str) -> Any:
    corners, triangles = mesh
    properties = mi.Properties()
    properties["bsdf"] = mi.load_dict(stuff)
    made = mi.Mesh(name, len(corners), len(triangles), props=properties)
    parameters = mi.traverse(made)
    parameters["vertex_positions"] = corners.astype(np.float32).ravel()
    parameters["faces"] = triangles.astype(np.uint32).ravel()
    parameters.update()
    return made


def _stuff(random: np.random.Generator, unlike: np.ndarray | None = None) -> dict[str, Any]:
    """What something is made of; its colour is not that of the table it is to be seen on."""
    metal = random.random() > 0.9
    colour = np.array(_METALS[random.integers(3)]) if metal else random.uniform(0.05, 0.85, 3)
    while unlike is not None and not metal and np.linalg.norm(colour - unlike) < _CONTRAST:
        colour = random.uniform(0.05, 0.85, 3)
    principled = {
        "type": "principled",
        "base_color": {"type": "rgb", "value": colour.tolist()},
        "roughness": random.uniform(0.25, 0.6) if metal else random.uniform(0.15, 0.9),
        "metallic": float(metal),
        "specular": 0.5,
    }
    return {"type": "twosided", "bsdf": principled}


def _lights(mi: Any, random: np.random.Generator) -> dict[str, Any]:
    across, up = random.uniform(0, 2 * np.pi), random.uniform(0.5, 1.3)
    lamp = 700 * np.array([np.cos(across) * np.cos(up), np.sin(across) * np.cos(up), np.sin(up)])
    warm = [1.0, random.uniform(0.75, 1), random.uniform(0.5, 1)]
    extent = random.uniform(40, 160)
    across += random.uniform(1, 5)
    window = 600 * np.array([0.6 * np.cos(across), 0.6 * np.sin(across), 0.8])
    cool = (np.array([0.7, 0.85, 1]) * random.uniform(0, 0.25)).tolist()

    def area(place: np.ndarray, wide: float, high: float, radiance: Any) -> dict[str, Any]:
        towards = mi.ScalarTransform4f().look_at(origin=place.tolist(), target=[0, 0, 0], up=[0, 0.1, 1])
        return {
            "type": "rectangle",
            "to_world": towards.scale([wide, high, 1]),
            "emitter": {"type": "area", "radiance": {"type": "rgb", "value": radiance}},
        }

    lights = {
        "sky": {"type": "constant", "radiance": {"type": "rgb", "value": random.uniform(0.002, 0.02)}},
        "window": area(window, 150, 80, cool),
        "lamp": area(lamp, extent, extent, warm),
    }
    # a scene loads what is in it in any order, and with that of lights the noise changes: so each on its own
    return {name: mi.load_dict(light) for name, light in lights.items()}


def _developed(light: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """What the sensor makes of the light that reaches it."""
    light = np.minimum(light, 1.5 * np.quantile(light, 0.995))
    light *= random.uniform(0.24, 0.54) / max(light.mean(), 1e-6)
    light *= 1 + random.normal(0, 0.06, 3)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    light *= (1 - 0.18 * (x**2 + y**2))[..., None]
    electrons = random.uniform(300, 1500)
    counted = random.poisson(light.clip(0) * electrons) / electrons + random.normal(0, 0.01, light.shape)
    return counted.clip(0, 1) ** (1 / 2.2)


def _table(random: np.random.Generator) -> np.ndarray:
    """The colour of a table of wood, cloth, stone or print, (n, n, 3)."""
    kind, size = random.integers(4), _FINE
    if kind == 0:
        grain = _noise(random, (1, 4), (12, 1))
        colour = np.array([0.45, 0.28, 0.15]) * random.uniform(0.7, 1.3)
        return (colour * (1 + 0.22 * grain)).clip(0.02, 1)
    if kind == 1:
        wave = np.sin(np.arange(size) * 2 * np.pi / 8)
        weave = 0.25 * np.outer(wave, wave)[..., None] + 0.15 * _noise(random, (3,))
        return (random.uniform(0.15, 0.7, 3) * (1 + weave)).clip(0.02, 1)
    if kind == 2:
        colour = random.uniform(0.3, 0.6) * np.array([1, 1, 0.95])
        return (colour * (1 + 0.35 * _noise(random, (1, 3, 9)))).clip(0.02, 1)
    sheet = np.ones((size, size, 3)) * random.uniform(0.3, 0.8, 3)
    for _ in range(14):
        (top, left), (high, wide) = random.integers(0, size, 2), random.integers(8, 70, 2)
        sheet[top : top + high, left : left + wide] = random.uniform(0.05, 0.9, 3)
    return sheet


def _noise(
    random: np.random.Generator, widths: tuple[int, ...], along: tuple[int, int] = (1, 1)
) -> np.ndarray:
    """Smooth noise of several widths in pixels, of spread 1, (n, n, 1)."""
    total = np.zeros((_FINE, _FINE))
    for width in widths:
        part = gaussian_filter(
            random.standard_normal(total.shape), (width * along[0], width * along[1]), mode="wrap"
        )
        total += part / part.std()
    return (total / total.std())[..., None]


def _object(kind: str, wish: float) -> list[Mesh]:
    """The object as it is in reality: rounded, hollow, and of a size that varies with ``wish``, −1 to 1."""
    if kind == "mug":
        r = 15 + 2 * wish
        walls = [(0.01, 0), (r, 0), (r + 2.5, 3), (19, 44), (17, 45), (15 + wish, 6), (0.01, 5)]
        return [_turned(walls), _ring(21 + wish, 24, 10, 3)]
    if kind == "bracket":
        return [
            _rounded(10, 0, 6, 58 + 2 * wish, 21, 12, 8),
            _rounded(-12 - wish, 0, 22, 13, 21, 45, 8),
        ]
    if kind == "tee":
        return [_rounded(10, 0, 9, 53, 15 + 2 * wish, 18, 10), _rounded(-18, 0, 9, 17, 62, 18, 6)]
    body = [(0.01, 0), (17 + wish, 0), (19, 10), (13, 28), (10, 40), (12, 44), (0.01, 43)]
    return [_turned(body), _rounded(20, 0, 26, 14, 7, 26, 4)]


def _other(random: np.random.Generator) -> Mesh:
    r, kind = random.uniform(9, 19), random.integers(4)
    if kind == 0:
        return _rounded(0, 0, 0.9 * r, 1.8 * r, 1.8 * r, 1.6 * r, 6)
    if kind == 1:
        return _turned([(r, 0), (0.5, 2.2 * r)])
    if kind == 2:
        turn = np.linspace(0, 2 * np.pi, 12)
        return _turned([(1.2 * r * (1 + 0.3 * np.cos(a)), 0.36 * r * (1 + np.sin(a))) for a in turn])
    return _rounded(0, 0, r, 2 * r, 2 * r, 2 * r, 2)


def _grid(rows: int, columns: int) -> np.ndarray:
    """The triangles of a sheet of points whose rows close upon themselves."""
    triangles = []
    for i in range(rows - 1):
        for j in range(columns):
            a, b = i * columns + j, i * columns + (j + 1) % columns
            triangles += [(a, b, b + columns), (a, b + columns, a + columns)]
    return np.array(triangles)


def _rounded(x: float, y: float, z: float, long: float, wide: float, high: float, exponent: float) -> Mesh:
    """A superellipsoid, |2x/l|ᵉ + |2y/w|ᵉ + |2z/h|ᵉ = 1: a ball at e = 2, a box with rounded edges beyond."""
    around = np.linspace(-np.pi, np.pi, 24, endpoint=False)
    up = np.linspace(-np.pi / 2, np.pi / 2, 14)

    def power(t: np.ndarray) -> np.ndarray:
        return np.sign(t) * np.abs(t) ** (2 / exponent)

    level = power(np.cos(up))[:, None]
    points = np.stack(
        [
            level * power(np.cos(around)) * long / 2 + x,
            level * power(np.sin(around)) * wide / 2 + y,
            np.broadcast_to(power(np.sin(up))[:, None], (14, 24)) * high / 2 + z,
        ],
        -1,
    )
    return points.reshape(-1, 3), _grid(14, 24)


def _turned(profile: Sequence[tuple[float, float]]) -> Mesh:
    """What a lathe makes of a profile of radii and heights."""
    angle = np.arange(32) * 2 * np.pi / 32
    points = [np.stack([r * np.cos(angle), r * np.sin(angle), np.full(32, float(z))], -1) for r, z in profile]
    return np.concatenate(points), _grid(len(profile), 32)


def _ring(x: float, z: float, radius: float, thick: float) -> Mesh:
    """A ring that stands upright in the plane of x and z, about (x, 0, z)."""
    turn, about = np.arange(21) * 2 * np.pi / 20, np.arange(10) * 2 * np.pi / 10
    reach = radius + thick * np.cos(about)
    points = np.stack(
        [
            x + np.cos(turn)[:, None] * reach,
            np.broadcast_to(thick * np.sin(about), (21, 10)),
            z + np.sin(turn)[:, None] * reach,
        ],
        -1,
    )
    return points.reshape(-1, 3), _grid(21, 10)
