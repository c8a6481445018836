"""Every part that a model and its training can be made of, once: what the contract runs over and what is timed.

A new part is one line here; the contract, the compiled cover and ``python -m benchmarks.parts`` then have it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import sciencevae as sv

__all__ = [
    "DECODERS", "ENCODERS", "OBJECTIVES", "PARTS", "PRIORS", "TINY", "Names", "Sizes",
    "alone", "build", "build_objective", "covering", "data", "each_once", "fits",
]  # fmt: skip

K, LEVELS = 3, 8
#: variables of each named field, and numbers that describe one of its entries
FIELDS = {"flux": (3, 1), "counts": (2, 1), "kind": (1, K)}


Shape = tuple[int, ...]


@dataclass(frozen=True)
class Sizes:
    """How large the parts are: N variables, D latents, condition of C numbers, images of H × W, hidden layers.

    codes: in a codebook, and tokens in a vocabulary. grid: of the codes of a datum. width: of a causal network.
    places: the grid of the model at hand, which its prior says (``GRIDS``); () where z is one vector.
    """

    variables: int = 3
    latents: int = 2
    condition: int = 2
    image: Shape = (3, 4)
    hidden: Sequence[int] = (5,)
    components: int = 3
    flow_hidden: Sequence[int] = (4,)
    bins: int = 3
    codes: int = 3
    grid: Shape = (2, 2)
    width: int = 8
    places: Shape = ()

    def network(
        self, shape: Shape, out: Shape, conditional: bool = False, mirrored: bool = False
    ) -> nn.Module:
        """A perceptron between vectors or grids; mirrored: its layers the other way round."""
        hidden, wide = list(self.hidden), self.condition if conditional else 0
        inner = sv.networks.Perceptron(
            math.prod(shape), hidden[::-1] if mirrored else hidden, math.prod(out), condition_features=wide
        )
        return inner if len(shape) == len(out) == 1 else sv.networks.Reshaped(inner, shape, out)

    def head(self, *out: int, conditional: bool = False) -> nn.Module:
        """From latents to what describes the data; the layers of an encoder the other way round."""
        return self.network((self.latents, *self.places), out, conditional, mirrored=True)


TINY = Sizes()


class Names(NamedTuple):
    """One combination."""

    prior: str = "standard"
    encoder: str = "diagonal"
    decoder: str = "gaussian"
    objective: str = "ELBO"


# ---- priors: of the sizes and the model's encoder -----------------------------------------------------


def _vamp(s: Sizes, encoder: Any) -> sv.priors.Prior:
    shape = getattr(encoder.network, "in_shape", [s.variables])
    if encoder.missing and len(shape) > 1:
        shape = [shape[0] // 2, *shape[1:]]
    condition = s.condition if encoder.conditional else 0
    return sv.priors.VampPrior(encoder, s.components, shape, condition_features=condition)


def _autoregressive(s: Sizes, network: nn.Module, **options: Any) -> sv.priors.Prior:
    return sv.priors.Autoregressive(network, s.codes, s.places, **options)


def _transformer(s: Sizes, length: int, condition: int = 0) -> nn.Module:
    return sv.networks.CausalTransformer(s.codes, length, s.width, 2, 1, condition)


def _recurrent(s: Sizes, length: int, condition: int = 0) -> nn.Module:
    return sv.networks.Recurrent(s.codes, length, s.width, s.width, condition_features=condition)


PRIORS: dict[str, Callable[[Sizes, Any], Any]] = {
    "standard": lambda s, encoder: sv.priors.StandardNormal(s.latents),
    "conditional": lambda s, encoder: sv.priors.ConditionalNormal(
        sv.networks.Perceptron(s.condition, [4], 2 * s.latents), s.latents
    ),
    "mixture": lambda s, encoder: sv.priors.GaussianMixture(s.latents, s.components),
    "full mixture": lambda s, encoder: sv.priors.GaussianMixture(s.latents, s.components, covariance="full"),
    "Vamp": _vamp,
    "flow coupling": lambda s, encoder: sv.priors.Flow(s.latents, "coupling", 2, s.flow_hidden, s.bins),
    "flow autoregressive": lambda s, encoder: sv.priors.Flow(
        s.latents, "autoregressive", 2, s.flow_hidden, s.bins
    ),
    "uniform codes": lambda s, encoder: sv.priors.UniformCodes(s.codes, s.places),
    "PixelCNN": lambda s, encoder: _autoregressive(
        s, sv.networks.PixelCNN(s.codes, s.places, s.width, layers=2)
    ),
    "transformer": lambda s, encoder: _autoregressive(s, _transformer(s, *s.places)),
    "recurrent, conditional": lambda s, encoder: _autoregressive(
        s, _recurrent(s, *s.places, condition=s.condition), conditional=True
    ),
}
#: of the priors over codes: the grid of places at which they stand
GRIDS: dict[str, Callable[[Sizes], Shape]] = {
    "uniform codes": lambda s: (),
    "PixelCNN": lambda s: s.grid,
    "transformer": lambda s: (math.prod(s.grid),),
    "recurrent, conditional": lambda s: (math.prod(s.grid),),
}

# ---- encoders: of the sizes and what makes the network of the data at hand ----------------------------

Network = Callable[..., nn.Module]


def _flow(s: Sizes, network: Network, kind: str) -> Any:
    out = network(2 * s.latents + 2)
    return sv.encoders.Flow(out, s.latents, 2, kind, hidden=s.flow_hidden, bins=s.bins)


def _codes(s: Sizes, network: Network, learned: str = "average", **options: bool) -> Any:
    quantiser = sv.encoders.Quantiser(s.codes, s.latents, learned)
    return sv.encoders.Code(network(s.latents, *s.places, **options), quantiser, s.places, **options)


ENCODERS: dict[str, Callable[[Sizes, Network], Any]] = {
    "diagonal": lambda s, network: sv.encoders.Gaussian(network(2 * s.latents), s.latents),
    "full": lambda s, network: sv.encoders.Gaussian(
        network(s.latents + s.latents * (s.latents + 1) // 2), s.latents, covariance="full"
    ),
    "missing": lambda s, network: sv.encoders.Gaussian(
        network(2 * s.latents, missing=True), s.latents, missing=True
    ),
    "conditional": lambda s, network: sv.encoders.Gaussian(
        network(2 * s.latents, conditional=True), s.latents, conditional=True
    ),
    "flow coupling": lambda s, network: _flow(s, network, "coupling"),
    "flow autoregressive": lambda s, network: _flow(s, network, "autoregressive"),
    "codes": lambda s, network: _codes(s, network),
    "codes, gradient": lambda s, network: _codes(s, network, "gradient"),
    "codes, missing": lambda s, network: _codes(s, network, missing=True),
    "codes, conditional": lambda s, network: _codes(s, network, conditional=True),
}


def _network(s: Sizes, kind: str) -> Network:
    """What makes an encoder's network for data of one kind, by the shape of what it gives."""

    def make(*out: int, missing: bool = False, conditional: bool = False) -> nn.Module:
        twice = 2 if missing else 1
        if kind == "fields":
            own = {name: s.network((twice * n,), (3,)) for name, (n, _) in FIELDS.items()}
            return sv.networks.Fields(own, s.network((3 * len(own),), out, conditional))
        shape = (twice, *s.image) if kind == "image" else (twice * s.variables,)
        return s.network(shape, out, conditional)

    return make


