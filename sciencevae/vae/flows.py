"""Invertible maps of R^D with a known Jacobian: what the flow prior and the flow posterior are made of.

Written out here, in torch alone, because a step has to compile as one graph and run under ``vmap``, which the
distributions of zuko do not; its spline is the oracle in the tests of this one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from sciencevae.errors import InputError, did_you_mean

__all__ = ["Bijection", "Kind", "spline"]

Kind = Literal["autoregressive", "coupling"]

#: outside ±BOX the spline is the identity; the affine map before it brings the mass inside
BOX = 5.0
#: the smallest width and height of a bin, as a share of the box, and the smallest slope at a knot
SMALLEST = 1e-3
#: |log scale| of an affine map stays below this
LOG_SCALE_LIMIT = 7.0


class Bijection(nn.Module):
    """y = (f_T ∘ … ∘ f_1)(x; h) on R^D, and log |det ∂y/∂x|; each f_t changes coordinates one by one.

    Coordinate i of a layer becomes spline(e^s x_i + m), a monotone rational-quadratic spline with ``bins`` bins
    (Durkan et al. 2019), or with ``bins=0`` e^s x_i + m alone; s, m and the knots come from a network.

    autoregressive: of coordinates 1 … i−1 and h (Germain et al. 2015; Papamakarios et al. 2017). The inverse
    takes D passes through the network, the forward map one.
    coupling: of the coordinates that the layer leaves as they are, a half, and h (Dinh et al. 2017). Both
    directions take one pass. Two layers in a row change all coordinates; the halves then are other ones.

    x (..., D), h (..., features), whose leading axes broadcast; log-determinants (...,). Near the identity when
    built. No branch depends on data.
    """

    def __init__(
        self,
        dim: int,
        kind: Kind = "autoregressive",
        transforms: int = 3,
        hidden: Sequence[int] = (64, 64),
        bins: int = 8,
        features: int = 0,
    ) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise InputError(f"unknown kind of flow {kind!r}{did_you_mean(kind, get_args(Kind))}")
        if transforms < 1 or bins < 0 or bins == 1:
            raise InputError(
                f"a flow has transforms ≥ 1 and bins ≥ 2 (0: affine maps alone), not {transforms} and {bins}"
            )
        if kind == "coupling" and dim < 2:
            raise InputError("a coupling flow needs at least 2 dimensions: take kind='autoregressive'")
        if not hidden or (kind == "autoregressive" and min(hidden) < dim):
            raise InputError(
                f"hidden={list(hidden)}: an autoregressive flow in {dim} dimensions needs hidden layers of at "
                f"least {dim} units, a coupling flow at least one layer"
            )
        self.dim, self.features = dim, features
        layer = _Autoregressive if kind == "autoregressive" else _Coupling
        orders = _orders(dim, kind, transforms)
        self.layers = nn.ModuleList(layer(order, hidden, bins, features) for order in orders)

    def forward(self, x: Tensor, h: Tensor | None = None, held: bool = False) -> tuple[Tensor, Tensor]:
        """y and log |det ∂y/∂x|; held: the parameters pass no gradient on."""
        total: Tensor | float = 0.0
        for layer in self.layers:
            x, log_det = layer(x, h, held)
            total = total + log_det
        assert isinstance(total, Tensor)
        return x, total

    def inverse(self, y: Tensor, h: Tensor | None = None, held: bool = False) -> tuple[Tensor, Tensor]:
        """x and log |det ∂x/∂y|."""
        total: Tensor | float = 0.0
        for layer in reversed(self.layers):
            y, log_det = layer.inverse(y, h, held)  # type: ignore[operator]
            total = total + log_det
        assert isinstance(total, Tensor)
        return y, total


def _orders(dim: int, kind: Kind, transforms: int) -> list[list[int]]:
    """The order in which each layer sees the coordinates; a coupling layer leaves the first half as it is."""
    orders = [list(range(dim))]
    while len(orders) < transforms:
        last = orders[-1]
        if kind == "autoregressive":
            orders.append(last[::-1])
            continue
        first, second = last[: dim // 2], last[dim // 2 :]
        following = second + first
        if len(orders) % 2 == 0:  # interleaved: coordinates of one half come into different ones
            following[0::2], following[1::2] = second, first
        orders.append(following)
    return orders


class _Layer(nn.Module):
    """Coordinates in an order of the layer's own; what its network gives are the P numbers of each that changes."""

    order: Tensor
    back: Tensor
    network: _Network

    def __init__(self, order: list[int], bins: int) -> None:
        super().__init__()
        self.dim, self.bins = len(order), bins
        self.size = 2 + (3 * bins - 1 if bins else 0)
        position = torch.tensor(order)
        self.register_buffer("order", position, persistent=False)
        self.register_buffer("back", position.argsort(), persistent=False)

    def shape(self, x: Tensor, h: Tensor | None, held: bool, changed: slice) -> Tensor:
        """The numbers of the coordinates ``changed``, of those that change; (..., n, P)."""
        out = self.network(x, h, held, slice(self.size * changed.start, self.size * changed.stop))
        return out.unflatten(-1, (-1, self.size))

    def change(self, x: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
        """Each coordinate of x (..., n) by its own P numbers (..., n, P), and the log derivatives (..., n)."""
        log_scale = _limited(shape[..., 1])
        y = log_scale.exp() * x + shape[..., 0]
        if not self.bins:
            return y, log_scale
        y, log_slope = spline(y, *self._knots(shape))
        return y, log_scale + log_slope

    def change_back(self, y: Tensor, shape: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = _limited(shape[..., 1])
        if not self.bins:
            return (-log_scale).exp() * (y - shape[..., 0]), -log_scale
        y, log_slope = spline(y, *self._knots(shape), inverse=True)
        return (-log_scale).exp() * (y - shape[..., 0]), log_slope - log_scale

    def _knots(self, shape: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        widths, heights, slopes = shape[..., 2:].split([self.bins, self.bins, self.bins - 1], -1)
        return widths, heights, slopes


class _Autoregressive(_Layer):
    def __init__(self, order: list[int], hidden: Sequence[int], bins: int, features: int) -> None:
        super().__init__(order, bins)
        # a unit of degree d sees coordinates 1 … d; degree 0 sees h alone, and without h nothing
        lowest = 0 if features or self.dim == 1 else 1
        degrees = [torch.arange(1, self.dim + 1)]
        degrees += [lowest + torch.arange(width) % (self.dim - lowest) for width in hidden]
        masks = [after.unsqueeze(1) >= before for before, after in pairwise(degrees)]
        last = degrees[0].repeat_interleave(self.size).unsqueeze(1) > degrees[-1]
        self.network = _Network(self.dim, hidden, self.dim * self.size, features, [*masks, last])

    def forward(self, x: Tensor, h: Tensor | None, held: bool) -> tuple[Tensor, Tensor]:
        x = x.index_select(-1, self.order)
        y, log_slope = self.change(x, self.shape(x, h, held, slice(0, self.dim)))
        return y.index_select(-1, self.back), log_slope.sum(-1)

    def inverse(self, y: Tensor, h: Tensor | None, held: bool) -> tuple[Tensor, Tensor]:
        y = y.index_select(-1, self.order)
        known, log_slopes, x = [], [], torch.zeros_like(y)
        for i in range(self.dim):  # coordinate i from those before it, the others being 0
            here = slice(i, i + 1)
            found, log_slope = self.change_back(y[..., here], self.shape(x, h, held, here))
            known.append(found)
            log_slopes.append(log_slope)
            x = functional.pad(torch.cat(known, -1), (0, self.dim - len(known)))
        return x.index_select(-1, self.back), torch.cat(log_slopes, -1).sum(-1)


class _Coupling(_Layer):
    def __init__(self, order: list[int], hidden: Sequence[int], bins: int, features: int) -> None:
        super().__init__(order, bins)
        self.kept = self.dim // 2
        changed = self.dim - self.kept
        self.network = _Network(self.kept, hidden, changed * self.size, features)

    def forward(self, x: Tensor, h: Tensor | None, held: bool) -> tuple[Tensor, Tensor]:
        return self._apply_half(self.change, x, h, held)

    def inverse(self, y: Tensor, h: Tensor | None, held: bool) -> tuple[Tensor, Tensor]:
        return self._apply_half(self.change_back, y, h, held)

    def _apply_half(
        self,
        change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        x: Tensor,
        h: Tensor | None,
        held: bool,
    ) -> tuple[Tensor, Tensor]:
        kept, rest = x.index_select(-1, self.order).split([self.kept, self.dim - self.kept], -1)
        rest, log_slope = change(rest, self.shape(kept, h, held, slice(0, self.dim - self.kept)))
        kept = kept.expand(*rest.shape[:-1], self.kept)  # h may have brought axes that x has not
        return torch.cat([kept, rest], -1).index_select(-1, self.back), log_slope.sum(-1)


class _Network(nn.Module):
    """A perceptron whose connections a mask may cut; h enters the first layer, once for all x it goes with."""

    def __init__(
        self,
        in_features: int,
        hidden: Sequence[int],
        out_features: int,
        features: int,
        masks: list[Tensor] | None = None,
    ) -> None:
        super().__init__()
        widths = [in_features, *hidden, out_features]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.from_h = nn.Linear(features, hidden[0], bias=False) if features else None
        self.masked = masks is not None
        for number, mask in enumerate(masks or ()):
            self.register_buffer(f"mask{number}", mask, persistent=False)
        with torch.no_grad():  # small, not 0: at 0 the layers before would have no gradient
            last = self.layers[-1]
            last.weight.mul_(0.01)  # type: ignore[operator]
            last.bias.zero_()  # type: ignore[operator]

    def forward(self, x: Tensor, h: Tensor | None, held: bool, out: slice) -> Tensor:
        """The numbers ``out`` of those that it gives."""
        for number, layer in enumerate(self.layers):
            if number:
                x = functional.silu(x)
            rows = out if number == len(self.layers) - 1 else slice(None)
            weight, bias = (tensor[rows] for tensor in _tensors(layer, held))
            if self.masked:
                weight = weight * getattr(self, f"mask{number}")[rows]
            x = functional.linear(x, weight, bias)
            if number == 0 and self.from_h is not None:
                assert h is not None
                weight = self.from_h.weight
                x = x + functional.linear(h, weight.detach() if held else weight)
        return x


def _tensors(layer: nn.Module, held: bool) -> tuple[Tensor, Tensor]:
    weight: Tensor = layer.weight  # type: ignore[assignment]
    bias: Tensor = layer.bias  # type: ignore[assignment]
    return (weight.detach(), bias.detach()) if held else (weight, bias)


def _limited(log_scale: Tensor) -> Tensor:
    return log_scale / (1 + log_scale.abs() / LOG_SCALE_LIMIT)


def spline(
    x: Tensor, widths: Tensor, heights: Tensor, slopes: Tensor, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """The monotone rational-quadratic spline on [−5, 5]², or its inverse; outside it is the identity.

    x (...,); unnormalised widths and heights of the K bins (..., K), slopes at the K − 1 inner knots (..., K−1):
    all 0 is the identity. Gives the value and the logarithm of its derivative, (...,). Durkan et al. 2019, eq. 4–8.
    """
    left, width = _knots(widths)
    bottom, height = _knots(heights)
    # softplus(0 + shift) + SMALLEST = 1, the slope of the identity and of the tails
    slope = SMALLEST + functional.softplus(slopes + math.log(math.expm1(1 - SMALLEST)))
    slope = functional.pad(slope, (1, 1), value=1.0)  # (..., K+1)
    inside = x.abs() < BOX
    within = torch.where(inside, x, torch.zeros_like(x))
    starts = bottom if inverse else left
    # the bin: the number of inner knots that are not above x
    bin_ = (within.unsqueeze(-1) >= starts[..., 1:]).sum(-1, keepdim=True)

    def of(values: Tensor) -> Tensor:
        return values.expand(*bin_.shape[:-1], values.shape[-1]).gather(-1, bin_).squeeze(-1)

    x0, y0, w, h = of(left), of(bottom), of(width), of(height)
    d0, d1 = of(slope[..., :-1]), of(slope[..., 1:])
    s = h / w
    bend = d0 + d1 - 2 * s
    if inverse:
        rise = within - y0
        a, b, c = h * (s - d0) + rise * bend, h * d0 - rise * bend, -s * rise
        root = (b.square() - 4 * a * c).clamp(min=torch.finfo(x.dtype).tiny).sqrt()
        t = -2 * c / (b + root)
        value = x0 + t * w
    else:
        t = (within - x0) / w
        value = y0 + h * (s * t.square() + d0 * t * (1 - t)) / (s + bend * t * (1 - t))
    denominator = s + bend * t * (1 - t)
    steepness = d1 * t.square() + 2 * s * t * (1 - t) + d0 * (1 - t).square()
    log_slope = 2 * s.log() + steepness.log() - 2 * denominator.log()
    log_slope = -log_slope if inverse else log_slope
    return torch.where(inside, value, x), torch.where(inside, log_slope, torch.zeros_like(log_slope))


def _knots(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The left ends and the widths of the bins, both (..., K)."""
    bins = logits.shape[-1]
    widths = 2 * BOX * (SMALLEST + (1 - SMALLEST * bins) * logits.softmax(-1))
    return widths.cumsum(-1) - widths - BOX, widths
