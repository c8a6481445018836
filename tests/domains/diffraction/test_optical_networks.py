"""Networks of counted light: what they give is what their docstrings say."""

from __future__ import annotations

import math

import pytest
import torch
from sciencevae.builtin.diffraction import apertures, optics
from sciencevae.builtin.diffraction.optical_networks import Aperture, Leading, PointSources, Stabilised

from sciencevae.networks import Perceptron


@pytest.mark.parametrize("pixels", [48, 31])
def test_point_sources_interfere(pixels: int) -> None:
    """The rate is that of a sum of waves, written out."""
    torch.manual_seed(0)
    network = PointSources(3, (8,), pixels, sources=5, scale=7.0, condition_features=2)
    z, told = torch.randn(4, 3), torch.randn(4, 2)
    torch.nn.init.normal_(network.even.weight)
    even = network.even(torch.cat([z, told], 1))
    moved, real, imaginary = network.network(z, told).chunk(3, 1)
    u = torch.linspace(-1, 1, pixels)
    waves = torch.exp(1j * (network.place + 10 * moved)[:, :, None] * u)
    field = (torch.complex(real, imaginary)[:, :, None] * waves).sum(1)
    wanted = 7 * (field.abs().square() + even.exp().add(1).log() + 1e-4)
    torch.testing.assert_close(network(z, told).exp(), wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("hole", "distance"), [("circle", 0.06), ("rectangle", 0.04)])
def test_an_aperture_diffracts_as_the_simulation_has_it(hole: str, distance: float) -> None:
    """What the decoder makes of a true aperture, wavelength and distance, beside the angular spectrum's pattern."""
    wavelength, pitch, n, cells = 550e-9, 7.5e-6, 256, 32
    middle = torch.tensor([[30e-6, -40e-6]], dtype=torch.float64)
    size = torch.tensor([[400e-6, 300e-6]], dtype=torch.float64)

    def mask(x: torch.Tensor, step: float, middle: torch.Tensor) -> torch.Tensor:
        if hole == "circle":
            return apertures.circle(x, x, step, middle, size[:, 0])
        return apertures.rectangle(x, x, step, middle, size)

    x = apertures.coordinates(n, pitch)
    field = optics.angular_spectrum(
        mask(x, pitch, middle).to(torch.complex128), pitch, wavelength, torch.tensor([distance])
    )
    seen = optics.intensity(field)[0, 64:193, 64:193]  # 129 pixels around the axis
    half = 64 * pitch
    edge = 250e-6  # the middles of the outermost cells
    network = Aperture(2, (4,), (129, 129), cells)
    place = torch.linspace(-edge, edge, cells, dtype=torch.float64)
    t = mask(place, 2 * edge / (cells - 1), torch.zeros_like(middle)).float()
    network.transmittance = lambda z, condition=None: t
    kappa = 2 * math.pi / wavelength * edge * half / distance  # at the edge of cells and of pixels
    bend = math.pi * edge**2 / (wavelength * distance)
    size_out = math.log(kappa / network.furthest)
    setup = [
        size_out,
        (bend / math.exp(2 * size_out) - 5) / 10,
        0.0,
        -20.0,
        *(middle[0].flip(0) / half).tolist(),
    ]
    del network.setup
    network.setup = lambda z: torch.tensor([setup])
    rate = network(torch.zeros(1, 2)).exp()[0, 0] - 1e-4
    ours, theirs = (pattern / pattern.sum() for pattern in (rate.double(), seen))
    assert (ours - theirs).norm() < 0.05 * theirs.norm()


def test_what_is_seen_of_counts_does_not_depend_on_the_exposure_or_on_masked_pixels() -> None:
    torch.manual_seed(0)
    network = Stabilised(Perceptron(20, (8,), 4), 1.0, 0.5, normalise=True)
    counts = 1000 * torch.rand(3, 10) + 100
    mask = torch.ones(3, 10)
    mask[:, 4] = 0
    hidden = counts.clone()
    hidden[:, 4] = 0
    seen = network(torch.cat([hidden, mask], 1))
    other = network(torch.cat([torch.where(mask > 0, counts, 5.0), mask], 1))
    torch.testing.assert_close(seen, other)
    brighter = network(torch.cat([100 * hidden, mask], 1))
    torch.testing.assert_close(seen, brighter, atol=2e-3, rtol=1e-2)
    raw = Stabilised(Perceptron(20, (8,), 4), 1.0, 0.5, normalise=False)
    assert not torch.allclose(raw(torch.cat([hidden, mask], 1)), raw(torch.cat([4 * hidden, mask], 1)))


def test_leading_latents_are_left_as_they_are() -> None:
    z = torch.randn(5, 4)
    assert torch.equal(Leading(2)(z), z[:, :2])
