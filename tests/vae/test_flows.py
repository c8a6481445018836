"""The invertible maps, and the distributions made of them: against autograd, quadrature and zuko."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sciencevae.distributions import DiagonalNormal
from sciencevae.distributions.flow import FlowNormal, normal_points
from sciencevae.errors import InputError
from sciencevae.networks import Perceptron
from sciencevae.vae import encoders, priors
from sciencevae.vae.flows import Bijection, spline

KINDS = ("autoregressive", "coupling")


def bent(dim: int, kind: str, transforms: int = 3, bins: int = 5, features: int = 0) -> Bijection:
    """Far from the identity, and still well conditioned."""
    torch.manual_seed(dim + transforms)
    flow = Bijection(dim, kind, transforms, (8, 7), bins, features).double()
    with torch.no_grad():
        for layer in flow.layers:
            layer.network.layers[-1].weight.normal_(0, 0.5)
            layer.network.layers[-1].bias.normal_(0, 0.3)
    return flow


def knots(bins: int, seed: int, rows: int = 50) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    x = 4 * torch.randn(rows, generator=g, dtype=torch.float64)
    parts = [2 * torch.randn(rows, k, generator=g, dtype=torch.float64) for k in (bins, bins, bins - 1)]
    return (x, *parts)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 9), st.integers(0, 10**6))
def test_the_spline_is_zukos_with_the_same_knots(bins, seed):
    from zuko.transforms import MonotonicRQSTransform

    x, widths, heights, slopes = knots(bins, seed)
    y, log_slope = spline(x, widths, heights, slopes)
    oracle = MonotonicRQSTransform(widths, heights, slopes)

    def places(logits: Tensor) -> Tensor:
        share = 0.001 + (1 - 0.001 * bins) * logits.softmax(-1)
        return torch.nn.functional.pad(10 * share.cumsum(-1), (1, 0)) - 5

    oracle.horizontal, oracle.vertical = places(widths), places(heights)
    # softplus with a shift that makes 0 the slope 1
    inner = 0.001 + (math.expm1(0.999) * slopes.exp()).log1p()
    oracle.derivatives = torch.nn.functional.pad(inner, (1, 1), value=1.0)
    theirs, theirs_log = oracle.call_and_ladj(x)
    assert torch.allclose(y, theirs, atol=1e-9)
    assert torch.allclose(log_slope, theirs_log, atol=1e-7)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 9), st.integers(0, 10**6))
def test_the_spline_is_inverted_and_its_slope_is_its_derivative(bins, seed):
    x, *shape = knots(bins, seed)
    x.requires_grad_()
    y, log_slope = spline(x, *shape)
    back, log_back = spline(y, *shape, inverse=True)
    assert torch.allclose(back, x, atol=1e-7)
    assert torch.allclose(log_back, -log_slope, atol=1e-5)
    (slope,) = torch.autograd.grad(y.sum(), x, retain_graph=True)
    assert torch.allclose(slope.log(), log_slope, atol=1e-8)
    (there_and_back,) = torch.autograd.grad(back.sum(), x)
    assert torch.allclose(there_and_back, torch.ones_like(x), atol=1e-5)


def test_the_spline_with_all_numbers_0_is_the_identity_and_finite_at_knots_and_ends():
    x = torch.tensor([-9.0, -5.0, -2.5, 0.0, 2.5, 5.0, 7.0], dtype=torch.float64, requires_grad=True)
    zeros = torch.zeros(7, 4, dtype=torch.float64, requires_grad=True)
    y, log_slope = spline(x, zeros, zeros, zeros[:, :3])
    assert torch.allclose(y, x, atol=1e-12)
    assert log_slope.abs().max() < 1e-12
    for inverse in (False, True):
        y, log_slope = spline(x, zeros, zeros, zeros[:, :3], inverse=inverse)
        for gradient in torch.autograd.grad((y + log_slope).sum(), [x, zeros]):
            assert gradient.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dim", "features", "bins"), [(2, 0, 5), (3, 2, 5), (5, 0, 0), (5, 1, 3)])
def test_inverse_and_log_determinant(kind, dim, features, bins):
    flow = bent(dim, kind, bins=bins, features=features)
    x = torch.randn(4, 3, dim, dtype=torch.float64)
    h = torch.randn(3, features, dtype=torch.float64) if features else None
    y, log_det = flow(x, h)
    assert (y - x).abs().max() > 0.3, "far from the identity"
    back, log_back = flow.inverse(y, h)
    assert torch.allclose(back, x, atol=1e-6)
    assert torch.allclose(log_back, -log_det, atol=1e-5)
    for row in range(3):
        given_h = None if h is None else h[row]
        jacobian = torch.autograd.functional.jacobian(lambda u, g=given_h: flow(u, g)[0], x[0, row])
        sign, wanted = jacobian.slogdet()
        assert sign == 1
        assert log_det[0, row].item() == pytest.approx(wanted.item(), abs=1e-9)


def test_a_draw_of_an_autoregressive_flow_makes_the_numbers_of_each_coordinate_once():
    from torch.utils.flop_counter import FlopCounterMode

    dim, width, bins = 12, 16, 8
    flow = Bijection(dim, "autoregressive", 1, (width,), bins)
    y = torch.randn(100, dim)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        flow.inverse(y)
    hidden, numbers = dim * width, width * dim * (2 + 3 * bins - 1)
    assert counter.get_total_flops() == 2 * len(y) * (dim * hidden + numbers)


@pytest.mark.parametrize("kind", KINDS)
def test_every_coordinate_comes_to_depend_on_every_other(kind):
    for dim in range(2, 8):
        flow = bent(dim, kind, transforms=4)
        jacobian = torch.autograd.functional.jacobian(
            lambda u, f=flow: f(u)[0], torch.randn(dim, dtype=torch.float64)
        )
        assert (jacobian != 0).all(), dim
        one = bent(dim, "autoregressive", transforms=1)
        jacobian = torch.autograd.functional.jacobian(
            lambda u, f=one: f(u)[0], torch.randn(dim, dtype=torch.float64)
        )
        assert torch.equal(jacobian, jacobian.tril())
        assert (jacobian.tril() != 0).sum() == dim * (dim + 1) // 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_flow_in_two_dimensions_integrates_to_1_and_its_draws_follow_it(kind):
    prior = priors.Flow(2, kind, transforms=2, hidden=(8, 7), bins=5).double()
    prior.flow.load_state_dict(bent(2, kind, transforms=2).state_dict())
    p = prior()
    axis = torch.linspace(-12, 12, 401, dtype=torch.float64)
    z = torch.cartesian_prod(axis, axis)
    density = p.log_prob(z).detach().exp() * float(axis[1] - axis[0]) ** 2
    assert density.sum().item() == pytest.approx(1, abs=5e-3)
    torch.manual_seed(0)
    draws = p.sample((20000,))
    mean = (density.unsqueeze(-1) * z).sum(0)
    spread = (density.unsqueeze(-1) * (z - mean).square()).sum(0).sqrt()
    assert ((draws.mean(0) - mean).abs() < 4 * spread / math.sqrt(20000)).all()
    cross = (density * (z - mean).prod(-1)).sum()
    assert ((draws - draws.mean(0)).prod(-1).mean() - cross).abs() < 0.05 * spread.prod()
    # entropy by quadrature and by draws
    entropy = -(density * (density + 1e-300).log()).sum() + 2 * math.log(float(axis[1] - axis[0]))
    log_p = p.log_prob(draws).detach()
    assert (-log_p.mean() - entropy).abs() < 4 * log_p.std() / math.sqrt(20000) + 5e-3


@pytest.mark.parametrize("kind", KINDS)
def test_a_fitted_flow_reaches_the_entropy_of_a_banana(kind):
    """z₁ ~ N(0, 1), z₂ = z₁² / 2 − ½ + 0.3 ε: the entropy is that of two normals, log 2πe + log 0.3."""
    generator = torch.Generator().manual_seed(0)

    def banana(n: int) -> Tensor:
        first, noise = torch.randn(2, n, generator=generator)
        return torch.stack([first, first.square() / 2 - 0.5 + 0.3 * noise], -1)

    torch.manual_seed(0)
    prior = priors.Flow(2, kind, transforms=3, hidden=(16, 16), bins=6)
    optimiser = torch.optim.Adam(prior.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 300)
    for _ in range(300):
        optimiser.zero_grad()
        (-prior().log_prob(banana(256)).mean()).backward()
        optimiser.step()
        schedule.step()
    z = banana(20000)
    entropy = math.log(2 * math.pi * math.e) + math.log(0.3)
    cross = -prior().log_prob(z).mean().item()
    assert entropy - 0.03 < cross < entropy + 0.06


def posterior(kind: str, features: int = 3, dim: int = 2, rows: int = 4) -> FlowNormal:
    torch.manual_seed(2)
    encoder = encoders.Flow(
        Perceptron(3, [8], 2 * dim + features), dim, features, kind, hidden=(8, 7), bins=5
    )
    encoder = encoder.double()
    encoder.flow.load_state_dict(bent(dim, kind, transforms=2, features=features).state_dict())
    return encoder(torch.randn(rows, 3, dtype=torch.float64))


@pytest.mark.parametrize("kind", KINDS)
def test_the_density_of_own_draws_is_that_of_the_inverse_and_so_is_its_gradient(kind):
    noise = torch.randn(3, 4, 2, dtype=torch.float64)
    found = []
    for remembered in (True, False):
        q = posterior(kind)
        z = q.from_noise(noise)
        log_q = q.log_prob(z if remembered else z + 0)
        weights = [*q.flow.parameters()]
        found.append([log_q, *torch.autograd.grad((log_q * torch.arange(4.0)).sum(), weights)])
    for ours, inverted in zip(*found, strict=True):
        assert torch.allclose(ours, inverted, atol=1e-6)
    # a draw made without gradients has a density with them
    q = posterior(kind)
    assert q.log_prob(q.sample((2,))).requires_grad


@pytest.mark.parametrize("kind", KINDS)
def test_detached_the_gradient_comes_through_the_draw_alone(kind):
    """∂/∂ε of log q(z(ε)) with fixed parameters, and no gradient to them (Roeder et al. 2017)."""
    q = posterior(kind)
    noise = torch.randn(3, 4, 2, dtype=torch.float64, requires_grad=True)
    z = q.from_noise(noise)
    fixed = q.detach()
    assert torch.allclose(fixed.log_prob(z), q.log_prob(z), atol=1e-6)
    assert not fixed.log_prob(z.detach()).requires_grad
    through_z, whole = (
        torch.autograd.grad(d.log_prob(z).sum(), noise, retain_graph=True)[0] for d in (fixed, q)
    )
    assert torch.allclose(through_z, whole, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_mean_and_stddev_are_those_of_many_draws_and_the_same_always(kind):
    q = posterior(kind)
    assert torch.equal(q.mean, posterior(kind).mean)
    torch.manual_seed(0)
    draws = q.sample((40000,))
    assert ((draws.mean(0) - q.mean).abs() < 0.05 * q.stddev).all()
    assert ((draws.std(0) / q.stddev - 1).abs() < 0.05).all()


def test_where_the_flow_is_affine_and_diagonal_the_moments_are_exact():
    class Scaled(torch.nn.Module):
        def forward(self, x, h, held):
            return 2 * x + 1, torch.full(x.shape[:-1], 3 * math.log(2.0))

    base = DiagonalNormal(torch.randn(5, 3).double(), torch.rand(5, 3).double() + 0.1)
    q = FlowNormal(base, Scaled())
    assert torch.allclose(q.mean, base.loc + base.scale)
    assert torch.allclose(q.stddev, 2 * base.scale)


@pytest.mark.parametrize("dim", [1, 2, 16])
def test_the_fixed_points_are_spread_as_normal_ones(dim):
    from scipy.stats import kstest

    points = normal_points(dim)
    assert points.mean(0).abs().max() < 1e-12
    assert torch.allclose(points.var(0, unbiased=False), torch.ones(dim, dtype=torch.float64))
    assert (
        max(kstest(points[:, i].numpy(), "norm").statistic for i in range(dim)) < 0.02
    )  # of random points 0.08


def test_a_posterior_of_one_dimension():
    torch.manual_seed(0)
    encoder = encoders.Flow(Perceptron(3, [8], 2 + 2), 1, 2, "autoregressive", hidden=(4,)).double()
    q = encoder(torch.randn(2, 3, dtype=torch.float64))
    axis = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    z = q.base.loc + q.base.scale * axis[:, None, None]
    mass = torch.trapezoid(q.log_prob(z).exp(), axis, dim=0) * q.base.scale[:, 0]
    assert torch.allclose(mass, torch.ones(2, dtype=torch.float64), atol=1e-4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bijection(2, "couplin"), "did you mean 'coupling'"),
        (lambda: Bijection(1, "coupling"), "at least 2 dimensions"),
        (lambda: Bijection(2, bins=1), "bins ≥ 2"),
        (lambda: Bijection(2, transforms=0), "transforms ≥ 1"),
        (lambda: Bijection(9, hidden=(4, 64)), "at least 9 units"),
        (lambda: encoders.Flow(Perceptron(3, [], 4), 2, features=3), "gives 4 numbers.*needs 7"),
    ],
)
def test_what_is_refused_when_built(make, message):
    with pytest.raises(InputError, match=message):
        make()
