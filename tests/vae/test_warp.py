"""Deformations of images: flows of velocities, folds, and how smooth they are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import sciencevae as sv
from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.networks import Identity, Perceptron, Reshaped
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.decoders.warp import compose, exponential, jacobian, warp
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives import ELBO, Smoothness

SIZE = 33
ROWS, COLUMNS = torch.meshgrid(*[torch.arange(SIZE, dtype=torch.float64) - SIZE // 2] * 2, indexing="ij")
PLACES = torch.stack([ROWS, COLUMNS])
INNER = (..., slice(10, -10), slice(10, -10))


def smooth(seed: int, size: float = 0.5, knots: int = 5) -> torch.Tensor:
    """A smooth velocity (1, 2, SIZE, SIZE) that is 0 at the border."""
    generator = torch.Generator().manual_seed(seed)
    coarse = size * torch.randn(1, 2, knots, knots, generator=generator, dtype=torch.float64)
    inside = torch.nn.functional.pad(coarse, (1, 1, 1, 1))
    return torch.nn.functional.interpolate(inside, (SIZE, SIZE), mode="bicubic", align_corners=True)


def test_the_flow_of_a_linear_velocity_is_the_exponential_of_its_matrix() -> None:
    """v(r) = A r takes r to exp(A) r: bilinear interpolation is exact, only the first factor errs, as 2⁻ᴷ."""
    a = torch.tensor([[0.10, -0.25], [0.20, -0.15]], dtype=torch.float64)
    velocity = torch.einsum("ij,jhw->ihw", a, PLACES).unsqueeze(0)
    wanted = torch.einsum("ij,jhw->ihw", torch.linalg.matrix_exp(a) - torch.eye(2), PLACES)
    errors = [(exponential(velocity, k) - wanted)[INNER].abs().max().item() for k in (4, 5, 6, 12)]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.05)
    assert errors[3] < 1e-3


def test_a_constant_velocity_is_a_shift() -> None:
    velocity = torch.tensor([1.5, -2.0], dtype=torch.float64)[:, None, None].expand(1, 2, SIZE, SIZE)
    assert torch.allclose(exponential(velocity, 6), velocity, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_amounts_add_up_and_the_opposite_undoes(seed: int) -> None:
    v = smooth(seed)
    whole = exponential(v, 8)
    halves = compose(exponential(0.3 * v, 8), exponential(0.7 * v, 8))
    assert (whole - halves).abs().max() < 0.02 * whole.abs().max()
    assert compose(whole, exponential(-v, 8)).abs().max() < 0.05 * whole.abs().max()


def test_composition_is_that_of_the_images() -> None:
    """source ∘ f ∘ g, in one step and in two, for an image that bilinear interpolation has no error in."""
    source = (2 * ROWS - 3 * COLUMNS + 1)[None, None]
    f, g = 0.5 * smooth(1), 0.5 * smooth(2)
    twice = warp(warp(source, f.unsqueeze(0))[0], g.unsqueeze(0))
    once = warp(source, compose(g, f).unsqueeze(0))
    assert torch.allclose(once[INNER], twice[INNER], atol=1e-9)


def test_the_jacobian_is_the_least_in_each_cell() -> None:
    """Against the derivative of the bilinear interpolation itself, at many places of one cell."""
    u = 0.8 * torch.randn(2, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = jacobian(u)
    assert found.shape == (2, 2, 3)

    def place(at: torch.Tensor, field: torch.Tensor) -> torch.Tensor:
        """r + u(r) at one place of the first cell."""
        s, t = at
        upper = (1 - t) * field[:, 0, 0] + t * field[:, 0, 1]
        lower = (1 - t) * field[:, 1, 0] + t * field[:, 1, 1]
        return at + (1 - s) * upper + s * lower

    for field, least in zip(u, found[:, 0, 0], strict=True):
        grid = torch.cartesian_prod(*[torch.linspace(0, 1, 9, dtype=torch.float64)] * 2)
        dets = [
            torch.linalg.det(torch.autograd.functional.jacobian(lambda at, f=field: place(at, f), at))
            for at in grid
        ]
        assert torch.stack(dets).min() == pytest.approx(least.item(), abs=1e-12)


def test_folds_between_pixels_are_found() -> None:
    """A pixel that has passed its neighbour; and one that only turned a corner over, which areas do not see."""
    u = torch.zeros(1, 2, 3, 3)
    assert torch.equal(jacobian(u), torch.ones(1, 2, 2))
    u[0, 1, 1, 1] = 1.2
    assert jacobian(u).min() < 0
    u[0, 1, 1, 1] = 0.0
    u[0, :, 2, 2] = -0.9  # the quadrilateral keeps a positive area, and is folded at its corner
    assert jacobian(u).min() < 0


@pytest.mark.parametrize("seed", range(4))
def test_a_smooth_velocity_has_no_folds_where_the_displacement_itself_has(seed: int) -> None:
    v = smooth(seed, size=1.5)
    assert jacobian(v).min() < 0
    assert jacobian(exponential(v, 8)).min() > 0


def flowing(**given: object) -> VAE:
    torch.manual_seed(0)
    image = (1, 6, 5)
    network = Reshaped(Perceptron(2, [8], 60, condition_features=30), (2,), (2, 6, 5))
    encoder = Reshaped(Perceptron(30, [8], 4), image, (4,))
    decoder = decoders.Warp(FlatCondition(network), conditional=True, source="condition", **given)
    return VAE(priors.StandardNormal(2), encoders.Gaussian(encoder, 2), decoder)


class FlatCondition(torch.nn.Module):
    """A network that reads an image it is told as numbers."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return self.network(z, condition.flatten(1))


