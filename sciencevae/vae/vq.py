"""The discrete family: a VAE whose latents are codes, integers at the places of a grid (VQ-VAE)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor, nn

from sciencevae.batch import Batch, Fields
from sciencevae.distributions import Joint
from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.training.schedules import Schedule, as_schedule
from sciencevae.vae.code_priors import Autoregressive, CodePrior, UniformCodes
from sciencevae.vae.context import Context, condition_of, full_precision
from sciencevae.vae.decoders import Decoder
from sciencevae.vae.encoders import Encoder, _with_mask
from sciencevae.vae.model import VAE, Terms, _squeezed
from sciencevae.vae.objectives import Loss, Objective
from sciencevae.vae.quantiser import Quantiser

__all__ = ["VQ", "VQVAE", "Autoregressive", "CodeEncoder", "Codes", "Quantiser", "UniformCodes"]


class Codes(td.Distribution):
    """q(z | x): all probability on one grid of codes; batch shape (B,), event shape the grid.

    codes (B, *grid), integers · encoded z_e (B, D, *grid), what the network gave · embedded (B, D, *grid), the
    vectors of the codes · mean, the same as embedded, but its gradient goes straight through to ``encoded``.
    """

    arg_constraints = {}  # noqa: RUF012  (torch's own interface)

    def __init__(self, codes: Tensor, encoded: Tensor, embedded: Tensor) -> None:
        self.codes, self.encoded, self.embedded = codes, encoded, embedded
        super().__init__(codes.shape[:1], codes.shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        # as in the paper, written so that the value is that of the codes to the last digit
        return self.embedded.detach() + (self.encoded - self.encoded.detach())

    @property
    def mode(self) -> Tensor:
        return self.codes

    def sample(self, sample_shape: Any = ()) -> Tensor:
        return self.codes.expand(*sample_shape, *self.codes.shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """0 for the codes themselves, −∞ for others."""
        batch = value.shape[: value.dim() - len(self.event_shape)]
        same = (value == self.codes).reshape(*batch, -1).all(-1)
        return torch.where(same, self.encoded.new_zeros(()), -math.inf)


@recorded
class CodeEncoder(Encoder):
    """q(z | x, c): the code nearest to what the network gives, at each place of a grid.

    network: x (B, …) → (B, D) for one code a datum, or (B, D, *grid), D the dim of the quantiser.
    grid: (T,), (h, w), or () for one code; left out it is ``network.grid``, or () of a network that has none.
    missing, conditional: as of ``encoders.Gaussian``.
    van den Oord, Vinyals & Kavukcuoglu 2017, eq. 1.
    """

    def __init__(
        self,
        network: nn.Module,
        quantiser: Quantiser,
        grid: Sequence[int] | None = None,
        missing: bool = False,
        conditional: bool = False,
    ) -> None:
        super().__init__()
        own = getattr(network, "grid", None)
        if grid is not None and own is not None and tuple(grid) != tuple(own):
            raise InputError(f"the encoder's network gives the grid {tuple(own)}, not {tuple(grid)}")
        self.grid: tuple[int, ...] = tuple(grid if grid is not None else own or ())
        width = getattr(network, "out_channels", getattr(network, "out_features", quantiser.dim))
        if width != quantiser.dim:
            raise InputError(
                f"the encoder's network gives vectors of {width} numbers; the codes have {quantiser.dim}"
            )
        self.network, self.quantiser = network, quantiser
        self.missing, self.conditional = missing, conditional

    @property
    def dim(self) -> int:  # type: ignore[override]
        """The number of dimensions D of a code's vector."""
        return self.quantiser.dim

    @property
    def codes(self) -> int:
        """The number of codes K."""
        return self.quantiser.codes

    def forward(self, x: Fields, context: Context | None = None) -> Codes:
        if self.missing:
            x = _with_mask(x)
        encoded = full_precision(
            self.network(x, *condition_of("the encoder", context, self.conditional))
        )  # (B, D, *grid)
        if encoded.shape[1:] != (wanted := (self.dim, *self.grid)):
            raise InputError(
                f"the encoder's network gave {tuple(encoded.shape)}; expected (B, {', '.join(map(str, wanted))}), "
                "a vector for each place of the grid"
            )
        codes = self.quantiser.nearest(encoded)
        return Codes(codes, encoded, self.quantiser.embed(codes))


