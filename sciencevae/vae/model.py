"""The variational autoencoder: a prior, an encoder and a decoder, each of which returns a distribution."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributions as td
from torch import Tensor, nn

from sciencevae.batch import Batch, Fields
from sciencevae.distributions import Joint, kl_normal
from sciencevae.distributions.masked import observed_entries
from sciencevae.errors import InputError
from sciencevae.networks.fields import Fields as FieldsNetwork
from sciencevae.spec import recorded
from sciencevae.vae.context import Context
from sciencevae.vae.decoders import Decoder
from sciencevae.vae.decoders import Joint as JointDecoder
from sciencevae.vae.encoders import Encoder
from sciencevae.vae.evaluating import evaluating
from sciencevae.vae.priors import Prior, VampPrior

__all__ = ["VAE", "Terms", "centre"]


@dataclass(frozen=True)
class Terms:
    """What every objective is made of, for S draws z ~ q(z | x, c) of each of B data.

    z (S, B, D) · log_px = log p(x | z, c), log_pz = log p(z | c), log_qz = log q(z | x, c), each (S, B)
    log_px_by_field: of data of several named fields, the share of each in log_px, (S, B)
    kl (B,) = KL(q ‖ p) and kl_by_dim (B, D), where they are known in closed form, else None
    posterior, likelihood: the distributions themselves · extra: further terms by name, (B,) each
    Of a VQVAE z (S, B, *grid) holds integer codes, log_qz = 0 and kl = −log_pz.
    """

    z: Tensor
    log_px: Tensor
    log_pz: Tensor
    log_qz: Tensor
    kl: Tensor | None
    kl_by_dim: Tensor | None
    posterior: td.Distribution
    likelihood: td.Distribution
    log_px_by_field: Mapping[str, Tensor] = field(default_factory=dict)
    extra: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def log_weight(self) -> Tensor:
        """log w = log p(x | z) + log p(z) − log q(z | x), whose mean of exponentials estimates p(x); (S, B)."""
        return self.log_px + self.log_pz - self.log_qz

    @property
    def divergence(self) -> Tensor:
        """KL(q ‖ p), (B,): in closed form where there is one, else estimated from the same draws."""
        return self.kl if self.kl is not None else (self.log_qz - self.log_pz).mean(0)


@recorded
class VAE(nn.Module):
    """p(z | c), q(z | x, c) and p(x | z, c) together.

    Any prior, encoder and decoder of one latent dimension compose; each may be exchanged on a trained model
    (``model.prior = …``). Kingma & Welling 2014; Rezende, Mohamed & Wierstra 2014.

    >>> from sciencevae.networks import Perceptron
    >>> from sciencevae.vae import decoders, encoders, priors
    >>> model = VAE(
    ...     priors.StandardNormal(2),
    ...     encoders.Gaussian(Perceptron(8, [64, 32], 4), dim=2),
    ...     decoders.Gaussian(Perceptron(2, [32, 64], 8), scale="learned"),
    ... )
    >>> model.terms(Batch(torch.zeros(5, 8)), samples=3).log_px.shape
    torch.Size([3, 5])
    """

    #: whether the latents are codes (VQVAE) or continuous
    coded = False

    def __init__(self, prior: Prior, encoder: Encoder, decoder: Decoder) -> None:
        super().__init__()
        families = ("continuous latents", "codes")
        for name, part in (("prior", prior), ("encoder", encoder)):
            if hasattr(part, "codes") != self.coded:
                raise InputError(
                    f"the {name} {type(part).__name__} is of {families[not self.coded]}, and a "
                    f"{type(self).__name__} has {families[self.coded]}: VQVAE takes encoders.Code and "
                    "priors.UniformCodes or Autoregressive, VAE the other parts"
                )
        dims = {"prior": getattr(prior, "dim", None), "encoder": getattr(encoder, "dim", None)}
        if None not in dims.values() and dims["prior"] != dims["encoder"]:
            raise InputError(
                f"the prior has {dims['prior']} latent dimensions and the encoder {dims['encoder']}; "
                "build both with one dim"
            )
        self.prior, self.encoder, self.decoder = prior, encoder, decoder
        self._check_shared()

    def _check_shared(self) -> None:
        if isinstance(self.prior, VampPrior) and self.prior.encoder is not self.encoder:
            raise InputError(
                "the VampPrior was built with another encoder than the model's: it is a mixture of the model's own "
                "posteriors, VAE(VampPrior(encoder, …), encoder, decoder)"
            )

    @property
    def dim(self) -> int:
        """The number of latent dimensions D."""
        return self.encoder.dim

    def noise_shape(self, samples: int, rows: int) -> tuple[int, ...]:
        """The shape of the noise ε that ``samples`` draws of the posteriors of ``rows`` data are made from."""
        return (samples, rows, self.dim)

    def terms(
        self,
        batch: Batch,
        samples: int = 1,
        noise: Tensor | None = None,
        detach_posterior: bool = False,
        gradient_scale: Tensor | None = None,
    ) -> Terms:
        """The terms of every objective and estimate, from ``samples`` draws of the posterior.

        noise: ε (S, B, D) ~ N(0, 1) instead of drawing it, for posteriors with ``from_noise``.
        detach_posterior: log_qz is that of the posterior with its parameters held fixed (Roeder et al. 2017).
        gradient_scale: (S, B), by which what flows back through each draw z is multiplied (Tucker et al. 2019).
        """
        x, context = batch.x, batch.context
        posterior = self.encoder(x, context)
        if noise is None or not hasattr(posterior, "from_noise"):
            z = posterior.rsample((samples,))  # (S, B, D)
        else:
            z = posterior.from_noise(noise)
        if gradient_scale is not None:
            scale = gradient_scale.unsqueeze(-1)
            z = scale * z + (1 - scale) * z.detach()
        prior = self.prior(context)
        likelihood = self.decoder(z, context)
        log_px, by_field = log_likelihood(likelihood, x)
        density = posterior.detach() if detach_posterior else posterior
        kl, kl_by_dim = kl_normal(posterior, prior)
        return Terms(
            z=z,
            log_px=log_px,
            log_pz=prior.log_prob(z),
            log_qz=density.log_prob(z),
            kl=kl,
            kl_by_dim=kl_by_dim,
            posterior=posterior,
            likelihood=likelihood,
            log_px_by_field=by_field,
        )

    forward = terms

    def encode(self, x: Fields, context: Context | None = None) -> td.Distribution:
        """The posterior q(z | x, c), batch shape (B,); its ``.mean`` is the usual code of x."""
        return self.encoder(x, context)

    def decode(self, z: Tensor, context: Context | None = None) -> td.Distribution:
        """The likelihood p(x | z, c); z (B, D) gives batch shape (B,), z (S, B, D) gives (S, B)."""
        if z.shape[-1] != self.dim:
            raise InputError(f"the latents have {z.shape[-1]} dimensions; this model has {self.dim}")
        if z.dim() == 2:
            return _squeezed(self.decoder(z.unsqueeze(0), context))
        return self.decoder(z, context)

    @torch.no_grad()
    def sample(self, n: int, context: Context | None = None, seed: int | None = None) -> Fields:
        """n draws x ~ p(x | z, c), z ~ p(z | c); with a context, its tensors have n rows.

        seed makes the draw reproducible and leaves torch's own generator as it was.
        """
        with torch.random.fork_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            return self.decode(self.sample_latents(n, context), context).sample()

    @torch.no_grad()
    def sample_latents(self, n: int, context: Context | None = None) -> Tensor:
        """n draws z ~ p(z | c), (n, D); with a context, its tensors have n rows."""
        prior = self.prior(context)
        z = prior.sample() if len(prior.batch_shape) else prior.sample((n,))
        if len(z) != n:
            raise InputError(f"the context has {len(z)} rows; {n} samples were asked for")
        return z

    @torch.no_grad()
    def reconstruct(self, x: Fields, context: Context | None = None) -> Fields:
        """The mean of p(x | z, c) at the posterior mean z; of what has no mean (categories), the mode."""
        return centre(self.decode(self.encode(x, context).mean, context))

    def check(self, batch: Batch) -> None:
        """Raise InputError where data and parts don't fit: shapes, support, missing values, noise."""
        with evaluating(self):  # looking at the shapes changes no running statistics
            self._check(batch)

    def _check(self, batch: Batch) -> None:
        self._check_shared()  # a part may have been exchanged
        x = batch.x
        fields = {"x": x} if isinstance(x, Tensor) else dict(x)
        parts: dict[str, Any] = {"x": self.decoder}
        if isinstance(self.decoder, JointDecoder):
            parts = dict(self.decoder.fields.items())
        for name, values in fields.items():
            if getattr(parts.get(name), "padded", False):
                # its −1 are not missing; and no network may look up vectors of tokens that there are not
                parts[name].check(values, batch.context)
                continue
            missing = ~observed_entries(values)
            if missing.any() and self._reads(name) and not getattr(self.encoder, "missing", True):
                rows = int(missing.flatten(1).any(1).sum())
                raise InputError(
                    f"{rows} of {len(batch)} rows of {name} have missing entries (NaN; integers: −1), and the "
                    "encoder was built without missing=True: build it with missing=True (its network is then "
                    "twice as wide at the input), or drop those rows"
                )
        likelihood = self._tried(batch[:2])
        if isinstance(x, Tensor) == isinstance(likelihood, Joint):
            raise InputError(
                "x is one tensor, and the decoder describes named fields: give a mapping of them"
                if isinstance(x, Tensor)
                else f"x has the named fields {', '.join(x)}, and the decoder describes one tensor: "
                "build it as decoders.Joint({name: decoder of the field, …})"
            )
        described = likelihood.fields if isinstance(likelihood, Joint) else {"x": likelihood}
        for name, values in fields.items():
            if name not in described:
                continue
            if (found := described[name].event_shape) != values.shape[1:]:
                raise InputError(
                    f"the decoder describes {name} of shape {tuple(found)}, and the data have "
                    f"{tuple(values.shape[1:])} a row: change the decoder's network, or the data"
                )
        if isinstance(self.decoder, Decoder):
            self.decoder.check(x, batch.context)

    def _reads(self, field: str) -> bool:
        """Whether the encoder may look at a field: one that ``networks.Fields`` leaves out is only described."""
        network = getattr(self.encoder, "network", None)
        return not isinstance(network, FieldsNetwork) or field in network.networks

    def _tried(self, few: Batch) -> td.Distribution:
        """The likelihood of some data; InputError, naming all shapes, where a network does not take them."""
        part = "encoder"
        try:
            z = self.encoder(few.x, few.context).mean.unsqueeze(0)
            part = "decoder"
            return self.decoder(z, few.context)
        except RuntimeError as error:
            shapes = {name: ", ".join(["B", *map(str, t.shape[1:])]) for name, t in few.tensors().items()}
            given = ", ".join(f"{name} ({shape})" for name, shape in shapes.items())
            raise InputError(
                f"the {part} does not take these data: {given} ({str(error).splitlines()[0]}): change its "
                "network (in_features, condition_features), or the data"
            ) from error