def faces(rows: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(1)
    x, source = torch.rand(2, rows, 1, 6, 5, generator=generator)
    return Batch(x, context={"condition": source})


def test_a_warp_deforms_what_its_network_looks_at() -> None:
    model, batch = flowing(squarings=5), faces()
    model.check(batch)
    decoder = model.decoder
    z = torch.randn(3, 8, 2)
    v = decoder.velocity(z, batch.context)
    for amount in (0.0, 0.7, -1.0):
        u = decoder.displacement(z, batch.context, amount)
        assert torch.equal(u, exponential(amount * v, 5))
    whole = decoder.displacement(z, batch.context)
    assert torch.equal(decoder(z, batch.context).mean, warp(batch.context["condition"], whole))
    assert torch.equal(decoder(z, batch.context).velocity, v)
    alone = decoders.Warp(Reshaped(Perceptron(2, [], 60), (2,), (2, 6, 5)), source="condition")
    with pytest.raises(InputError, match=r"no context\['condition'\]"):
        alone(z, {"source": batch.x})


def test_smoothness_is_that_of_the_velocity_and_smooths() -> None:
    batch = faces()
    model = flowing(squarings=3)
    terms = model.terms(batch, samples=2)
    rough = Smoothness()(terms, batch)
    v = model.decoder.velocity(terms.z, batch.context)
    by_hand = [
        sum(((v[s, b].diff(dim=axis) ** 2).sum() / 2) for axis in (1, 2) for s in range(2)) / 2
        for b in range(8)
    ]
    assert torch.allclose(rough, torch.stack(by_hand), rtol=1e-5)
    found = []
    for weight in (0.0, 10.0):
        model = flowing(squarings=3)
        settings = sv.TrainingSettings(epochs=20, batch_size=4, learning_rate=1e-2, compile=False)
        sv.fit(model, batch, objective=ELBO(extra={"roughness": Smoothness(weight)}), settings=settings)
        found.append(Smoothness()(model.terms(batch), batch).mean().item())
    assert found[1] < 0.2 * found[0]


def test_smoothness_knows_the_warped_field_of_a_joint_decoder() -> None:
    model, batch = flowing(squarings=3), faces()
    joint = decoders.Joint({"face": model.decoder, "age": decoders.Gaussian(Perceptron(2, [], 1))})
    terms = model.terms(batch)
    within = joint(terms.z, batch.context)
    named = replace(terms, likelihood=within)
    assert torch.equal(Smoothness(field="face")(named, batch), Smoothness()(terms, batch))
    with pytest.raises(InputError, match="field="):
        Smoothness()(named, batch)
    with pytest.raises(InputError, match="leave Smoothness out"):
        Smoothness()(replace(terms, likelihood=within.fields["age"]), batch)


@pytest.mark.parametrize("squarings", [-1, 21])
def test_squarings_are_a_few(squarings: int) -> None:
    with pytest.raises(InputError, match="from 0 to 20"):
        decoders.Warp(Identity(), squarings=squarings)
