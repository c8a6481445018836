"""How far a datum lies from the data a model was trained on, in its latents and its residuals together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributions as td
from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.data.batches import as_batches
from sciencevae.distributions import Categorical, StudentT
from sciencevae.distributions.masked import Masked, observed_entries
from sciencevae.errors import InputError
from sciencevae.latents.score import LATENTS
from sciencevae.vae.model import VAE

__all__ = ["Neighbourhood", "residuals"]

_ROWS = 1024  # that go through the model at once
_FARTHEST = 1e4  # residuals are kept within ± so many standard deviations, whose squares can be added up


@dataclass(frozen=True)
class Neighbourhood:
    """Reference data as one or several models see them: u(x) = (μ(x), r(x)), posterior mean and residuals.

    A VAE parts a datum into what its latents say, μ = E[q(z | x)], and what they leave over, the residuals
    r = (x − E[p(x | z = μ)])/σ. Usual data are usual in both together: the score is half the mean squared distance
    to the k nearest reference data n(1) … n(k),

        s(x) = 1/2k Σ_i ‖u(x) − u_n(i)‖² = 1/2k Σ_i [Σ_d (μ_d − μ_d,n(i))² + Σ_j (r_j − r_j,n(i))²],

    a sum over latents and entries of x, which ``contributions`` gives. Of several models, trained alike from other
    seeds, it is the mean of their scores. After Angiulli & Pizzuti 2002, who take distances between the data
    themselves. Missing entries have the residual 0.

    itself, of ``score`` and ``contributions``: the position of each datum among the reference data, (B,), −1 where
    it is none of them; no datum is its own neighbour.

    reference: of each model, u of the data that may be neighbours, (n, D + entries); places: their positions among
    the reference data, (n,).
    """

    models: Sequence[VAE]
    reference: Sequence[np.ndarray]
    places: Sequence[np.ndarray]
    k: int

    @classmethod
    def of(
        cls, models: VAE | Sequence[VAE], reference: Batch | Tensor, k: int = 10, trim: float = 0.0
    ) -> Neighbourhood:
        """trim: of reference data that may hold anomalies, the share of largest ‖u‖ that is nobody's neighbour, so
        that anomalies that are alike do not vouch for one another.

        InputError where there are not more reference data than k.
        """
        models = [models] if isinstance(models, VAE) else list(models)
        batch = reference if isinstance(reference, Batch) else Batch(reference)
        if not 0 <= trim < 1:
            raise InputError(f"trim is a share from 0 to below 1, not {trim}")
        kept = len(batch) - int(trim * len(batch))
        if not 1 <= k < kept:
            raise InputError(
                f"{k} neighbours among {kept} reference data: k is from 1 to one less than these"
            )
        joined = [_joined(model, batch) for model in models]
        places = [np.argsort(np.square(known).sum(1), kind="stable")[:kept] for known in joined]
        return cls(models, [known[near] for known, near in zip(joined, places, strict=True)], places, k)

    def score(self, batch: Batch, itself: np.ndarray | None = None) -> Tensor:
        """s(x) of each datum, (B,): higher is more anomalous."""
        found = [squares.sum(1) for squares, _ in self._squares(batch, itself)]
        return torch.from_numpy(np.mean(found, 0))

    def contributions(self, batch: Batch, itself: np.ndarray | None = None) -> dict[str, Tensor]:
        """What each entry adds to ``score``: {field or "x": (B, *E)}, and that of the latents, "(latents)" (B,)."""
        total: dict[str, np.ndarray] = {}
        for squares, model in self._squares(batch, itself):
            for name, part in _parted(model, batch, squares).items():
                total[name] = total.get(name, 0.0) + part / len(self.models)
        return {name: torch.from_numpy(values) for name, values in total.items()}

    def _squares(self, batch: Batch, itself: np.ndarray | None) -> Iterator[tuple[np.ndarray, VAE]]:
        """½ (u − u_n)² of each entry, the mean over k neighbours n, of each model, (B, D + entries)."""
        from sklearn.neighbors import NearestNeighbors

        itself = np.full(len(batch), -1) if itself is None else np.asarray(itself)
        for model, known, places in zip(self.models, self.reference, self.places, strict=True):
            own = _joined(model, batch)
            near = NearestNeighbors(n_neighbors=self.k + 1).fit(known).kneighbors(own, return_distance=False)
            # a datum itself goes to the end, the order of the others stays; the first k are taken
            order = np.argsort(places[near] == itself[:, None], axis=1, kind="stable")[:, : self.k]
            near = np.take_along_axis(near, order, axis=1)
            yield sum(np.square(own - known[nth]) for nth in near.T) / (2 * self.k), model


def residuals(likelihood: td.Distribution, x: Tensor) -> Tensor:
    """(x − mean)/σ of each entry, 0 where x is missing, (S, B, *E); of categories 1[x = k] − p_k, (S, B, *E, K).

    likelihood: of batch shape (S, B), as a decoder gives it; x (B, *E). σ is the standard deviation of the
    likelihood, of Student's t its scale, which is there for any ν.
    """
    base = likelihood.base_dist if isinstance(likelihood, Masked) else likelihood
    observed = observed_entries(x)
    if isinstance(base, Categorical):
        one_of = torch.nn.functional.one_hot(x.long().clamp(min=0), base.probs.shape[-1])
        return torch.where(observed.unsqueeze(-1), one_of - base.probs, 0.0)
    sigma = base.scale if isinstance(base, StudentT) else base.variance.sqrt()
    found = (torch.where(observed, x, 0).to(base.mean.dtype) - base.mean) / sigma
    return torch.where(observed, found.clamp(-_FARTHEST, _FARTHEST), 0.0)


@torch.no_grad()
def _joined(model: VAE, batch: Batch) -> np.ndarray:
    """u(x) of every datum, (B, D + entries)."""
    model.check(batch)
    found = []
    for rows in as_batches(batch).blocks(_ROWS):
        mean = model.encode(rows.x, rows.context).mean
        parts = [residuals(p, x)[0].flatten(1) for p, x in _described(model, mean, rows)]
        found.append(torch.cat([mean, *parts], dim=1).double().numpy())
    return np.concatenate(found)


def _described(model: VAE, z: Tensor, batch: Batch) -> list[tuple[td.Distribution, Tensor]]:
    """The likelihood of each field at latents z (B, D), of batch shape (1, B), and the field."""
    likelihood: Any = model.decoder(z.unsqueeze(0), batch.context)
    if isinstance(batch.x, Tensor):
        return [(likelihood, batch.x)]
    return [(likelihood.fields[name], x) for name, x in batch.x.items()]


def _parted(model: VAE, batch: Batch, squares: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of u by what they are of; those of a category's K numbers together."""
    fields = {"x": batch.x} if isinstance(batch.x, Tensor) else batch.x
    first, found = model.dim, {}
    widths = {name: _numbers(model, name) for name in fields}
    for name, x in fields.items():
        size = x.shape[1:].numel() * widths[name]
        found[name] = squares[:, first : first + size].reshape(*x.shape, -1).sum(-1)
        first += size
    return found | {LATENTS: squares[:, : model.dim].sum(1)}


def _numbers(model: VAE, field: str) -> int:
    """Residuals of one entry: K of one of K categories, else 1."""
    decoder: Any = model.decoder
    decoder = decoder if field == "x" else decoder.fields[field]
    return getattr(decoder, "categories", 1)