# ---- decoders: of the sizes, with the kind of data they describe --------------------------------------


def _joint(s: Sizes) -> Any:
    heads = {name: s.head(n * numbers) for name, (n, numbers) in FIELDS.items()}
    return sv.decoders.Joint(
        {
            "flux": sv.decoders.Gaussian(heads["flux"], scale="per-datum", intrinsic="learned"),
            "counts": sv.decoders.Poisson(heads["counts"]),
            "kind": sv.decoders.Categorical(heads["kind"], K),
        }
    )


def _warp(s: Sizes) -> Any:
    return sv.decoders.Warp(s.head(2, *s.image), scale="learned", channels=1)


class Described(NamedTuple):
    """kind: of the data. reads: the names of the context without which it describes nothing."""

    kind: str
    make: Callable[[Sizes], Any]
    reads: Collection[str] = ()


def _gaussian(numbers: int = 1, **options: Any) -> Callable[[Sizes], Any]:
    return lambda s: sv.decoders.Gaussian(s.head(numbers * s.variables), **options)


def _student(df: Any) -> Callable[[Sizes], Any]:
    return lambda s: sv.decoders.StudentT(s.head(2 * s.variables), df=df)


DECODERS: dict[str, Described] = {
    "gaussian": Described("real", _gaussian(scale=0.7)),
    "learned": Described("real", _gaussian(scale="learned")),
    "predicted": Described("real", _gaussian(2, scale="predicted")),
    "noise": Described("real", _gaussian(scale="per-datum"), ["noise"]),
    "noise and scatter": Described("real", _gaussian(scale="per-datum", intrinsic="learned"), ["noise"]),
    "covariance": Described("correlated", _gaussian(scale="per-datum", intrinsic="learned"), ["noise"]),
    "bernoulli": Described("bits", lambda s: sv.decoders.Bernoulli(s.head(s.variables))),
    "categorical": Described("labels", lambda s: sv.decoders.Categorical(s.head(K * s.variables), K)),
    "poisson": Described("counts", lambda s: sv.decoders.Poisson(s.head(s.variables)), ["exposure"]),
    "negative binomial": Described(
        "counts", lambda s: sv.decoders.NegativeBinomial(s.head(s.variables)), ["exposure"]
    ),
    "student t": Described("real", _student(3.0)),
    "student t, learned df": Described("real", _student("learned")),
    "mixture of logistics": Described(
        "grey", lambda s: sv.decoders.MixtureOfLogistics(s.head(3 * 2 * s.variables), 2, LEVELS)
    ),
    "von mises": Described("angles", lambda s: sv.decoders.VonMises(s.head(3 * s.variables))),
    "tokens, recurrent": Described(
        "tokens", lambda s: sv.decoders.Sequence(_recurrent(s, s.variables, s.latents), stop=0)
    ),
    "tokens, transformer": Described(
        "tokens", lambda s: sv.decoders.Sequence(_transformer(s, s.variables, s.latents), stop=0)
    ),
    "joint": Described("fields", _joint, ["noise.flux", "exposure"]),
    "warp": Described("image", _warp, ["source"]),
    "conditional": Described(
        "real",
        lambda s: sv.decoders.Gaussian(s.head(s.variables, conditional=True), conditional=True),
        ["condition"],
    ),
}