def log_likelihood(likelihood: td.Distribution, x: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """log p(x | z, c), (S, B), and the share of each field in it where x has named fields."""
    if not isinstance(likelihood, Joint):
        return likelihood.log_prob(x), {}
    by_field = likelihood.log_prob_by_field(x)
    return torch.stack(list(by_field.values())).sum(0), by_field


def centre(likelihood: td.Distribution, beam: int | None = None) -> Any:
    """The mean of a likelihood where it has one, else its mode; of named fields, of each.

    beam: of sequences not the greedy one, but the likeliest that a search of this width finds.
    """
    if isinstance(likelihood, Joint):
        return {name: centre(field, beam) for name, field in likelihood.fields.items()}
    if beam is not None and hasattr(likelihood, "beam"):
        return likelihood.beam(beam)[0][..., 0, :]
    try:
        return likelihood.mean
    except NotImplementedError:
        return likelihood.mode


def _squeezed(likelihood: td.Distribution) -> td.Distribution:
    if isinstance(likelihood, Joint):
        return Joint({name: _Squeezed(field) for name, field in likelihood.fields.items()}, likelihood.seen)
    return _Squeezed(likelihood)


class _Squeezed(td.Distribution):
    """A likelihood of batch shape (1, B) seen as one of (B,)."""

    arg_constraints = {}  # noqa: RUF012  (torch's own interface)

    def __init__(self, base: td.Distribution) -> None:
        self.base = base
        super().__init__(base.batch_shape[1:], base.event_shape, validate_args=False)

    @property
    def mean(self) -> Any:
        return _squeeze(self.base.mean)

    @property
    def mode(self) -> Any:
        return _squeeze(self.base.mode)

    @property
    def variance(self) -> Any:
        return _squeeze(self.base.variance)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.base.log_prob(value).squeeze(0)

    def sample(self, sample_shape: Any = ()) -> Any:
        return _squeeze(self.base.sample(sample_shape), len(sample_shape))

    def __getattr__(self, name: str) -> Any:
        # the parameters of the likelihood (loc, concentration, logits, ...), each (1, B, *E), and its methods
        if name.startswith("_") or name == "base":
            raise AttributeError(name)
        value = getattr(self.base, name)
        return _squeezing(value) if inspect.ismethod(value) else _squeeze(value)


def _squeezing(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def squeezed(*args: Any, **kwargs: Any) -> Any:
        return _squeeze(method(*args, **kwargs))

    return squeezed


def _squeeze(values: Any, axis: int = 0) -> Any:
    """Tensors, one or several or those of named fields, without an axis of length 1; anything else as it is."""
    if isinstance(values, Tensor):
        return values.squeeze(axis)
    if isinstance(values, td.Distribution):
        return _squeezed(values)
    if isinstance(values, Mapping):
        return {name: _squeeze(value, axis) for name, value in values.items()}
    if isinstance(values, tuple) and not isinstance(values, torch.Size):
        return tuple(_squeeze(value, axis) for value in values)
    return values
