"""Powder patterns of mixtures of phases, from their reflections: batched in torch, on any device.

What a laboratory diffractometer in Bragg–Brentano geometry counts, bin by bin:

    y_i = t · (b_i + Σ_k S_k Σ_hkl O_hkl |F|²_hkl LP(θ) ∫_bin i pV(2θ − 2θ_hkl)),    counts_i ~ Poisson(y_i)

S_k = w_k / (M_k V_k) of weight fractions w (Hill & Howard 1987), O the texture (March–Dollase), LP the
Lorentz-polarisation factor, pV a pseudo-Voigt profile (Thompson, Cox & Hastings 1987). Absorption contrast between
phases, surface roughness, axial divergence and fluorescence are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .axes import Anode
from .crystals import Crystal, Reflections, reflections

__all__ = [
    "Instrument",
    "Phase",
    "Specimen",
    "background",
    "caglioti",
    "diffract",
    "lorentz_polarisation",
    "march_dollase",
    "profile",
    "render",
]

_SCHERRER = 0.9  # shape factor of FWHM and the mean column height of near-spherical grains
_GAUSS = 2 * math.sqrt(math.log(2))


@dataclass(frozen=True)
class Phase:
    """A crystal with its reflections; what of its cell may be strained alone follows from its metric."""

    crystal: Crystal
    reflections: Reflections

    @classmethod
    def of(cls, crystal: Crystal, wavelength: float, two_theta_max: float) -> Phase:
        return cls(crystal, reflections(crystal, wavelength, two_theta_max))

    @property
    def ties(self) -> tuple[int, int, int]:
        """Which lengths of the cell are one parameter: (0, 0, 0) cubic, (0, 0, 2) tetragonal or hexagonal …"""
        a, b, c = self.crystal.cell[:3]
        second = 0 if abs(a - b) < 1e-3 * a else 1
        return 0, second, 0 if abs(a - c) < 1e-3 * a else 1 if abs(b - c) < 1e-3 * b else 2


@dataclass(frozen=True)
class Instrument:
    """What the diffractometer does to every pattern; tensors (B,).

    zero: shift of 2θ, degrees; displacement: of the specimen below the focusing circle, mm; radius: of the
    goniometer, mm; u, v, w: Caglioti's, degrees²; alpha2: brightness of Kα₂ over Kα₁
    """

    zero: Tensor
    displacement: Tensor
    u: Tensor
    v: Tensor
    w: Tensor
    radius: float = 240.0
    alpha2: float = 0.5


@dataclass(frozen=True)
class Specimen:
    """One phase in B specimens.

    strain (B, 3): relative change of a, b, c (tied where the cell is); size (B,): of the crystallites, nm;
    microstrain (B,): ε of broadening 4ε tan θ; march (B,): r, 1 for no texture; axis (B, 3): hkl of the texture
    """

    strain: Tensor
    size: Tensor
    microstrain: Tensor
    march: Tensor
    axis: Tensor


def lorentz_polarisation(two_theta: Tensor) -> Tensor:
    """LP = (1 + cos² 2θ) / (sin² θ cos θ), of an unpolarised tube without a monochromator; 2θ in degrees."""
    angle = torch.deg2rad(two_theta)
    return (1 + angle.cos() ** 2) / ((angle / 2).sin() ** 2 * (angle / 2).cos())


def caglioti(two_theta: Tensor, u: Tensor, v: Tensor, w: Tensor) -> Tensor:
    """FWHM² = U tan² θ + V tan θ + W, degrees² (Caglioti, Paoletti & Ricci 1958), never below 10⁻⁴."""
    tangent = torch.tan(torch.deg2rad(two_theta) / 2)
    return (u * tangent**2 + v * tangent + w).clamp(min=1e-4)


def march_dollase(cosine2: Tensor, r: Tensor) -> Tensor:
    """O(α) = (r² cos² α + sin² α / r)^(−3/2), of which the mean over the sphere is 1 (Dollase 1986).

    cosine2: cos² of the angle between the plane's normal and the axis; r < 1: plates, r > 1: needles
    """
    return (r**2 * cosine2 + (1 - cosine2) / r) ** -1.5


def profile(gauss: Tensor, lorentz: Tensor) -> tuple[Tensor, Tensor]:
    """(FWHM, η) of the pseudo-Voigt nearest a Voigt with these widths (Thompson, Cox & Hastings 1987)."""
    g, c = gauss, lorentz
    whole = (
        g**5 + 2.69269 * g**4 * c + 2.42843 * g**3 * c**2 + 4.47163 * g**2 * c**3 + 0.07842 * g * c**4 + c**5
    )
    fwhm = whole**0.2
    q = c / fwhm
    return fwhm, 1.36603 * q - 0.47719 * q**2 + 0.11116 * q**3


def diffract(
    phase: Phase, specimen: Specimen, instrument: Instrument, anode: Anode, edges: Tensor, reach: float = 4.0
) -> Tensor:
    """The pattern of one phase, (B, N): scattered intensity a unit weight in each bin between ``edges`` (N + 1)."""
    found = phase.reflections
    strained = _strained(phase, specimen.strain)  # (B, 3, 3)
    hkl = torch.as_tensor(found.hkl, dtype=strained.dtype)
    inverse = torch.einsum("ri,bij,rj->br", hkl, strained, hkl)  # 1/d²
    strength = torch.as_tensor(found.f2, dtype=strained.dtype) * _texture(found, strained, specimen)
    strength = strength / (phase.crystal.mass * phase.crystal.volume)
    total = torch.zeros(len(strained), len(edges) - 1, dtype=edges.dtype)
    for wavelength, brightness in ((anode.alpha1, 1.0), (anode.alpha2, instrument.alpha2)):
        if brightness == 0:
            continue
        sine = wavelength / 2 * inverse.sqrt()
        reached = sine < 0.9999
        two_theta = 2 * torch.rad2deg(torch.asin(sine.clamp(max=0.9999)))
        theta = torch.deg2rad(two_theta) / 2
        gauss = caglioti(two_theta, *(p[:, None] for p in (instrument.u, instrument.v, instrument.w))).sqrt()
        size = _SCHERRER * wavelength / (10 * specimen.size[:, None] * theta.cos())  # 10 Å are 1 nm
        lorentz = torch.rad2deg(size + 4 * specimen.microstrain[:, None] * theta.tan())
        shift = torch.rad2deg(2 * instrument.displacement[:, None] * theta.cos() / instrument.radius)
        place = two_theta + instrument.zero[:, None] - shift
        total += brightness * render(
            place,
            torch.where(reached, strength * lorentz_polarisation(two_theta), 0.0),
            *profile(gauss, lorentz),
            edges,
            reach,
        )
    return total


def render(
    place: Tensor, area: Tensor, fwhm: Tensor, eta: Tensor, edges: Tensor, reach: float = 4.0
) -> Tensor:
    """Pseudo-Voigt lines (B, R) integrated over the bins between equally spaced edges, (B, N).

    Integrals, not heights: a line's area is kept however narrow it is against a bin. Tails further than ``reach``
    degrees from a line are left out: 2/π · atan(…) of its Lorentzian part, 1 % at FWHM 0.13° and 4°.
    """
    step = (edges[-1] - edges[0]) / (len(edges) - 1)
    bins = len(edges) - 1
    half = math.ceil(reach / float(step))
    first = ((place - edges[0]) / step).floor().long() - half
    number = first[..., None] + torch.arange(2 * half + 2)
    x = ((number * step + edges[0] - place[..., None]) / fwhm[..., None]).to(edges.dtype)
    mix = eta[..., None].to(edges.dtype)
    below = mix * (torch.atan(2 * x) / math.pi) + (1 - mix) * 0.5 * torch.erf(_GAUSS * x)
    mass = below.diff(dim=-1) * area[..., None].to(edges.dtype)
    out = torch.zeros(len(place), bins + 2, dtype=edges.dtype)
    target = (number[..., :-1] + 1).clamp(0, bins + 1)  # outside the scan: into the two cells cut off below
    out.scatter_add_(1, target.flatten(1), mass.flatten(1))
    return out[:, 1:-1]


def background(coefficients: Tensor, hump: Tensor, air: Tensor, centres: Tensor) -> Tensor:
    """Chebyshev series, a Gaussian hump of amorphous matter, and air scatter; (B, N), never below 0.

    coefficients (B, K) over the scan's range; hump (B, 3): height, centre and width σ in degrees; air (B,): c in
    c · (10°/2θ)²
    """
    low, high = centres[0], centres[-1]
    unit = 2 * (centres - low) / (high - low) - 1
    orders = torch.arange(coefficients.shape[1], dtype=centres.dtype)
    series = coefficients.to(centres.dtype) @ torch.cos(orders[:, None] * torch.acos(unit.clamp(-1, 1)))
    height, centre, width = (column[:, None].to(centres.dtype) for column in hump.T)
    amorphous = height * torch.exp(-0.5 * ((centres - centre) / width) ** 2)
    scatter = air[:, None].to(centres.dtype) * (10.0 / centres.clamp(min=1.0)) ** 2
    return (series + amorphous + scatter).clamp(min=0.0)


def _strained(phase: Phase, strain: Tensor) -> Tensor:
    """Reciprocal metrics (B, 3, 3) of the cell with lengths a (1 + ε), the angles as they are.

    G*_ij of lengths scaled by s is G*_ij / (s_i s_j).
    """
    from .crystals import reciprocal

    scale = 1 + strain[:, list(phase.ties)].double()
    metric = torch.as_tensor(reciprocal(np.array(phase.crystal.cell)))
    return metric / (scale[:, :, None] * scale[:, None, :])


def _texture(found: Reflections, metric: Tensor, specimen: Specimen) -> Tensor:
    """The mean of March–Dollase over each family's members as they are bright, (B, R)."""
    if bool((specimen.march == 1).all()):
        return torch.ones(len(metric), len(found.d), dtype=metric.dtype)
    members = torch.as_tensor(found.members, dtype=metric.dtype)
    family, share = torch.as_tensor(found.family), torch.as_tensor(found.share, dtype=metric.dtype)
    axis = specimen.axis.to(metric.dtype)
    covector = torch.einsum("bij,bj->bi", metric, axis)
    along = covector @ members.T  # h · axis in reciprocal space, (B, M)
    length2 = torch.einsum("bi,bi->b", covector, axis)[:, None]
    norm2 = torch.einsum("mi,bij,mj->bm", members, metric, members)
    weight = march_dollase(
        (along**2 / (length2 * norm2)).clamp(max=1.0), specimen.march[:, None].to(metric.dtype)
    )
    out = torch.zeros(len(metric), len(found.d), dtype=metric.dtype)
    return out.index_add_(1, family, weight * share)