# ---- objectives: of the sizes and the number of training data -----------------------------------------


def _with_property(s: Sizes, rows: int) -> Any:
    head = sv.networks.Perceptron(s.latents, [3], 1)
    return sv.objectives.ELBO(extra={"property": sv.objectives.Property(head, weight=2.0)})


OBJECTIVES: dict[str, Callable[[Sizes, int], Any]] = {
    "ELBO": lambda s, rows: sv.objectives.ELBO(),
    # a floor below the divergence, and draws enough to tell: where all of it is free, the prior has no gradient
    "ELBO, free bits": lambda s, rows: sv.objectives.ELBO(free_bits=1e-3, samples=8),
    "ELBO, capacity": lambda s, rows: sv.objectives.ELBO(beta=50.0, capacity=sv.schedules.WarmUp(2.0, 10)),
    "ELBO, property": _with_property,
    "IWAE": lambda s, rows: sv.objectives.IWAE(4),
    "IWAE, doubly reparameterised": lambda s, rows: sv.objectives.IWAE(4, doubly_reparameterised=True),
    "BetaTCVAE": lambda s, rows: sv.objectives.BetaTCVAE(rows),
    "FactorVAE": lambda s, rows: sv.objectives.FactorVAE(s.latents, hidden=(5,)),
    "two domains": lambda s, rows: sv.objectives.TwoDomains(
        sv.objectives.ELBO(extra={"apart": sv.objectives.Discrepancy("domain")}), "domain", weights=(1.0, 2.0)
    ),
    "VQ": lambda s, rows: sv.objectives.VQ(),
}

PARTS: dict[str, Mapping[str, Any]] = {
    "prior": PRIORS, "encoder": ENCODERS, "decoder": DECODERS, "objective": OBJECTIVES,
}  # fmt: skip


# ---- combinations -------------------------------------------------------------------------------------


def fits(names: Names) -> bool:
    """Whether the parts go together; what does not is refused by name, which the contract checks.

    Codes are trained by VQ alone: of objectives for continuous latents some tell their bound, but move no codebook.
    """
    coded = names.encoder.startswith("codes")
    if (names.prior in GRIDS) != coded or (names.objective == "VQ") != coded:
        return False
    # a network of sequences reads one vector
    if DECODERS[names.decoder].kind == "tokens" and GRIDS.get(names.prior, lambda s: ())(TINY):
        return False
    # a pseudo-input is one tensor
    if names.prior == "Vamp" and DECODERS[names.decoder].kind == "fields":
        return False
    # the total correlation is split over the dimensions of a diagonal Gaussian
    return names.objective != "BetaTCVAE" or names.encoder in ("diagonal", "missing", "conditional")


def alone(part: str, name: str) -> Names:
    """The base model of one family with one part exchanged: of continuous latents where it fits, or of codes."""
    bases = Names(), Names("uniform codes", "codes", objective="VQ")
    return next(names for base in bases if fits(names := base._replace(**{part: name})))


