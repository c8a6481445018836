"""How far a datum lies from the data a model was trained on: in latents and residuals together, and by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
_RAREST = 1e-12  # share of a category that the reference data do not have
_STEPS = 3  # choices of the rows that are not trimmed; they hardly change after


@dataclass(frozen=True)
class Neighbourhood:
    """How much farther a datum lies from its nearest reference data than these usually do from theirs.

    A VAE parts a datum into what its latents say, μ = E[q(z | x)], and what they leave over, the residuals
    r = (x − E[p(x | z = μ)])/σ. Usual data are usual in both together, u(x) = (μ, r). The distance of x to the k
    nearest reference data n(1) … n(k),

        t(x) = 1/k Σ_i ‖u(x) − u_n(i)‖² = 1/k Σ_i [Σ_d (μ_d − μ_d,n(i))² + Σ_j (r_j − r_j,n(i))²],

    is taken in units of c, its median over the reference data themselves. What a model has learned may be wrong, of
    few data above all, so as much weight is given to the data without latents: t₀ is t with r = (x − x̄)/s, of the
    mean and the standard deviation of the reference data (of categories: 1[x = k] less how often k occurs). The
    score of one model, or of M trained alike from other seeds, is

        s(x) = 1/2 [t₀(x)/c₀ + 1/M Σ_m t_m(x)/c_m],

    1 where x is as near as usual, and a sum over latents and entries of x, which ``contributions`` gives. After
    Angiulli & Pizzuti 2002, who take distances between the data themselves. Missing entries have the residual 0.

    itself, of ``score`` and ``contributions``: the position of each datum among the reference data, (B,), −1 where
    it is none of them; no datum is its own neighbour.

    places: of the data that may be neighbours, their positions among the reference data, (n,); reference: their u,
    without latents and of each model, (n, entries) and (n, D + entries); usual: c₀, c₁ … c_M.
    """

    models: Sequence[VAE]
    alone: Mapping[str, td.Distribution]
    reference: Sequence[np.ndarray]
    usual: Sequence[float]
    places: np.ndarray
    k: int

    @classmethod
    def of(
        cls, models: VAE | Sequence[VAE], reference: Batch | Tensor, k: int = 3, trim: float = 0.0
    ) -> Neighbourhood:
        """trim: of reference data that may hold anomalies, the share that is nobody's neighbour, so that anomalies
        that are alike do not vouch for one another. These are the data of largest ‖u‖², and then, twice, those of
        highest score among the others (concentration steps, Rousseeuw & Van Driessen 1999).

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
        for model in models:
            model.check(batch)
        alone = _marginals(models[0], batch)
        known = [_seen(None, alone, batch), *(_seen(model, alone, batch) for model in models)]
        positions = np.arange(len(batch))
        apart = [np.square(u).sum(1) for u in known]
        usual = [_usual(distance) for distance in apart]
        for _ in range(_STEPS if trim else 1):
            far = _weighted([distance / unit for distance, unit in zip(apart, usual, strict=True)])
            places = np.sort(np.argsort(far, kind="stable")[:kept])
            apart = [_squares(u, u[places], k, places, positions).sum(1) for u in known]
            usual = [_usual(distance[places]) for distance in apart]
        return cls(models, alone, [u[places] for u in known], usual, places, k)

    def score(self, batch: Batch, itself: np.ndarray | None = None) -> Tensor:
        """s(x) of each datum, (B,): higher is more anomalous."""
        return torch.from_numpy(_weighted([squares.sum(1) for squares, _ in self._parts(batch, itself)]))

    def contributions(self, batch: Batch, itself: np.ndarray | None = None) -> dict[str, Tensor]:
        """What each entry adds to ``score``: {field or "x": (B, *E)}, and that of the latents, "(latents)" (B,)."""
        parted = [_parted(self.models[0], batch, *part) for part in self._parts(batch, itself)]
        return {name: torch.from_numpy(_weighted([part[name] for part in parted])) for name in parted[0]}

    def _parts(self, batch: Batch, itself: np.ndarray | None) -> Iterator[tuple[np.ndarray, int]]:
        """(u − u_n)²/c of each entry, the mean over k neighbours n, (B, D + entries), and D: 0 without latents."""
        for one in self.models:
            one.check(batch)
        itself = np.full(len(batch), -1) if itself is None else np.asarray(itself)
        for model, known, usual in zip((None, *self.models), self.reference, self.usual, strict=True):
            own = _seen(model, self.alone, batch)
            squares = _squares(own, known, self.k, self.places, itself)
            yield squares / usual, 0 if model is None else model.dim


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


