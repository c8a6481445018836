"""Paths and walks against geometry: great circles, developable surfaces, quantiles, models that are linear."""

import math

import pytest
import torch
import torch.distributions as td
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sciencevae.batch import Batch
from sciencevae.distributions import DiagonalNormal
from sciencevae.errors import InputError
from sciencevae.latents.traverse import analogy, direction, interpolate, manifold, path_length, traverse
from sciencevae.networks import Perceptron, Recurrent, Reshaped
from sciencevae.training.loop import fit
from sciencevae.training.settings import TrainingSettings
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.model import VAE


class Surface(nn.Module):
    """A decoder's network that is a given function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function
        self.gain = nn.Parameter(torch.ones(()))

    def forward(self, z, condition=None):
        out = self.function(z) if condition is None else self.function(z, condition)
        return self.gain.to(out) * out


def decoding(function, dim=2, decoder=decoders.Gaussian, prior=None, **options) -> VAE:
    encoder = encoders.Gaussian(Perceptron(3, [4], 2 * dim), dim)
    return VAE(prior or priors.StandardNormal(dim), encoder, decoder(Surface(function), **options))


def sphere(z):
    """The plane onto the unit sphere, stereographically."""
    square = z.square().sum(1, keepdim=True)
    return torch.cat([2 * z, square - 1], 1) / (1 + square)


def gutter(z):
    """The plane bent into a parabolic cylinder, which can be rolled flat again."""
    return torch.cat([z, z[:, :1] ** 2], 1)


def gutter_arc(x):
    """Arc length of y = x² from 0, by which the cylinder is flat."""
    return x * (1 + 4 * x * x).sqrt() / 2 + torch.asinh(2 * x) / 4


def pairs(count=12, dim=2, seed=0, dtype=torch.float64):
    return torch.randn(2, count, dim, generator=torch.Generator().manual_seed(seed), dtype=dtype)


# ---- straight paths and great circles


@pytest.mark.parametrize("kind", ["linear", "spherical", "geodesic"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_path_holds_both_ends_exactly(kind, dtype):
    a, b = pairs(dtype=dtype)
    for steps in (2, 3, 7):
        path = interpolate(a, b, steps, kind, decoding(sphere))
        assert path.shape == (steps, 12, 2)
        assert path.dtype == dtype
        assert torch.equal(path[0], a)
        assert torch.equal(path[-1], b)


def test_spherical_paths_turn_evenly_and_keep_the_norm():
    a, b = pairs(dim=5)
    path = interpolate(a, b, 9, "spherical")
    norm = torch.linalg.vector_norm(path, dim=-1)
    t = torch.linspace(0, 1, 9, dtype=a.dtype)[:, None]
    assert torch.allclose(norm, (1 - t) * norm[0] + t * norm[-1])
    unit = path / norm[..., None]
    whole = torch.acos((unit[0] * unit[-1]).sum(-1))
    turned = torch.acos((unit[1:] * unit[:-1]).sum(-1))
    assert torch.allclose(turned, (whole / 8).expand(8, 12))
    # Shoemake's weights, where they are well conditioned
    slerp = (torch.sin((1 - t) * whole)[..., None] * unit[0] + torch.sin(t * whole)[..., None] * unit[-1]) / (
        whole.sin()[:, None]
    )
    assert torch.allclose(unit, slerp)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000), st.floats(-16, 0), st.booleans(), st.sampled_from([torch.float32, torch.float64])
)
def test_spherical_paths_are_stable_near_parallel_and_opposite(seed, exponent, opposite, dtype):
    a, nudge = pairs(4, 3, seed, dtype)
    a = a / torch.linalg.vector_norm(a, dim=-1, keepdim=True)
    b = (-a if opposite else a) + 10**exponent * nudge
    b = b / torch.linalg.vector_norm(b, dim=-1, keepdim=True)
    path = interpolate(a, b, 7, "spherical")
    rounding = 50 * torch.finfo(dtype).eps
    assert (torch.linalg.vector_norm(path, dim=-1) - 1).abs().max() < rounding
    steps = torch.linalg.vector_norm(path.diff(dim=0), dim=-1)
    assert (steps.max(0).values - steps.min(0).values).max() < rounding


def test_spherical_paths_of_special_ends():
    zero, one = torch.zeros(1, 2), torch.tensor([[3.0, 4.0]])
    assert torch.allclose(interpolate(zero, one, 5, "spherical"), interpolate(zero, one, 5))
    assert torch.allclose(interpolate(one, zero, 5, "spherical"), interpolate(one, zero, 5))
    assert torch.equal(interpolate(zero, zero, 3, "spherical"), torch.zeros(3, 1, 2))
    same = interpolate(one, one, 3, "spherical")
    assert torch.allclose(same, one.expand(3, 1, 2))
    half = interpolate(one, -one, 3, "spherical")[1]
    assert (half * one).sum().abs() < 1e-5
    assert torch.linalg.vector_norm(half).item() == pytest.approx(5)
    assert interpolate(torch.ones(1, 1), torch.full((1, 1), 3.0), 3, "spherical").flatten().tolist() == [
        1,
        2,
        3,
    ]
    with pytest.raises(InputError, match="opposite latents of one dimension"):
        interpolate(torch.ones(1, 1), -torch.ones(1, 1), 3, "spherical")


# ---- geodesics


def test_a_linear_decoder_has_straight_geodesics():
    a, b = pairs(dim=3)
    matrix = torch.tensor([[1.0, 0.5, 0], [0, 2, 0], [0, 0, 1], [3, 0, 0]], dtype=a.dtype)
    path = interpolate(a, b, 9, "geodesic", decoding(lambda z: z @ matrix.T, 3))
    assert torch.allclose(path, interpolate(a, b, 9), atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_geodesics_on_the_sphere_are_great_circles(dtype):
    a, b = pairs(dtype=dtype)
    model = decoding(sphere)
    path = interpolate(a, b, 41, "geodesic", model)
    angle = torch.acos((sphere(a) * sphere(b)).sum(1))
    assert torch.allclose(path_length(path, model), angle, rtol=1e-3)
    assert path_length(interpolate(a, b, 41), model).max() > 1.1 * angle.max()  # the straight path is longer
    points = model.decode(path).mean  # (41, B, 3)
    normal = torch.linalg.cross(points[0], points[-1])
    assert ((points * normal).sum(-1) / torch.linalg.vector_norm(normal, dim=-1)).abs().max() < 0.05
    along = torch.linalg.vector_norm(points.diff(dim=0), dim=-1)
    assert torch.allclose(along, angle.expand(40, -1) / 40, rtol=0.05)  # and steps are equally long


def test_geodesics_on_a_surface_that_can_be_rolled_flat():
    a, b = pairs()
    model = decoding(gutter)
    path = interpolate(a, b, 41, "geodesic", model)
    flat_a, flat_b = (torch.stack([gutter_arc(z[:, 0]), z[:, 1]], 1) for z in (a, b))
    exact = torch.linalg.vector_norm(flat_b - flat_a, dim=1)
    assert torch.allclose(path_length(path, model), exact, rtol=0.002)
    wanted = interpolate(flat_a, flat_b, 41)
    assert torch.allclose(gutter_arc(path[..., 0]), wanted[..., 0], atol=0.02)
    assert torch.allclose(path[..., 1], wanted[..., 1], atol=0.02)


def test_geodesics_over_the_vertex_of_a_paraboloid():
    x = torch.tensor([0.3, 0.6], dtype=torch.float64)
    b = torch.stack([x, torch.zeros_like(x)], 1)
    model = decoding(lambda z: torch.cat([z, z.square().sum(1, keepdim=True)], 1))
    assert torch.allclose(
        path_length(interpolate(-b, b, 41, "geodesic", model), model), 2 * gutter_arc(x), rtol=1e-3
    )


def test_few_steps_lie_on_the_same_geodesic():
    a, b = pairs()
    fine, coarse = (interpolate(a, b, steps, "geodesic", decoding(sphere)) for steps in (33, 3))
    assert torch.allclose(coarse[1], fine[16], atol=1e-3)


def test_angles_have_no_seam():
    """A decoder of angles a + z₀: the geodesic does not see where −π meets π, while their mean jumps there."""

    def angles(z):
        angle = z[:, :1] + 0 * z[:, 1:]
        return torch.cat([angle.cos(), angle.sin(), torch.full_like(angle, 12.0)], 1)

    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[4.5, 1.0]])  # π lies between
    model = decoding(angles, decoder=decoders.VonMises)
    path = interpolate(a, b, 21, "geodesic", model)
    assert torch.allclose(path[..., 0], interpolate(a, b, 21)[..., 0], atol=1e-3)
    assert path_length(path, model).item() == pytest.approx(2.5, rel=1e-3)


def joint(**fields) -> VAE:
    """A model of named fields, each with its decoder."""
    encoder = encoders.Gaussian(Perceptron(3, [4], 4), 2)
    return VAE(priors.StandardNormal(2), encoder, decoders.Joint(fields))


def fields_of_each_kind() -> VAE:
    torch.manual_seed(0)
    return joint(
        grid=decoders.Gaussian(Reshaped(Perceptron(2, [4], 6), (2,), (1, 2, 3))),
        label=decoders.Categorical(Perceptron(2, [4], 3), 3),
        text=decoders.Sequence(Recurrent(5, 4, width=6, condition_features=2)),
    )


class Meanless(td.Distribution):
    """A likelihood whose mean is not defined."""

    mean = torch.full((33, 3, 1), math.nan)


class Gives(nn.Module):
    def __init__(self, family) -> None:
        super().__init__()
        self.family = family

    def forward(self, z, context=None):
        return self.family(z)


def with_likelihood(family) -> VAE:
    return VAE(priors.StandardNormal(2), encoders.Gaussian(Perceptron(3, [4], 4), 2), Gives(family))


def test_geodesics_of_other_likelihoods():
    a, b = pairs(3, dtype=torch.float32)
    linear = joint(
        one=decoders.Gaussian(Surface(lambda z: z[:, :1])),
        grid=decoders.Gaussian(Surface(lambda z: z.unsqueeze(-1).expand(-1, 2, 4))),
    )
    fields = interpolate(a, b, 5, "geodesic", linear)
    assert torch.allclose(fields, interpolate(a, b, 5), atol=1e-4)  # linear in both fields
    length = path_length(fields, linear)
    assert torch.allclose(length, ((b - a) ** 2 @ torch.tensor([5.0, 4.0])).sqrt())

    def categories(z):
        return td.Independent(td.Categorical(logits=torch.stack([z, 0 * z], -1)), 1)

    model = with_likelihood(categories)
    path = interpolate(a, b, 41, "geodesic", model)
    # probabilities (p, 1 − p) of each of two sites: straight in p
    wanted = torch.lerp(a.sigmoid(), b.sigmoid(), torch.linspace(0, 1, 41).view(-1, 1, 1))
    assert torch.allclose(path.sigmoid(), wanted, atol=5e-3)
    bits = decoding(lambda z: z, decoder=decoders.Bernoulli)
    assert torch.allclose(interpolate(a, b, 41, "geodesic", bits).sigmoid(), wanted, atol=5e-3)
    with pytest.raises(InputError, match="not finite along the straight path"):
        interpolate(a, b, 5, "geodesic", with_likelihood(lambda z: Meanless(validate_args=False)))


def test_named_fields_count_as_each_does_alone():
    """An angle on its circle beside a number: a cylinder, which is flat. A category by its probabilities."""

    def angle(z):
        return torch.cat([z[:, :1].cos(), z[:, :1].sin(), torch.full_like(z[:, :1], 12.0)], 1)

    cylinder = joint(
        angle=decoders.VonMises(Surface(angle)), height=decoders.Gaussian(Surface(lambda z: z[:, 1:]))
    )
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[4.5, 1.0]])  # π lies between
    path = interpolate(a, b, 21, "geodesic", cylinder)
    assert torch.allclose(path, interpolate(a, b, 21), atol=1e-3)
    assert path_length(path, cylinder).item() == pytest.approx(math.hypot(2.5, 1.0), rel=1e-3)

    a, b = pairs(3, dtype=torch.float32)
    mixed = joint(
        kind=decoders.Categorical(Surface(lambda z: torch.cat([z[:, :1], 0 * z[:, :1]], 1)), 2),
        bit=decoders.Bernoulli(Surface(lambda z: z[:, 1:])),
    )
    path = interpolate(a, b, 41, "geodesic", mixed)
    wanted = torch.lerp(a.sigmoid(), b.sigmoid(), torch.linspace(0, 1, 41).view(-1, 1, 1))
    assert torch.allclose(path.sigmoid(), wanted, atol=5e-3)


def test_what_has_no_mean_is_walked_through_by_its_mode_and_has_no_geodesics():
    model = fields_of_each_kind()
    z = pairs(3, dtype=torch.float32)[0]
    walk, plane = traverse(model, z, steps=4), manifold(model, steps=3)
    for found, (z_of_one, at) in (
        (walk.mean, (walk.z[1, 2, :1], (1, 2, 0))),
        (plane.mean, (plane.z[2, :1], (2, 0))),
    ):
        alone = model.decode(z_of_one).fields
        assert torch.allclose(found["grid"][at], alone["grid"].mean[0], atol=1e-6)
        assert torch.equal(found["label"][at], alone["label"].logits[0].argmax(-1))
        assert torch.equal(found["text"][at], alone["text"].mode[0])
    assert {name: tuple(found.shape) for name, found in walk.mean.items()} == {
        "grid": (2, 4, 3, 1, 2, 3),
        "label": (2, 4, 3, 1),
        "text": (2, 4, 3, 4),
    }
    with pytest.raises(InputError, match="the likelihood of 'text' has no mean"):
        interpolate(z, -z, 5, "geodesic", model)
    with pytest.raises(InputError, match="the likelihood of 'text' has no mean"):
        path_length(interpolate(z, -z, 5), model)


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([2, 4, 9]))
def test_the_energy_never_ends_above_the_straight_path(seed, steps):
    """Also for decoders of no smoothness at all, and pair by pair; where nothing is decoded nothing moves."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        rough = Perceptron(2, [30], 3, "relu")
        for parameter in rough.parameters():
            parameter.data *= 4
    model = decoding(lambda z: rough(z))
    a, b = pairs(4, seed=seed, dtype=torch.float32)
    pieces = steps - 1
    fine = -(-32 // pieces) * pieces + 1

    def energy(path):
        return model.decode(path).mean.diff(dim=0).square().sum((0, -1))

    path = interpolate(a, b, fine, "geodesic", model)
    assert (energy(path) <= energy(interpolate(a, b, fine)) * (1 + 1e-6)).all()
    assert torch.equal(interpolate(a, b, steps, "geodesic", model), path[:: (fine - 1) // pieces])
    collapsed = decoding(lambda z: 0 * z)
    assert torch.allclose(interpolate(a, b, steps, "geodesic", collapsed), interpolate(a, b, steps))


def test_a_geodesic_leaves_gradients_and_generator_alone():
    a, b = pairs(3, dtype=torch.float32)
    model = decoding(sphere)
    state = torch.get_rng_state()
    with torch.no_grad():
        path = interpolate(a.requires_grad_(), b, 5, "geodesic", model)
    assert not path.requires_grad
    assert a.grad is None
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


# ---- a trained model, with and without a condition


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=["float32", "float64"])
def trained(request) -> VAE:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VAE(
            priors.StandardNormal(2),
            encoders.Gaussian(Perceptron(3, [6], 4, condition_features=1), 2, conditional=True),
            decoders.Gaussian(Perceptron(2, [6], 3, condition_features=1), conditional=True),
        ).to(request.param)
        data = Batch(torch.randn(64, 3), context={"condition": torch.randn(64, 1)})
    fit(model, data, settings=TrainingSettings(epochs=2, batch_size=32, threads=1), progress=False)
    return model


def test_walks_decode_row_by_row_under_their_own_condition(trained):
    dtype = next(trained.parameters()).dtype
    z, other = pairs(4, dtype=dtype)
    context = {"condition": torch.arange(4, dtype=dtype)[:, None]}
    walk = traverse(trained, z, dims=[1], span=2.0, steps=5, context=context)
    assert walk.z.shape == (1, 5, 4, 2)
    assert walk.mean.shape == (1, 5, 4, 3)
    assert walk.mean.dtype == dtype
    for step in range(5):
        for row in range(4):
            latent = torch.stack([z[row, 0], torch.tensor(step - 2.0, dtype=dtype)])[None]
            assert torch.allclose(walk.z[0, step, row], latent[0])
            alone = trained.decode(latent, {"condition": context["condition"][row : row + 1]}).mean[0]
            assert torch.allclose(walk.mean[0, step, row], alone, atol=1e-6)
    # one latent, one row; many latents, one row for all
    single = traverse(trained, z[2], [1], 2.0, 5, {"condition": context["condition"][2:3]})
    assert single.z.shape == (1, 5, 2)
    assert torch.allclose(single.mean, walk.mean[:, :, 2], atol=1e-6)
    shared = traverse(trained, z, [1], 2.0, 5, {"condition": context["condition"][:1]})
    assert torch.allclose(shared.mean[:, :, 0], walk.mean[:, :, 0], atol=1e-6)
    assert not torch.allclose(shared.mean[:, :, 3], walk.mean[:, :, 3], atol=1e-4)
    # paths: each pair has its own condition, so that computing them together or singly is the same
    path = interpolate(z, other, 5, "geodesic", trained, context)
    for row in range(4):
        one = {"condition": context["condition"][row : row + 1]}
        alone = interpolate(z[row : row + 1], other[row : row + 1], 5, "geodesic", trained, one)
        assert torch.allclose(path[:, row : row + 1], alone, atol=5e-3)
        assert torch.allclose(
            path_length(path, trained, context)[row], path_length(alone, trained, one), rtol=1e-3
        )
    with pytest.raises(InputError, match=r"context\['condition'\] has 4 rows for 1 latent"):
        traverse(trained, z[0], context=context)


def test_the_manifold_of_a_trained_model(trained):
    dtype = next(trained.parameters()).dtype
    context = {"condition": torch.ones(1, 1, dtype=dtype)}
    state = torch.get_rng_state()
    found = manifold(trained, 6, context)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.z.shape == (6, 6, 2)
    assert found.mean.shape == (6, 6, 3)
    normal = td.Normal(0.0, 1.0)
    for i, j in ((0, 0), (2, 5), (5, 1)):
        assert normal.cdf(found.z[i, j]).tolist() == pytest.approx([(i + 0.5) / 6, (j + 0.5) / 6], abs=1e-6)
        alone = trained.decode(found.z[i, j][None], context).mean[0]
        assert torch.allclose(found.mean[i, j], alone, atol=1e-6)
    with pytest.raises(InputError, match=r"has 2 rows for 1 latent"):
        manifold(trained, 6, {"condition": torch.ones(2, 1, dtype=dtype)})


def test_analogies_and_directions(trained):
    dtype = next(trained.parameters()).dtype
    generator = torch.Generator().manual_seed(0)

    def batch(rows):
        x, condition = torch.randn(rows, 4, generator=generator, dtype=dtype).split([3, 1], 1)
        return Batch(x, context={"condition": condition})

    a, b, c = batch(5), batch(7), batch(3)
    z_a, z_b, z_c = (trained.encode(d.x, d.context).mean.detach() for d in (a, b, c))
    assert torch.allclose(analogy(trained, a, b, c), z_c + z_b.mean(0) - z_a.mean(0))
    assert torch.allclose(analogy(trained, a, a, c), z_c)
    assert torch.allclose(direction(z_b, z_a), -direction(z_a, z_b))


# ---- other priors


class Shifted(priors.Prior):
    """N(c, 2²) for a condition c, as a normal or as a flow, whose moments are not known in closed form."""

    dim = 2

    def __init__(self, flow=False) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, context=None):
        mean = context["condition"].expand(-1, 2)
        if self.flow:
            base = DiagonalNormal(torch.zeros_like(mean), torch.ones_like(mean))
            return td.TransformedDistribution(base, td.AffineTransform(mean, 2.0), validate_args=False)
        return DiagonalNormal(mean, 2 * torch.ones_like(mean))


@pytest.mark.parametrize("span", [1.5, None])
def test_the_range_is_that_of_the_prior_of_each_condition(span):
    z = torch.zeros(3, 2)
    context = {"condition": torch.tensor([[0.0], [10.0], [-5.0]])}
    t = torch.linspace(-1.5, 1.5, 4) if span else torch.special.ndtri(torch.tensor([1, 3, 5, 7]) / 8)
    wanted = context["condition"][:, 0] + 2 * t[:, None]  # (steps, B)
    exact = traverse(decoding(lambda z: z, prior=Shifted()), z, None, span, 4, context)
    model = decoding(lambda z: z, prior=Shifted(flow=True))
    state = torch.get_rng_state()
    drawn = traverse(model, z, None, span, 4, context)
    assert torch.equal(torch.get_rng_state(), state)
    for d in range(2):
        assert torch.allclose(exact.z[d, :, :, d], wanted, atol=1e-5)
        assert torch.allclose(drawn.z[d, :, :, d], wanted, atol=0.12)
        assert (exact.z[d, :, :, 1 - d] == 0).all()
    assert torch.equal(traverse(model, z, None, span, 4, context).z, drawn.z)
    assert torch.equal(exact.mean, exact.z)


def test_quantiles_of_a_mixture_are_its_own():
    prior = priors.GaussianMixture(2, 2)
    with torch.no_grad():
        prior.loc.copy_(torch.tensor([[-4.0, 0.0], [4.0, 0.0]]))
    found = manifold(decoding(lambda z: z, prior=prior), 8).z
    sides = torch.special.ndtri(torch.tensor([1, 3, 5, 7]) / 8)
    assert torch.allclose(found[:, 0, 0], torch.cat([sides - 4, sides + 4]), atol=0.1)
    walk = traverse(decoding(lambda z: z, prior=prior), torch.zeros(2), span=1.0, steps=2).z
    assert walk[0, 1, 0].item() == pytest.approx(17**0.5)  # variance within and between


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, z: interpolate(z, z[:1], 3), r"\(B, D\) each; found \(4, 2\) and \(1, 2\)"),
        (lambda m, z: interpolate(z, z, 1), "its two ends, not 1"),
        (lambda m, z: interpolate(z, z, 3, "sperical"), "did you mean 'spherical'"),
        (lambda m, z: interpolate(z, z, 3, "geodesic"), "give model="),
        (lambda m, z: interpolate(z, z * math.nan, 3), "not finite"),
        (lambda m, z: interpolate(z.long(), z.long(), 3), "between codes"),
        (lambda m, z: traverse(m, torch.zeros(4, 3)), r"found \(4, 3\)"),
        (lambda m, z: traverse(m, z, dims=[0, 2]), r"dims are among 0 … 1; found \[2\]"),
        (lambda m, z: traverse(m, z, dims=[]), "found none"),
        (lambda m, z: traverse(m, z, span=-1.0), "a span above 0"),
        (lambda m, z: manifold(m, 0), "steps ≥ 1"),
        (lambda m, z: manifold(decoding(lambda z: z, 3)), "this model has 3: use traverse"),
        (lambda m, z: direction(z, z[:0]), "neither empty"),
        (lambda m, z: direction(z, torch.zeros(2, 3)), r"\(4, 2\) and \(2, 3\)"),
    ],
)
def test_walks_that_cannot_be_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(decoding(sphere), torch.zeros(4, 2))
