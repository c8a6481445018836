"""Scalar diffraction of coherent light in free space: the angular spectrum, and its Fresnel and Fraunhofer limits.

Fields are complex, (B, W) of light that depends on x alone or (B, H, W), on a grid of ``pitch`` with the axis at
point n//2; lengths are in metres. The carrier e^{ikz}, which no intensity shows, is left out: what remains of the
phase is small enough for single precision. Each function keeps Σ|U|² Δx [Δy], the energy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sciencevae.errors import InputError

__all__ = ["angular_spectrum", "fraunhofer", "fresnel", "intensity", "output_pitch"]

Length = float | Tensor


def angular_spectrum(
    field: Tensor, pitch: float, wavelength: Length, distance: Length, band_limit: bool = True
) -> Tensor:
    """The field at ``distance`` (negative: back), on the same grid; exact but for what leaves the grid.

    U(z) = F⁻¹{F{U(0)} exp[2πi z (√(1/λ² − f²) − 1/λ)]}; waves with f > 1/λ, which decay within a wavelength, are
    dropped. wavelength, distance: (B,), or one for all.

    band_limit: drop |f_x|, |f_y| > 1/(λ √((2z/w)² + 1)), w the grid's width: light that leaves the grid, and would
    come back from its other side (Matsushima & Shimobaba 2009, Opt. Express 17, 19662, eq. 13). Without it the
    propagation is unitary, and reversible.
    """
    axes, (wavelength, distance) = _checked(field, pitch, wavelength, distance)
    squared = torch.zeros_like(wavelength)  # (λ f)², of f ≥ 0 alone: the transfer function is even in them
    carried = torch.ones_like(wavelength, dtype=torch.bool)
    for axis in axes:
        n = field.shape[axis]
        f = torch.arange(n // 2 + 1, dtype=wavelength.dtype, device=field.device) / (n * pitch)
        f = f.reshape(-1, *[1] * (-1 - axis))
        squared = squared + (wavelength * f).square()
        if band_limit:
            limit = 1 / (wavelength * ((2 * distance / (n * pitch)).square() + 1).sqrt())
            carried = carried & (f <= limit)
    # √(1 − s) − 1 = −s/(1 + √(1 − s)), which does not cancel for small s
    phase = -2 * math.pi * distance / wavelength * squared / (1 + (1 - squared).clamp(min=0).sqrt())
    carried = carried & (squared < 1)
    transfer = torch.polar(carried.to(phase.dtype).expand_as(phase), phase).to(field.dtype)
    for axis in axes:
        n = field.shape[axis]
        order = torch.fft.fftfreq(n, 1 / n, device=field.device).abs().round().long()
        transfer = transfer.index_select(axis, order)
    return torch.fft.ifftn(torch.fft.fftn(field, dim=axes).mul_(transfer), dim=axes)


def fresnel(field: Tensor, pitch: Length, wavelength: Length, distance: Length) -> Tensor:
    """The paraxial field at ``distance``, on a grid of ``output_pitch``.

    U(x) = (iλz)^{−1/2} e^{iπx²/λz} ∫ U(ξ) e^{iπξ²/λz} e^{−2πi xξ/λz} dξ, and so in y; Goodman, Introduction to
    Fourier Optics, eq. 4-17. Well sampled where the field vanishes beyond half the width λz/pitch of its grid's
    chirp. pitch: (B,), or one for all.
    """
    return _by_one_transform(field, pitch, wavelength, distance, near=True)


def fraunhofer(field: Tensor, pitch: Length, wavelength: Length, distance: Length) -> Tensor:
    """``fresnel`` without the curvature of the waves that leave the aperture: π L²/(λz) ≪ 1 (Goodman, eq. 4-25)."""
    return _by_one_transform(field, pitch, wavelength, distance, near=False)


def output_pitch(n: int, pitch: Length, wavelength: Length, distance: Length) -> Length:
    """λz/(n Δ): the pitch of what ``fresnel`` and ``fraunhofer`` give of n points Δ apart."""
    return wavelength * distance / (n * pitch)


def intensity(field: Tensor) -> Tensor:
    """|U|², without the root and its square."""
    return field.real.square().add_(field.imag.square())


def _by_one_transform(
    field: Tensor, pitch: Length, wavelength: Length, distance: Length, near: bool
) -> Tensor:
    axes, (pitch, wavelength, distance) = _checked(field, pitch, pitch, wavelength, distance)
    if (distance == 0).any():
        raise InputError(
            "at a distance of 0 there is no pattern yet: take the field itself, or angular_spectrum"
        )
    curvature = math.pi / (wavelength * distance)
    chirp, scale = torch.zeros_like(curvature), torch.ones_like(curvature)
    for axis in axes:
        n = field.shape[axis]
        at = torch.arange(n, dtype=pitch.dtype, device=field.device) - n // 2
        at = at.reshape(-1, *[1] * (-1 - axis))
        if near:
            field = field * _turned(curvature * (pitch * at).square()).to(field.dtype)
        out = output_pitch(n, pitch, wavelength, distance)
        chirp = chirp + curvature * (out * at).square() - math.pi / 4
        scale = scale * pitch * (wavelength * distance).abs().rsqrt()
    spectrum = torch.fft.fftn(torch.fft.ifftshift(field, dim=axes), dim=axes)
    spectrum = torch.fft.fftshift(spectrum, dim=axes)
    return spectrum * (scale * _turned(chirp)).to(field.dtype)


def _turned(phase: Tensor) -> Tensor:
    return torch.polar(torch.ones_like(phase), phase)


def _checked(field: Tensor, pitch: Length, *lengths: Length) -> tuple[tuple[int, ...], list[Tensor]]:
    """The axes of space, and the lengths as tensors (B or 1, 1 [, 1])."""
    if not field.is_complex() or field.dim() not in (2, 3):
        raise InputError(
            f"a field is complex, (B, W) or (B, H, W); found {field.dtype} {tuple(field.shape)}: give a single "
            "one as field[None]"
        )
    smallest = pitch.min().item() if isinstance(pitch, Tensor) else pitch
    if not smallest > 0:
        raise InputError(f"the pitch of a field's grid is a length above 0 (m), not {smallest}")
    # the phases have thousands of turns: they are in double precision until the sine is taken
    real = torch.float64
    rows = [torch.as_tensor(length, dtype=real, device=field.device).reshape(-1) for length in lengths]
    for length in rows:
        if len(length) not in (1, len(field)):
            raise InputError(f"{len(length)} lengths for {len(field)} fields: give one each, or one for all")
    return tuple(range(1 - field.dim(), 0)), [length.reshape(-1, *[1] * (field.dim() - 1)) for length in rows]
