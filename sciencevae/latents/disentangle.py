"""How far latent dimensions and known factors go together one to one: MIG, FactorVAE score, DCI and SAP.

Each takes codes z (N, D), the posterior means of N data (not draws of the posterior), and factors (N, F), the
class of each datum in each of F known factors as integers. 1 is perfect. All but the FactorVAE score are 0 where
codes say nothing of the factors; that one is then 1/F for independent factors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sciencevae.errors import InputError
from sciencevae.latents.collapse import ACTIVE

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DCI", "Score", "dci", "disentanglement", "factor_vae_score", "mig", "sap"]


@dataclass(frozen=True)
class Score:
    """value: the mean over factors · by_factor (F,) · matrix (D, F): what each dimension says of each factor,
    of which the value is made."""

    value: float
    by_factor: np.ndarray
    matrix: np.ndarray


@dataclass(frozen=True)
class DCI:
    """disentanglement, completeness, informativeness: the scores · by_dimension (D,): disentanglement of each ·
    completeness_by_factor, informativeness_by_factor (F,) · importance (D, F): of each dimension for each factor
    """

    disentanglement: float
    completeness: float
    informativeness: float
    by_dimension: np.ndarray
    completeness_by_factor: np.ndarray
    informativeness_by_factor: np.ndarray
    importance: np.ndarray


def mig(z: Any, factors: Any, bins: int = 20) -> Score:
    """The mutual information gap, 1/F Σ_k [I(z_(1); v_k) − I(z_(2); v_k)] / H(v_k), over the two best dimensions.

    Chen et al. 2018, eq. 6, with I from histograms of ``bins`` equal bins of each dimension, as in Locatello et
    al. 2019; Chen et al. themselves integrate over draws of q(z | x), which lowers the score of a broad
    posterior. matrix: I(z_d; v_k)/H(v_k), biased up by about (bins − 1)(classes − 1)/(2N) nats, which the gap
    mostly cancels.
    """
    z, factors = _checked(z, factors)
    information = np.zeros((z.shape[1], factors.shape[1]))
    for d, column in enumerate(z.T):
        binned = np.digitize(column, np.histogram_bin_edges(column, bins)[1:-1])
        for k, classes in enumerate(factors.T):
            counts = np.zeros((bins, classes.max() + 1))
            np.add.at(counts, (binned, classes), 1)
            joint = counts / len(z)
            of_factor = _entropy(joint.sum(0))
            information[d, k] = (_entropy(joint.sum(1)) + of_factor - _entropy(joint.ravel())) / of_factor
    return _gap(information)


def sap(z: Any, factors: Any, categorical: Sequence[int] = ()) -> Score:
    """The separated attribute predictability: how much better one dimension alone predicts a factor than any other.

    Kumar et al. 2018, §3: mean over factors of the difference of the two best entries of ``matrix``, which holds
    R² = cov²(z_d, v_k)/(var z_d · var v_k), with the classes taken as numbers; for the factors listed in
    ``categorical``, whose classes have no order, the balanced accuracy of thresholds on z_d, one fewer than
    classes (a decision tree), which without any knowledge is 1/classes. Dimensions of a variance below 0.01 are
    inactive and 0, as everywhere in this package (Burda et al. 2016). Locatello et al. 2019 use a linear SVM
    instead of thresholds, which cannot tell three ordered classes apart.
    """
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.tree import DecisionTreeClassifier

    z, factors = _checked(z, factors)
    wrong = [k for k in categorical if not 0 <= k < factors.shape[1]]
    if wrong:
        raise InputError(f"categorical names factor {wrong[0]} of {factors.shape[1]}; they count from 0")
    scores = np.zeros((z.shape[1], factors.shape[1]))
    for d in np.flatnonzero(z.var(0) > ACTIVE):
        for k, classes in enumerate(factors.T):
            if k in categorical:
                tree = DecisionTreeClassifier(
                    max_leaf_nodes=classes.max() + 1, class_weight="balanced", random_state=0
                )
                predicted = tree.fit(z[:, [d]], classes).predict(z[:, [d]])
                scores[d, k] = balanced_accuracy_score(classes, predicted)
            else:
                scores[d, k] = np.corrcoef(z[:, d], classes)[0, 1] ** 2
    return _gap(scores)


def factor_vae_score(z: Any, factors: Any, votes: int = 800, points: int = 200, seed: int = 0) -> Score:
    """How often the dimension that varies least tells which factor is held fixed.

    Kim & Mnih 2018, §4: a vote takes ``points`` data that share the class of one factor k, and the dimension d
    whose variance is lowest in units of its variance over all data; the majority of ``votes`` says which factor
    each d stands for. The score is the share of as many fresh votes that agree, as in Locatello et al. 2019 (the
    paper counts the same votes, which flatters chance). matrix: the share of votes of each factor that fell on
    each dimension. Dimensions of a variance below 0.01 have collapsed and take no part; the score is 0 where all
    have. Data are drawn, with replacement, from the given rows: these need not be a complete grid, but factors
    that go together in them cannot be told apart.
    """
    z, factors = _checked(z, factors)
    count = factors.shape[1]
    matrix = np.zeros((z.shape[1], count))
    active = np.flatnonzero(z.var(0) > ACTIVE)
    if not len(active):
        return Score(0.0, np.zeros(count), matrix)
    scaled = z[:, active] / z[:, active].std(0)
    # rows of each factor by class; a class of one datum shows no variance
    shared = []
    for k in range(count):
        groups = [np.flatnonzero(factors[:, k] == value) for value in range(factors[:, k].max() + 1)]
        shared.append([rows for rows in groups if len(rows) > 1])
        if not shared[k]:
            raise InputError(f"no two data share a class of factor {k}: is it a continuous quantity? bin it")
    weights = [np.array([len(rows) for rows in groups], float) for groups in shared]
    rng = np.random.default_rng(seed)

    def vote(k: int) -> int:
        rows = shared[k][rng.choice(len(shared[k]), p=weights[k] / weights[k].sum())]
        return int(scaled[rng.choice(rows, points)].var(0).argmin())

    def cast() -> np.ndarray:
        """Votes by dimension and factor, (D, F); each factor has the same number."""
        table = np.zeros((len(active), count))
        for k in range(count):
            np.add.at(table[:, k], [vote(k) for _ in range(-(-votes // count))], 1)
        return table

    majority = cast().argmax(1)  # (D,) the factor each dimension stands for
    fresh = cast()
    fresh /= fresh.sum(0)
    matrix[active] = fresh
    by_factor = np.array([fresh[majority == k, k].sum() for k in range(count)])
    return Score(float(by_factor.mean()), by_factor, matrix)


def dci(z: Any, factors: Any, rows: int = 5000, trees: int = 20, seed: int = 0) -> DCI:
    """Disentanglement, completeness and informativeness, from how well a random forest predicts each factor.

    R_dk: importance of z_d for v_k; P_d = R_d·/Σ_k R_dk, P̃_k = R_·k/Σ_d R_dk
    disentanglement = Σ_d ρ_d [1 − H_F(P_d)],  ρ_d = Σ_k R_dk / Σ R,  H to the base F
    completeness    = mean_k [1 − H_D(P̃_k)],  H to the base D
    informativeness = mean_k of the accuracy on a third of the data that the forest has not seen

    Eastwood & Williams 2018, §2, whose informativeness is an error; accuracy, with 1 the best, follows Locatello
    et al. 2019. At most ``rows`` data are used, drawn at random. Every split sees every dimension; leaves
    hold at least 20 data, or a quarter of a mean class where that is less: fully grown trees fit noise with
    dimensions that say nothing of the factor. With one factor every used dimension is disentangled, with one
    dimension every factor complete.
    """
    from sklearn.ensemble import RandomForestClassifier

    z, factors = _checked(z, factors)
    if len(z) < 6:
        raise InputError(f"{len(z)} data are too few to train on two thirds of them")
    order = np.random.default_rng(seed).permutation(len(z))[:rows]
    fitted, tested = order[: 2 * len(order) // 3], order[2 * len(order) // 3 :]
    importance = np.zeros((z.shape[1], factors.shape[1]))
    accuracy = np.zeros(factors.shape[1])
    for k, classes in enumerate(factors.T):
        leaf = int(np.clip(len(fitted) // (4 * (classes.max() + 1)), 1, 20))
        forest = RandomForestClassifier(trees, max_features=None, min_samples_leaf=leaf, random_state=seed)
        forest.fit(z[fitted], classes[fitted])
        importance[:, k] = forest.feature_importances_
        accuracy[k] = (forest.predict(z[tested]) == classes[tested]).mean()
    by_dimension = _concentration(importance)
    by_factor = _concentration(importance.T)
    weight = importance.sum(1) / max(importance.sum(), 1e-300)
    return DCI(
        disentanglement=float(weight @ by_dimension),
        completeness=float(by_factor.mean()),
        informativeness=float(accuracy.mean()),
        by_dimension=by_dimension,
        completeness_by_factor=by_factor,
        informativeness_by_factor=accuracy,
        importance=importance,
    )


def disentanglement(
    z: Any, factors: Any, names: Sequence[str], categorical: Sequence[int] = (), seed: int = 0
) -> pd.DataFrame:
    """Every measure at once: a row a factor, and the last one, ``all``, the scores.

    Columns: ``factor``, the ``dimension`` with the most information on it, ``mig``, ``factor_vae``,
    ``disentanglement`` (of all, as it belongs to dimensions), ``completeness``, ``informativeness``, ``sap``.
    """
    import pandas as pd

    z, factors = _checked(z, factors)
    if len(names) != factors.shape[1]:
        raise InputError(f"{len(names)} names for {factors.shape[1]} factors")
    gap, votes, separated = (
        mig(z, factors),
        factor_vae_score(z, factors, seed=seed),
        sap(z, factors, categorical),
    )
    forest = dci(z, factors, seed=seed)
    by_factor = {
        "mig": [*gap.by_factor, gap.value],
        "factor_vae": [*votes.by_factor, votes.value],
        "disentanglement": [*[np.nan] * len(names), forest.disentanglement],
        "completeness": [*forest.completeness_by_factor, forest.completeness],
        "informativeness": [*forest.informativeness_by_factor, forest.informativeness],
        "sap": [*separated.by_factor, separated.value],
    }
    dimension = pd.array([*gap.matrix.argmax(0), None], dtype="Int64")
    return pd.DataFrame({"factor": [*names, "all"], "dimension": dimension, **by_factor})


def _checked(z: Any, factors: Any) -> tuple[np.ndarray, np.ndarray]:
    """Codes (N, D) in double precision and factors (N, F) as classes 0, 1, …"""
    z, factors = np.asarray(z, np.float64), np.asarray(factors)
    for name, array in (("codes", z), ("factors", factors)):
        if array.ndim != 2 or not array.shape[1]:
            raise InputError(f"the {name} have shape {array.shape}; expected a row a datum, (N, columns)")
    if len(z) != len(factors):
        raise InputError(f"{len(z)} codes and {len(factors)} rows of factors: give both of the same data")
    bad = int((~np.isfinite(z)).any(1).sum())
    if bad:
        raise InputError(f"{bad} of {len(z)} codes are not finite: drop them (their status says why)")
    if factors.dtype.kind not in "iub" and not (factors == np.rint(factors)).all():
        raise InputError(
            "the factors are not whole numbers: give the class of each datum; bin what is continuous"
        )
    classes = np.empty(factors.shape, np.int64)
    for k, column in enumerate(factors.T):
        values, classes[:, k] = np.unique(column, return_inverse=True)
        if len(values) < 2:
            raise InputError(f"factor {k} has one value in these data: leave it out")
    return z, classes


def _gap(matrix: np.ndarray) -> Score:
    """By how much the best dimension exceeds the next, for each factor; a lone one exceeds 0."""
    ordered = np.sort(np.pad(matrix, ((1, 0), (0, 0))), axis=0)
    by_factor = ordered[-1] - ordered[-2]
    return Score(float(by_factor.mean()), by_factor, matrix)


def _entropy(p: np.ndarray) -> Any:
    """−Σ p log p over the last axis, nats."""
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(-1)


def _concentration(importance: np.ndarray) -> np.ndarray:
    """1 − H(row)/log(columns) of each row of importances: 1 on one column, 0 evenly over all; 0 for none at all."""
    total = importance.sum(1, keepdims=True)
    share = importance / np.where(total > 0, total, 1.0)
    columns = importance.shape[1]
    even = _entropy(share) / np.log(columns) if columns > 1 else 0.0
    return np.where(total[:, 0] > 0, 1 - even, 0.0)
