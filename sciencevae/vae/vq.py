"""The discrete family: a VAE whose latents are codes, integers at the places of a grid (VQ-VAE)."""

from __future__ import annotations

import math

import torch
import torch.distributions as td
from torch import Tensor

from sciencevae.batch import Batch, Fields
from sciencevae.errors import InputError
from sciencevae.spec import recorded
from sciencevae.vae.context import Context
from sciencevae.vae.decoders import Decoder
from sciencevae.vae.encoders import Code, Codes
from sciencevae.vae.model import VAE, Terms, _squeezed, log_likelihood
from sciencevae.vae.priors import CodePrior

__all__ = ["VQVAE"]


@recorded
class VQVAE(VAE):
    """A VAE whose z are codes: p(z | c) over integer grids, q(z | x, c) a nearest code, p(x | e_z, c).

    The decoder sees the codes' vectors (S, B, D, *grid). Of ``terms``, z (S, B, *grid) holds the integers, all S
    draws equal; log_qz = 0, kl = −log p(z | c), so the ELBO is log p(x | z) + log p(z); and ``extra`` has

    commitment: ‖sg(e) − z_e‖², codebook: ‖sg(z_e) − e‖², where the quantiser learns by gradient (sg: held fixed),
                each summed over the D dimensions and averaged over the grid, (B,)
    perplexity: exp(entropy of the use of the codes in the batch), the same for each datum, (B,)

    ``terms`` in training mode is also what moves the codebook, as a batch normalisation its statistics, unless the
    encoder is frozen; the noise, (B, n) for n places, chooses what dead codes become. Train with the objective
    ``VQ`` and a ``UniformCodes`` prior, then exchange the prior for one fitted to the codes (``fit_prior``).
    van den Oord, Vinyals & Kavukcuoglu 2017.

    >>> from sciencevae.networks import Perceptron
    >>> from sciencevae.vae import decoders, encoders, priors
    >>> encoder = encoders.Code(Perceptron(8, [16], 4), encoders.Quantiser(32, 4))
    >>> model = VQVAE(priors.UniformCodes(32, ()), encoder, decoders.Gaussian(Perceptron(4, [16], 8)))
    >>> model.encode(torch.zeros(5, 8)).codes.shape, model.sample(3).shape
    (torch.Size([5]), torch.Size([3, 8]))
    """

    coded = True
    prior: CodePrior
    encoder: Code

    def __init__(self, prior: CodePrior, encoder: Code, decoder: Decoder) -> None:
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
        log_px, by_field = log_likelihood(likelihood, x)
        log_pz = self.prior(context).log_prob(codes.unsqueeze(0)).to(log_px.dtype)
        weight = torch.ones_like(log_px[0]) if batch.weight is None else batch.weight
        use = quantiser.use(codes, weight)
        extra = {
            "commitment": _squared(posterior.embedded.detach() - posterior.encoded),
            "perplexity": torch.special.entr(use).sum().exp().expand(len(codes)),
        }
        if quantiser.learned == "gradient":
            extra["codebook"] = _squared(posterior.embedded - posterior.encoded.detach())
        if quantiser.training:
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

    def _check(self, batch: Batch) -> None:
        super()._check(batch)
        self._check_prior()  # it may have been exchanged
        first = batch[:1]
        self.prior.check(self.encode(first.x, first.context).codes, first.context)

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
