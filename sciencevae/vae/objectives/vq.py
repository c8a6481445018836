"""The objective of a VQ-VAE."""

from __future__ import annotations

from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.errors import InputError
from sciencevae.training.schedules import Schedule, as_schedule
from sciencevae.vae.model import VAE
from sciencevae.vae.objectives.base import Loss, Objective, Scalars

__all__ = ["VQ"]


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

    def loss(self, model: VAE, batch: Batch, noise: Tensor | None, scalars: Scalars) -> Loss:
        terms = model(batch, self.samples, noise)
        if "commitment" not in terms.extra:
            raise InputError(f"VQ trains a VQVAE, and this is a {type(model).__name__}: take ELBO")
        reconstruction, kl = -terms.log_px.mean(0), terms.divergence
        loss = reconstruction + kl
        parts = {"loss": loss, "reconstruction": reconstruction, "kl": kl}
        parts |= {name: terms.extra[name] for name in ("commitment", "perplexity")}
        auxiliary = scalars["commitment"] * terms.extra["commitment"]
        if "codebook" in terms.extra:
            parts["codebook"] = terms.extra["codebook"]
            auxiliary = auxiliary + parts["codebook"]
        return Loss(loss, parts, auxiliary)