def _squares(
    own: np.ndarray, known: np.ndarray, k: int, places: np.ndarray, itself: np.ndarray
) -> np.ndarray:
    """(u − u_n)² of each entry, the mean over its k nearest n of ``known``, whose positions are ``places``."""
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(n_neighbors=k + 1).fit(known).kneighbors(own, return_distance=False)
    # a datum itself goes to the end, the order of the others stays; the first k are taken
    order = np.argsort(places[near] == itself[:, None], axis=1, kind="stable")[:, :k]
    near = np.take_along_axis(near, order, axis=1)
    return sum(np.square(own - known[nth]) for nth in near.T) / k


def _usual(distances: np.ndarray) -> float:
    """The median of those that are not 0, as between equal data."""
    apart = distances[distances > 0]
    return float(np.median(apart)) if len(apart) else 1.0


def _weighted(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Half of the first, without latents, and half of the mean of the models'."""
    return (parts[0] + np.mean(parts[1:], 0)) / 2


@torch.no_grad()
def _seen(model: VAE | None, alone: Mapping[str, td.Distribution], batch: Batch) -> np.ndarray:
    """u(x) of every datum, (B, D + entries); without a model its residuals from the mean, (B, entries)."""
    found = []
    for rows in as_batches(batch).blocks(_ROWS):
        fields, latents = _fields(rows), []
        likelihoods = alone
        if model is not None:
            mean = model.encode(rows.x, rows.context).mean
            decoded: Any = model.decoder(mean.unsqueeze(0), rows.context)
            likelihoods = {"x": decoded} if isinstance(rows.x, Tensor) else decoded.fields
            latents = [mean]
        parts = [residuals(likelihoods[name], x)[0].flatten(1) for name, x in fields.items()]
        found.append(torch.cat([*latents, *parts], dim=1).double().numpy())
    return np.concatenate(found)


def _marginals(model: VAE, batch: Batch) -> dict[str, td.Distribution]:
    """What is known of each field without latents: mean and standard deviation, or how often categories are."""
    found: dict[str, td.Distribution] = {}
    for name, x in _fields(batch).items():
        observed = observed_entries(x)
        count = observed.sum(0).clamp(min=1)
        if (categories := _numbers(model, name)) > 1:
            one_of = torch.nn.functional.one_hot(x.long().clamp(min=0), categories) * observed.unsqueeze(-1)
            share = one_of.sum(0) / count.unsqueeze(-1)
            found[name] = Categorical(share.clamp(min=_RAREST).log()[None, None])
            continue
        values = torch.where(observed, x, 0).double()
        mean = values.sum(0) / count
        variance = (torch.where(observed, values - mean, 0.0).square()).sum(0) / count
        found[name] = td.Normal(mean[None, None], torch.where(variance > 0, variance, 1.0).sqrt()[None, None])
    return found


def _fields(batch: Batch) -> Mapping[str, Tensor]:
    return {"x": batch.x} if isinstance(batch.x, Tensor) else batch.x


def _parted(model: VAE, batch: Batch, squares: np.ndarray, latents: int) -> dict[str, np.ndarray]:
    """The columns of u by what they are of, first the latents; those of a category's K numbers together."""
    first, found = latents, {}
    for name, x in _fields(batch).items():
        size = x.shape[1:].numel() * _numbers(model, name)
        found[name] = squares[:, first : first + size].reshape(*x.shape, -1).sum(-1)
        first += size
    return found | {LATENTS: squares[:, :latents].sum(1)}


def _numbers(model: VAE, field: str) -> int:
    """Residuals of one entry: K of one of K categories, else 1."""
    decoder: Any = model.decoder
    decoder = decoder if field == "x" else decoder.fields[field]
    return getattr(decoder, "categories", 1)
