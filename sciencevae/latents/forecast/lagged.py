"""A VAE whose latents are made to be forecast: it reads a window of frames and describes the frames that follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from sciencevae.batch import Batch, Fields
from sciencevae.distributions import DiagonalNormal
from sciencevae.errors import InputError
from sciencevae.latents.forecast.linear import Linear
from sciencevae.latents.forecast.pod import POD
from sciencevae.latents.forecast.series import Windows
from sciencevae.spec import recorded
from sciencevae.vae import decoders, priors
from sciencevae.vae.context import Context
from sciencevae.vae.encoders import Encoder
from sciencevae.vae.evaluating import evaluating
from sciencevae.vae.model import VAE

if TYPE_CHECKING:
    from sciencevae.data.batches import Batches

__all__ = [
    "PAST",
    "FollowingFrames",
    "WindowEncoder",
    "frames_ahead",
    "lagged_batch",
    "lagged_encode",
    "lagged_metric",
    "lagged_settle",
    "lagged_vae",
    "told_by",
]

ROWS = 512  # windows that go through the encoder at once
#: the frames up to a datum's own, (B, L, *E), in a batch's context
PAST = "past"


@recorded
class WindowEncoder(Encoder):
    """q(z_t | x_{t−L+1} … x_t) of ``context["past"]`` (B, L, *E); x itself, with the future in it, is not read.

    The mean is a projection of the frame x_t and of forecasts of the next K: linear ones (POD coefficients, a
    ``Linear`` of them), fitted in closed form, and what a convolution adds. The convolution is along the last axis
    of the grid, that in which a flow carries; the other axes are its channels, and four functions of the place
    stand beside them, for no wall and no shear layer is the same everywhere. It is 0 at first.

    shape: *E of a frame, n its size; frames: K; modes: of the POD; width, dropout: of the convolution's channels.
    """

    missing = True  # of x, which may have frames that are not there yet
    linear: Linear
    mean: Tensor
    basis: Tensor
    weights: Tensor
    centre: Tensor
    projection: Tensor
    place: Tensor
    log_variance: Tensor

    def __init__(
        self,
        shape: Sequence[int],
        window: int,
        frames: int,
        dim: int,
        linear: Linear,
        width: int = 128,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.shape, self.window, self.frames, self.dim = tuple(shape), window, frames, dim
        if linear.frames < frames or linear.window > window:
            raise InputError(
                f"the linear forecaster gives {linear.frames} frames from {linear.window}; the encoder needs "
                f"{frames} from at most {window}: build it with frames={frames}"
            )
        size, columns = math.prod(self.shape), self.shape[-1]
        self.linear, self.out_features = linear, 2 * dim
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("basis", torch.zeros(linear.dim, size))
        self.register_buffer("weights", torch.ones(frames + 1, 1))
        self.register_buffer("centre", torch.zeros((frames + 1) * size))
        self.register_buffer("projection", torch.zeros((frames + 1) * size, dim))
        along = torch.linspace(-1, 1, columns)
        place = torch.stack([along, along.square(), (3 * along).cos(), (3 * along).sin()])
        self.register_buffer("place", place, persistent=False)
        self.channels = size // columns
        self.enter = _along(window * self.channels + len(place), width)
        self.blocks: Any = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Dropout1d(dropout), _along(width, width)) for _ in range(3)
        )
        self.leave = _along(width, frames * self.channels)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(cast(Tensor, self.leave.bias))
        self.register_buffer("log_variance", torch.zeros(dim))

    def forward(self, x: Fields | None, context: Context | None = None) -> DiagonalNormal:
        if context is None or PAST not in context:
            raise InputError(
                f"this encoder reads context[{PAST!r}], the frames (B, {self.window}, …) up to x's own"
            )
        window = context[PAST].flatten(1)  # (B, L·n)
        seen = self.seen(window) + self.added(window)
        mean = ((seen * self.weights).flatten(1) - self.centre) @ self.projection
        return DiagonalNormal(mean, (0.5 * self.log_variance).exp().expand_as(mean))

    def seen(self, window: Tensor) -> Tensor:
        """The frame and the K linear forecasts, (B, K + 1, n), from windows (B, L·n)."""
        frames = window.unflatten(1, (self.window, -1))
        a = self.linear._standard((frames - self.mean) @ self.basis.mT)[:, -self.linear.window :]
        ahead = self.linear.start(a, None)[:, : self.frames] * self.linear.spread + self.linear.centre
        return torch.cat([frames[:, -1:], ahead @ self.basis + self.mean], 1)

    def added(self, window: Tensor) -> Tensor:
        """What the convolution adds to them, 0 to the frame itself."""
        columns = self.shape[-1]
        x = window.unflatten(1, (self.window * self.channels, columns))
        h = self.enter(torch.cat([x, self.place.expand(len(x), -1, -1)], 1))
        for block in self.blocks:
            h = h + block(h)
        ahead = self.leave(nn.functional.silu(h)).reshape(len(x), self.frames, -1)
        return nn.functional.pad(ahead, (0, 0, 1, 0))


def _along(channels: int, others: int) -> nn.Conv1d:
    return nn.Conv1d(channels, others, 5, padding=2)


@recorded
class FollowingFrames(nn.Module):
    """z (B, D) → the frame and the K that follow, (B, K + 1, *E): mean + z · columns, which stay as they are."""

    mean: Tensor
    columns: Tensor

    def __init__(self, dim: int, shape: Sequence[int], frames: int) -> None:
        super().__init__()
        self.shape, self.out_features = (frames + 1, *shape), frames + 1
        self.register_buffer("mean", torch.zeros(math.prod(self.shape)))
        self.register_buffer("columns", torch.zeros(dim, math.prod(self.shape)))

    def forward(self, z: Tensor) -> Tensor:
        return (self.mean + z @ self.columns).unflatten(1, self.shape)


def lagged_vae(
    train: Windows, dim: int, linear: Linear, width: int = 128, dropout: float = 0.2, beta: float = 0.01
) -> VAE:
    """A VAE for windows of frames, histories (N, L, *E) and futures (N, ≥ K, *E), its linear part fitted to them.

    q(z_t | x_{t−L+1} … x_t) and p(x_t, x_{t+1} … x_{t+K} | z_t), K = ``linear.frames``, each lead time with an
    error of its own, learned (the latents of a time-lagged autoencoder; Wehmeyer & Noé 2018, Hernández et al.
    2018). The mean of the decoder is linear and stays as it is, dim/(K + 1) principal directions of each of these
    frames as linear dynamics forecasts it; what ``fit`` trains, on ``lagged_batch(model, windows)`` by
    ``ELBO(beta)``, is the convolution. Then z_t holds what the past tells of the future, denoised; and, the decoder
    being linear, a forecast E[z_{t+k} | past] is decoded to E[x_{t+k+1} | past], by the tower property: no
    regression need have the noise of a frame as its target. Models that differ in the seed alone share the decoder,
    so that their latents can be averaged.

    linear: a forecaster of POD coefficients, (modes, window, frames), not yet fitted. beta: that of the objective,
    an information bottleneck (Alemi et al. 2017): q sees the past alone, and near 1 it would shrink the forecasts.
    """
    shape, steps = tuple(train.history.shape[2:]), train.history.shape[1]
    flat = Windows(train.history.flatten(2), train.future.flatten(2), train.rows)
    frames = linear.frames
    if dim % (frames + 1):
        raise InputError(f"dim is shared out over {frames + 1} frames: give a multiple of that, not {dim}")
    encoder = WindowEncoder(shape, steps, frames, dim, linear, width, dropout)
    pod = POD.fit(torch.cat([flat.history[0], flat.future[:, 0]]), linear.dim)
    encoder.mean, encoder.basis = pod.mean, pod.modes
    linear.fit(Windows(pod.encode(flat.history), pod.encode(flat.future), flat.rows))
    linear.requires_grad_(False)
    with torch.no_grad():
        seen = encoder.seen(flat.history.flatten(1))  # (N, K + 1, n)
        error = (seen[:, 1:] - flat.future[:, :frames]).square().mean((0, 2)).sqrt()
        error = torch.cat([error[:1], error])  # of the frame itself, too: it is measured with noise
        encoder.weights = 1 / error[:, None]
        # A basis of all frames together would hold them in the relation that linear dynamics gives them, and leave
        # no room for what the convolution adds: each frame has modes of its own.
        each = [POD.fit(frame, dim // (frames + 1)) for frame in (seen * encoder.weights).unbind(1)]
        variances = torch.cat([pod.variances for pod in each]).clamp(min=1e-8)
        modes, mean = torch.block_diag(*(pod.modes for pod in each)), torch.cat([pod.mean for pod in each])
        spread = variances.sqrt()[:, None]
        encoder.centre, encoder.projection = mean, (modes / spread).mT.contiguous()
        # the best one, the decoder being linear with noise 1 in units of the errors
        encoder.log_variance = -(variances / beta).log1p()
    network = FollowingFrames(dim, shape, frames)
    units = error.repeat_interleave(math.prod(shape))
    network.mean, network.columns = mean * units, modes * spread * units
    decoder = decoders.Gaussian(network, "learned")
    decoder.log_scale.data = error.log()
    return VAE(priors.StandardNormal(dim), encoder, decoder)


def lagged_batch(model: VAE, windows: Windows) -> Batch:
    """What such a VAE is trained on: x the frame and the K that follow, and the window in the context."""
    encoder = _encoder(model)
    x = torch.cat([windows.history[:, -1:], windows.future[:, : encoder.frames]], 1)
    return Batch(x, {PAST: windows.history[:, -encoder.window :]})


@torch.no_grad()
def lagged_settle(model: VAE, valid: Batches) -> None:
    """Give the decoder's σ of each lead time the rms error of held-out frames: training's are too small."""
    encoder, decoder = _encoder(model), cast(Any, model.decoder)
    squares, counts = torch.zeros(2, encoder.frames + 1, dtype=torch.double)
    with evaluating(model):
        for batch in valid.blocks(ROWS):
            found, x = model.reconstruct(batch.x, batch.context), batch.x  # (B, K + 1, *E)
            missed = (cast(Tensor, found) - cast(Tensor, x)).square().transpose(0, 1).flatten(1)
            squares += missed.nansum(1).double()
            counts += missed.isfinite().sum(1)
    decoder.log_scale.data = (0.5 * (squares / counts).log()).to(decoder.log_scale)


@torch.no_grad()
def lagged_encode(model: VAE, history: Tensor) -> Tensor:
    """The latents of windows (N, L, *E), posterior means (N, D)."""
    encoder = _encoder(model)
    with evaluating(model):
        windows = history[:, -encoder.window :].split(ROWS)
        return torch.cat([encoder(None, {PAST: window}).mean for window in windows])


def lagged_metric(model: VAE) -> list[float]:
    """What makes squared differences of latents those of the frames, in units of their errors: D factors.

    The lengths of the decoder's columns: the ``scaling`` of a forecaster of these latents.
    """
    lengths: list[float] = (1 / _encoder(model).projection.norm(dim=0)).tolist()
    return lengths


def frames_ahead(model: VAE) -> int:
    """K, of how many following frames the latents tell; 0 of a VAE of single frames."""
    return model.encoder.frames if isinstance(model.encoder, WindowEncoder) else 0


def told_by(steps: int, ahead: int) -> tuple[Tensor, Tensor]:
    """Which latents tell the frames 1 … H after the last one best: those of frame h − k, k = min(h, K); (H,) each.

    The known latents themselves where they reach; beyond them what was forecast least far, by the tower property.

    >>> [numbers.tolist() for numbers in told_by(5, 3)]
    [[0, 0, 0, 1, 2], [1, 2, 3, 3, 3]]
    """
    leads = torch.arange(1, steps + 1)
    lags = leads.clamp(max=ahead)
    return leads - lags, lags


def _encoder(model: VAE) -> WindowEncoder:
    if not isinstance(model.encoder, WindowEncoder):
        raise InputError("this VAE does not read windows of frames: build it with lagged_vae")
    return model.encoder
