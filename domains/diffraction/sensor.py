"""What a sensor makes of light: pixels, shot and read noise, a converter that saturates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from .optical_settings import Sensor

__all__ = ["expected_counts", "pixels", "read_out"]


def pixels(energy: Tensor, oversample: int) -> Tensor:
    """Energies of the points of a grid, (B, s·W) or (B, s·H, s·W), summed over the s or s² in each pixel."""
    for axis in range(1, energy.dim()):
        energy = energy.unflatten(axis, (-1, oversample)).sum(axis + 1)
    return energy


def expected_counts(share: Tensor, photons: Tensor, sensor: Sensor) -> Tensor:
    """Mean counts of pixels that get a ``share`` (B, …) of the photons (B,); quantum efficiency 1."""
    photons = photons.reshape(-1, *[1] * (share.dim() - 1))
    return (photons * share + sensor.background) / sensor.gain


def read_out(expected: Tensor, sensor: Sensor, generator: torch.Generator) -> Tensor:
    """Counts, whole numbers from 0 to 2^bits − 1, int32: Poisson electrons, normal read noise, gain, rounding."""
    electrons = torch.poisson(expected * sensor.gain, generator)
    if sensor.read_noise:
        noise = torch.randn(electrons.shape, generator=generator, dtype=electrons.dtype)
        electrons = electrons + sensor.read_noise * noise
    return (electrons / sensor.gain).round().clamp(0, 2**sensor.bits - 1).int()
