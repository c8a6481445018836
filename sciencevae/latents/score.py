"""How unlikely a datum is under a model, from where on it is anomalous, and how well that tells two kinds apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sciencevae.batch import Batch
from sciencevae.distributions import Joint, Masked
from sciencevae.errors import InputError, did_you_mean
from sciencevae.vae.evidence import Evidence, unwarned_log_evidence, warned
from sciencevae.vae.model import VAE

__all__ = [
    "AUC",
    "KINDS",
    "LATENTS",
    "Threshold",
    "anomaly_score",
    "auc",
    "contributions",
    "evidence_by_rows",
    "threshold",
]

KINDS = ("elbo", "reconstruction", "evidence")
#: the name of the latents' share among the contributions of fields
LATENTS = "(latents)"
#: data decoded at once: of a sequence, with what is computed at each of its places, a megabyte at most
_DECODED = 1000


@torch.no_grad()
def anomaly_score(
    model: VAE, batch: Batch, kind: str = "elbo", samples: int = 64, seed: int | None = 0
) -> Tensor:
    """A score for each datum, in nats, (B,): higher is more anomalous.

    elbo:           −E_q[log p(x | z)] + KL(q(z | x) ‖ p(z))
    reconstruction: −E_q[log p(x | z)], the reconstruction probability of An & Cho 2015
    evidence:       −log p(x), by importance sampling

    Each from ``samples`` draws of the posterior. seed: the same draws at each call, leaving torch's own
    generator as it was; None draws from that one. Raises InputError where the data do not fit the model.
    """
    if kind not in KINDS:
        raise InputError(f"unknown score {kind!r}{did_you_mean(kind, KINDS)}")
    if kind == "evidence":
        found = evidence_by_rows(model, batch, samples, seed)
        return -warned(found, samples, "take more samples, or annealed_evidence").value
    model.check(batch)
    scores = []
    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        for rows in _parts(batch, samples):
            terms = model.terms(rows, samples)
            reconstruction = -terms.log_px.mean(0)
            scores.append(reconstruction if kind == "reconstruction" else reconstruction + terms.divergence)
    return torch.cat(scores)


@torch.no_grad()
def contributions(
    model: VAE, batch: Batch, kind: str = "elbo", samples: int = 64, seed: int | None = 0
) -> dict[str, Tensor]:
    """What each entry of x, and the latents, add to ``anomaly_score`` of the same arguments, nats; their sum is it.

    {field, or "x": (B, *E)}: −E[log p(x_j | z)] of each entry, 0 where it is missing, the mean over the draws of
    the posterior; for the evidence they are weighted by importance, w_s / Σ w. A likelihood that has no entries of
    its own (correlated errors, sequences) gives the whole field's, (B,).
    "(latents)": (B,), the rest. elbo: KL(q(z | x) ‖ p(z)); evidence: KL(p(z | x) ‖ p(z)), as the same weights
    estimate it, since log p(x) = log w_s − log(S w_s / Σ w) for every draw; reconstruction: 0.
    """
    if kind not in KINDS:
        raise InputError(f"unknown score {kind!r}{did_you_mean(kind, KINDS)}")
    model.check(batch)
    parts: list[dict[str, Tensor]] = []
    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        for rows in _parts(batch, samples):
            terms = model.terms(rows, samples)
            weight = torch.full_like(terms.log_px, 1 / samples)
            rest = torch.zeros(len(rows), dtype=weight.dtype)
            if kind == "elbo":
                rest = terms.divergence
            elif kind == "evidence":
                weight = terms.log_weight.softmax(0)
                log_mean = terms.log_weight.logsumexp(0) - math.log(samples)
                rest = (weight * terms.log_px).sum(0) - log_mean
            found = {
                name: -torch.einsum("sb,sb...->b...", weight, entries)
                for name, entries in _log_prob_by_entry(terms.likelihood, rows.x).items()
            }
            parts.append(found | {LATENTS: rest})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _log_prob_by_entry(likelihood: Any, x: Any) -> dict[str, Tensor]:
    """log p of each entry of each field, (S, B, *E), or of the whole field, (S, B)."""
    fields = likelihood.fields if isinstance(likelihood, Joint) else {"x": likelihood}
    values = x if isinstance(likelihood, Joint) else {"x": x}
    return {
        name: of.elementwise_log_prob(values[name]) if isinstance(of, Masked) else of.log_prob(values[name])
        for name, of in fields.items()
        if name in values
    }


def evidence_by_rows(
    model: VAE, data: Batch | Iterable[Batch], samples: int = 64, seed: int | None = 0
) -> Evidence:
    """``log_evidence`` of as many rows at a time as memory has room for; without its warning.

    data: one batch, or blocks of data that do not fit in memory.
    """
    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        parts = [
            unwarned_log_evidence(model, rows, samples, _DECODED)
            for block in ([data] if isinstance(data, Batch) else data)
            for rows in _parts(block, samples)
        ]
    names = ("value", "stderr", "ess", "trusted")
    return Evidence(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names})


def _parts(batch: Batch, samples: int) -> Iterator[Batch]:
    """Rows of a batch, so many that ``_DECODED`` data are decoded of so many draws of each."""
    rows = max(1, _DECODED // samples)
    return (batch[start : start + rows] for start in range(0, len(batch), rows))


@dataclass(frozen=True)
class Threshold:
    """value: a score above it is anomalous · rate: the expected share of normal data that is called so ·
    interval: where that share lies for this very threshold, at the stated confidence · n: the scores it is from
    """

    value: float
    rate: float
    interval: tuple[float, float]
    n: int

    def is_anomalous(self, scores: Any) -> Any:
        """True where a score lies above the threshold, in the kind and shape of the scores."""
        _refuse_nan(scores, "scores")
        return scores > self.value if isinstance(scores, Tensor) else np.asarray(scores) > self.value


def threshold(scores: Any, false_positive_rate: float = 0.01, confidence: float = 0.95) -> Threshold:
    """The score above which a datum is anomalous, from scores (n,) of normal data the model was not trained on.

    value = s_(k), the k-th smallest of n, k = ⌈(n + 1)(1 − α)⌉. A further normal datum, exchangeable with them,
    lies above it with probability (n + 1 − k)/(n + 1) ≤ α, whatever the distribution of the scores. The rate of
    one threshold varies with the n scores it is from, as Beta(n + 1 − k, k), of which ``interval`` leaves out
    (1 − confidence)/2 at each end. Tied scores make both smaller than stated.

    Raises InputError where n < 1/α − 1: then no score is high enough. Vovk 2012, Conditional validity of
    inductive conformal predictors; Angelopoulos & Bates 2023, Conformal prediction: a gentle introduction, §3.2.

    >>> threshold(torch.arange(99.0), false_positive_rate=0.01).value
    98.0
    """
    from scipy.stats import beta

    for name, value in (("false_positive_rate", false_positive_rate), ("confidence", confidence)):
        if not 0 < value < 1:
            raise InputError(f"{name} lies between 0 and 1, not {value}")
    ordered = np.sort(_scores(scores, "scores"))
    n = len(ordered)
    # (n + 1)α is often a whole number, and then rounding must not decide
    above = math.floor((n + 1) * false_positive_rate * (1 + 1e-12))  # n + 1 − k
    if above < 1:
        needed = math.ceil((1 - 1e-12) / false_positive_rate) - 1
        raise InputError(
            f"{n} scores of normal data are too few for a false-positive rate of {false_positive_rate:g}: "
            f"give at least {needed}, or allow a rate of {1 / (n + 1):.2g}"
        )
    tail = (1 - confidence) / 2
    low, high = beta.ppf([tail, 1 - tail], above, n + 1 - above)
    return Threshold(float(ordered[n - above]), above / (n + 1), (float(low), float(high)), n)


class AUC(NamedTuple):
    """value: the area under the ROC curve · stderr: its standard error over both samples."""

    value: float
    stderr: float


def auc(scores_normal: Any, scores_anomalous: Any) -> AUC:
    """How well scores tell anomalous data from normal ones: 1 always, ½ not at all.

    AUC = P(s_anomalous > s_normal) + ½ P(s_anomalous = s_normal), over all pairs (Mann & Whitney 1947). Its
    variance is var(V_anomalous)/m + var(V_normal)/n, with V of a datum the same probability for it alone
    against the whole other sample (DeLong, DeLong & Clarke-Pearson 1988). Where the samples do not overlap the
    standard error is 0, which is no bound on what further data would show.

    >>> auc([0.0, 1.0, 2.0], [1.0, 3.0]).value
    0.75
    """
    normal = np.sort(_scores(scores_normal, "scores_normal"))
    anomalous = np.sort(_scores(scores_anomalous, "scores_anomalous"))
    for name, given in (("scores_normal", normal), ("scores_anomalous", anomalous)):
        if len(given) < 2:
            raise InputError(f"{name} holds {len(given)} score(s): the area needs at least 2 of each kind")
    won = _placement(anomalous, normal)  # (m,)
    lost = 1 - _placement(normal, anomalous)  # (n,)
    variance = won.var(ddof=1) / len(won) + lost.var(ddof=1) / len(lost)
    return AUC(float(won.mean()), math.sqrt(variance))


def _placement(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The share of sorted ``others`` that lies below each score, ties counted half."""
    below, not_above = (np.searchsorted(others, scores, side) for side in ("left", "right"))
    return (below + not_above) / (2 * len(others))


def _scores(scores: Any, name: str) -> np.ndarray:
    """As an array (n,) of double precision; it may hold infinities, which can be ordered."""
    _refuse_nan(scores, name)
    array = scores.detach().cpu().numpy() if isinstance(scores, Tensor) else np.asarray(scores)
    if array.ndim != 1:
        raise InputError(f"{name} has shape {array.shape}; expected one score a datum, (n,)")
    return array.astype(np.float64)


def _refuse_nan(scores: Any, name: str) -> None:
    bad = int(scores.isnan().sum()) if isinstance(scores, Tensor) else int(np.isnan(scores).sum())
    if bad:
        raise InputError(f"{bad} of {name} are NaN: drop those rows (their status says why)")