@recorded
class VQVAE(VAE):
    """A VAE whose z are codes: p(z | c) over integer grids, q(z | x, c) a nearest code, p(x | e_z, c).

    The decoder sees the codes' vectors (S, B, D, *grid). Of ``terms``, z (S, B, *grid) holds the integers, all S
    draws equal; log_qz = 0, kl = −log p(z | c), so the ELBO is log p(x | z) + log p(z); and ``extra`` has

    commitment: ‖sg(e) − z_e‖², codebook: ‖sg(z_e) − e‖², where the quantiser learns by gradient (sg: held fixed),
                each summed over the D dimensions and averaged over the grid, (B,)
    perplexity: exp(entropy of the use of the codes in the batch), the same for each datum, (B,)

    ``terms`` in training mode is also what moves the codebook, as a batch normalisation its statistics; the
    noise, (B, n) for n places, chooses what dead codes become. Train with the objective ``VQ`` and a
    ``UniformCodes`` prior, then exchange the prior for one fitted to the codes.
    van den Oord, Vinyals & Kavukcuoglu 2017.

    >>> from sciencevae.networks import Perceptron
    >>> from sciencevae.vae import decoders
    >>> encoder = CodeEncoder(Perceptron(8, [16], 4), Quantiser(32, 4))
    >>> model = VQVAE(UniformCodes(32, ()), encoder, decoders.Gaussian(Perceptron(4, [16], 8)))
    >>> model.encode(torch.zeros(5, 8)).codes.shape, model.sample(3).shape
    (torch.Size([5]), torch.Size([3, 8]))
    """

    coded = True
    prior: CodePrior
    encoder: CodeEncoder

    def __init__(self, prior: CodePrior, encoder: CodeEncoder, decoder: Decoder) -> None:
        super().__init__(prior, encoder, decoder)
        self._check_prior()

    @property
    def codes(self) -> int:
        """The number of codes K."""
        return self.encoder.codes

    @property
    def grid(self) -> tuple[int, ...]:
        """The shape of the codes of a datum."""
        return self.encoder.grid

    def noise_shape(self, samples: int, rows: int) -> tuple[int, ...]:
        """A number for each vector of ``rows`` data: their order chooses what dead codes become."""
        return (rows, math.prod(self.grid))

    def terms(
        self,
        batch: Batch,
        samples: int = 1,
        noise: Tensor | None = None,
        detach_posterior: bool = False,
        gradient_scale: Tensor | None = None,
    ) -> Terms:
        """The terms of every objective and estimate; log_qz = 0 has no parameters to hold fixed."""
        if gradient_scale is not None:
            raise InputError("codes have no reparameterised gradient that could be scaled: train with VQ")
        x, context = batch.x, batch.context
        posterior = self.encoder(x, context)
        codes, quantiser = posterior.codes, self.encoder.quantiser
        likelihood = self.decoder(posterior.mean.unsqueeze(0), context)
        by_field = likelihood.log_prob_by_field(x) if isinstance(likelihood, Joint) else {}
        log_px = torch.stack(list(by_field.values())).sum(0) if by_field else likelihood.log_prob(x)
        log_pz = self.prior(context).log_prob(codes.unsqueeze(0)).to(log_px.dtype)
        weight = torch.ones_like(log_px[0]) if batch.weight is None else batch.weight
        use = quantiser.use(codes, weight)
        extra = {
            "commitment": _squared(posterior.embedded.detach() - posterior.encoded),
            "perplexity": torch.special.entr(use).sum().exp().expand(len(codes)),
        }
        if quantiser.learned == "gradient":
            extra["codebook"] = _squared(posterior.embedded - posterior.encoded.detach())
        if self.training:
            chosen = (
                torch.randn_like(weight.new_zeros(self.noise_shape(1, len(codes))))
                if noise is None
                else noise
            )
            quantiser.update(posterior.encoded.detach(), codes, weight, chosen)
        log_px, log_pz = log_px.expand(samples, -1), log_pz.expand(samples, -1)
        return Terms(
            z=codes.expand(samples, *codes.shape),
            log_px=log_px,
            log_pz=log_pz,
            log_qz=torch.zeros_like(log_px),
            kl=-log_pz[0],
            kl_by_dim=None,
            posterior=posterior,
            likelihood=likelihood,
            log_px_by_field={name: field.expand(samples, -1) for name, field in by_field.items()},
            extra=extra,
        )

    forward = terms

    def encode(self, x: Fields, context: Context | None = None) -> Codes:
        """q(z | x, c), batch shape (B,): its ``.codes`` (B, *grid), and their vectors ``.mean`` (B, D, *grid)."""
        return self.encoder(x, context)

    def decode(self, z: Tensor, context: Context | None = None) -> td.Distribution:
        """p(x | z, c) of codes, integers (B, *grid), or of vectors (B, D, *grid); of S·B for (S, B, …)."""
        if not z.is_floating_point():
            z = self._embedded(z)
        event = (self.dim, *self.grid)
        lead = z.shape[: z.dim() - len(event)]
        if z.shape != (*lead, *event) or len(lead) not in (1, 2):
            raise InputError(
                f"the latents are {tuple(z.shape)}; this model takes codes (B, *{self.grid}), integers, or their "
                f"vectors (B, *{event})"
            )
        return (
            self.decoder(z, context) if len(lead) == 2 else _squeezed(self.decoder(z.unsqueeze(0), context))
        )

    def _embedded(self, codes: Tensor) -> Tensor:
        """(…, *grid) → (…, D, *grid)."""
        lead = codes.shape[: codes.dim() - len(self.grid)]
        if codes.shape != (*lead, *self.grid) or not lead:
            raise InputError(f"the codes are {tuple(codes.shape)}; this model has grids of {self.grid}")
        if len(codes) and (codes.min() < 0 or codes.max() >= self.codes):
            raise InputError(
                f"the codes reach {codes.min()} … {codes.max()}; this model has 0 … {self.codes - 1}"
            )
        vectors = self.encoder.quantiser.embed(codes.reshape(-1, *self.grid))
        return vectors.reshape(*lead, *vectors.shape[1:])

    def check(self, batch: Batch) -> None:
        super().check(batch)
        self._check_prior()  # it may have been exchanged
        training = self.training
        self.eval()
        first = batch[:1]
        with torch.no_grad():
            codes = self.encode(first.x, first.context).codes
        self.prior.check(codes, first.context)
        self.train(training)

    def _check_prior(self) -> None:
        prior = self.prior
        if (prior.codes, prior.shape) != (self.codes, self.grid):
            raise InputError(
                f"the prior is over {prior.codes} codes at the places of a grid {prior.shape}, and the encoder "
                f"gives {self.codes} codes at {self.grid}: build both alike"
            )