def covering(
    lists: Sequence[Collection[Any]], allowed: Callable[[tuple[Any, ...]], bool] = lambda row: True
) -> list[tuple[Any, ...]]:
    """Rows, one entry of each list, in which every pair of entries that some allowed row has stands once at least.

    Greedy over all allowed rows, so not the fewest, but near: as many as the product of the two longest lists as a
    rule, where the whole product has as many as all lists multiplied.
    """
    rows = [row for row in itertools.product(*lists) if allowed(row)]
    pairs = {row: set(itertools.combinations(enumerate(row), 2)) for row in rows}
    open_, chosen = set().union(*pairs.values()), []
    most = math.comb(len(lists), 2)
    while open_:
        best, gain = rows[0], 0
        for row in rows:
            if (new := len(pairs[row] & open_)) > gain:
                best, gain = row, new
                if gain == most:
                    break
        most = gain  # nothing gains more later
        chosen.append(best)
        open_ -= pairs[best]
    return chosen


def each_once(
    lists: Sequence[Collection[Any]], allowed: Callable[[tuple[Any, ...]], bool] = lambda row: True
) -> list[tuple[Any, ...]]:
    """Few allowed rows in which every entry of every list stands once at least."""
    rows = [row for row in itertools.product(*lists) if allowed(row)]
    open_, chosen = {(i, entry) for i, of in enumerate(lists) for entry in of}, []
    while open_:
        chosen.append(max(rows, key=lambda row: len(set(enumerate(row)) & open_)))
        open_ -= set(enumerate(chosen[-1]))
    return chosen


# ---- models and their data ----------------------------------------------------------------------------


def build(names: Names, sizes: Sizes = TINY, seed: int = 1) -> sv.VAE:
    """The model of one combination, the same for the same seed."""
    torch.manual_seed(seed)
    described = DECODERS[names.decoder]
    if names.prior in GRIDS:
        sizes = replace(sizes, places=GRIDS[names.prior](sizes))
    encoder = ENCODERS[names.encoder](sizes, _network(sizes, described.kind))
    family = sv.VQVAE if names.encoder.startswith("codes") else sv.VAE
    return family(PRIORS[names.prior](sizes, encoder), encoder, described.make(sizes))


def build_objective(names: Names, rows: int, sizes: Sizes = TINY, seed: int = 7) -> sv.objectives.Objective:
    """The objective of one combination, for training data of so many rows."""
    torch.manual_seed(seed)
    return OBJECTIVES[names.objective](sizes, rows)


def data(names: Names, rows: int, sizes: Sizes = TINY, seed: int = 3) -> sv.Batch:
    """Data in the support of the parts, with all context; the target of the last row is not known.

    For an encoder of missing data row 1 has nothing, and row 0 lacks its last entries.
    """
    g = torch.Generator().manual_seed(seed)
    n, kind = sizes.variables, DECODERS[names.decoder].kind

    def normal(*shape: int) -> Tensor:
        return torch.randn(rows, *shape, generator=g, dtype=torch.float64)

    def whole(high: int, size: int = n) -> Tensor:
        return torch.randint(0, high, (rows, size), generator=g)

    context = {"condition": normal(sizes.condition), "exposure": normal().abs() + 0.5}
    context["domain"] = torch.arange(rows, dtype=torch.float64) % 2
    noise = normal(n).abs().clamp(max=2.0) + 0.2
    x: Any
    if kind == "fields":
        x = {"flux": normal(3), "counts": whole(9, 2), "kind": whole(K, 1)}
        context["noise.flux"] = normal(3).abs() + 0.2
    elif kind == "image":
        x, context["source"] = normal(1, *sizes.image), normal(1, *sizes.image)
    elif kind == "tokens":
        x = whole(sizes.codes)
        stops = x == 0
        x = x.masked_fill(stops.cumsum(1) > stops.long(), -1)
    elif kind in ("labels", "counts"):
        x = whole(K if kind == "labels" else 9)
    elif kind == "grey":
        x = whole(LEVELS).double() / (LEVELS - 1)
    else:
        x = normal(n).clamp(-3, 3)  # within (−π, π]
    if kind == "bits":
        x = (x > 0).double()
    if kind == "correlated":
        root = normal(n, n) / math.sqrt(n)
        noise = root @ root.mT + 0.1 * torch.eye(n, dtype=torch.float64)
    if kind != "fields":
        context["noise"] = noise
    if "missing" in names.encoder:
        for values in x.values() if isinstance(x, dict) else [x]:
            values[0, ..., -1] = values[1] = math.nan if values.is_floating_point() else -1
    target = normal(1)
    target[-1] = math.nan
    return sv.Batch(x, context=context, target=target)
