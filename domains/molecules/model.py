"""The three distributions of molecules, and what they are trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sciencevae.networks import Fields, Identity, Perceptron, Recurrent, RecurrentEncoder
from sciencevae.training.schedules import WarmUp
from sciencevae.vae import decoders, encoders, priors
from sciencevae.vae.fit_prior import refit_prior
from sciencevae.vae.model import VAE, Terms
from sciencevae.vae.objectives import ELBO, Objective, Term

from .dataset import alphabet_of
from .settings import Molecules
from .tokens import STOP

if TYPE_CHECKING:
    import xarray as xr
    from torch import Tensor

    from sciencevae.batch import Batch
    from sciencevae.data.batches import Batches
    from sciencevae.training.history import History

__all__ = ["build", "objective", "refit"]


def build(settings: Molecules, data: xr.Dataset) -> VAE:
    """q(z | tokens) by a GRU in both directions; p(tokens | z) by a GRU, p(properties | z) normal, errors learned.

    Properties that are not known drop out: the encoder sees tokens only.
    """
    chosen = settings.model
    vocabulary, length = len(alphabet_of(data)), data["tokens"].shape[1]
    sizes = {"embedding": chosen.embedding, "layers": chosen.layers}
    read = RecurrentEncoder(
        vocabulary, length, 2 * chosen.latent, width=chosen.encoder_width, sums=chosen.encoder_sums, **sizes
    )
    written = Recurrent(
        vocabulary, length, width=chosen.decoder_width, condition_features=chosen.latent, **sizes
    )
    fields: dict[str, decoders.Decoder] = {
        "tokens": decoders.Sequence(written, stop=STOP, token_dropout=chosen.token_dropout)
    }
    if "properties" in data:
        head = Perceptron(chosen.latent, chosen.head, data["properties"].shape[1], activation="silu")
        fields["properties"] = decoders.Gaussian(head, scale="learned")
    return VAE(
        priors.StandardNormal(chosen.latent),
        encoders.Gaussian(Fields({"tokens": read}, Identity()), chosen.latent),
        decoders.Joint(fields),
    )


def objective(settings: Molecules, data: xr.Dataset) -> Objective:
    """−log p(tokens | z) − w log p(properties | z) + β KL, β rising; of properties, which are a few nats beside the
    tokens' dozens, w > 1 makes the errors smaller (README).
    """
    chosen, training = settings.objective, settings.training
    steps = training.steps(int((data["split"] == 0).sum()))
    rise = round(chosen.beta_rise * steps)
    further = {}
    if "properties" in data and chosen.property_weight != 1:
        further["properties"] = Term(chosen.property_weight - 1, _of_properties)
    return ELBO(beta=WarmUp(chosen.beta, rise) if rise else chosen.beta, extra=further)


def _of_properties(terms: Terms, batch: Batch) -> Tensor:
    """−E_q[log p(properties | z)], (B,)."""
    return -terms.log_px_by_field["properties"].mean(0)


def refit(settings: Molecules, model: VAE, train: Batches, valid: Batches) -> History | None:
    """Give the model another prior, fitted to its latents."""
    return refit_prior(settings.refit.prior, settings.refit, model, train, valid, settings.seed)