def _squared(difference: Tensor) -> Tensor:
    """‖·‖² over D, its mean over the grid: (B, D, *grid) → (B,)."""
    return (
        difference.square().sum(1).flatten(1).mean(1) if difference.dim() > 2 else difference.square().sum(1)
    )


class VQ(Objective):
    """−log p(x | z) − log p(z) + β ‖sg(e) − z_e‖² (+ ‖sg(z_e) − e‖²): the objective of a VQVAE.

    van den Oord, Vinyals & Kavukcuoglu 2017, eq. 3, with log p(z), a constant of the uniform prior, so that a
    prior that learns is trained along: on the codes as they are, no gradient of it reaches the encoder. The squares
    are summed over the dimensions of a vector and averaged over the grid, as there; log p(x | z) is in nats, summed
    over the data's entries. The last term is there where the codebook learns by gradient.
    commitment: β, or a schedule of it. A model is judged by the first two terms, its bound on −log p(x), alone.
    parts: reconstruction, kl (−log p(z)), commitment (unweighted), perplexity of the codes' use in the batch.
    """

    def __init__(self, commitment: float | Schedule = 0.25) -> None:
        super().__init__()
        if isinstance(commitment, int | float) and commitment < 0:
            raise InputError(f"commitment is a weight ≥ 0, not {commitment}")
        self.schedules = {"commitment": as_schedule(commitment)}

    def forward(
        self,
        model: VAE,
        batch: Batch,
        noise: Tensor | None = None,
        scalars: Mapping[str, Tensor | float] | None = None,
    ) -> Loss:
        values = scalars if scalars is not None else self.final_scalars()
        terms = model(batch, self.samples, noise)
        if "commitment" not in terms.extra:
            raise InputError(f"VQ trains a VQVAE, and this is a {type(model).__name__}: take ELBO")
        reconstruction, kl = -terms.log_px.mean(0), terms.divergence
        loss = reconstruction + kl
        parts = {"loss": loss, "reconstruction": reconstruction, "kl": kl}
        parts |= {name: terms.extra[name] for name in ("commitment", "perplexity")}
        auxiliary = values["commitment"] * terms.extra["commitment"]
        if "codebook" in terms.extra:
            parts["codebook"] = terms.extra["codebook"]
            auxiliary = auxiliary + parts["codebook"]
        return Loss(loss, parts, auxiliary)
