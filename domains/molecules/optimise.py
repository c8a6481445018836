"""Better molecules in few calls of an oracle: in the latents, by a genetic algorithm, and at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import selfies
import torch

from .analysis import decoded, new_molecules
from .chemistry import PROPERTIES, Refused, completed, parsed
from .dataset import alphabet_of, numbered
from .tokens import Alphabet, split

if TYPE_CHECKING:
    from sciencevae.runs import Variant
    from sciencevae.vae.model import VAE

__all__ = ["START", "WAYS", "Oracle", "Space", "at_random", "by_genes", "in_latents", "score"]

#: molecules of which every way begins
START = 100
#: of the genetic algorithm: parents, as many children at a time, and the share of these that have two of them
_POPULATION, _CROSSED = 10, 0.3
#: rounds without a new molecule after which a search ends
_PATIENCE = 20


def score(smiles: str) -> float:
    """5 QED − SAS (Gómez-Bombarelli et al. 2018); NaN for what is no molecule."""
    found = parsed(smiles)
    if found is None or not found.GetNumAtoms():
        return float("nan")
    return 5 * PROPERTIES["QED"](found) - PROPERTIES["SAS"](found)


class Space(NamedTuple):
    """A trained model opened; bounds: (2, D), between which its latents of data lie · places: tokens it reads."""

    model: VAE
    alphabet: Alphabet
    bounds: torch.Tensor
    places: int

    @classmethod
    def of(cls, variant: Variant) -> Space:
        data = variant.data
        bounds = np.quantile(variant.latents["z"].values, [0.001, 0.999], axis=0).astype(np.float32)
        return cls(variant.model(), alphabet_of(data), torch.from_numpy(bounds), data["tokens"].shape[1])

    @torch.no_grad()
    def encode(self, smiles: Sequence[str]) -> tuple[torch.Tensor, list[int]]:
        """Posterior means (n, D) of those molecules that the model can read, and which these are."""
        ids = np.full((len(smiles), self.places), -1)
        read = [row for row, text in enumerate(smiles) if self._reads(ids[row], text)]
        tokens = torch.from_numpy(ids[read])
        return self.model.encode({"tokens": tokens}).mean, read

    def _reads(self, ids: np.ndarray, smiles: str) -> bool:
        """Whether it can read a molecule, whose numbers are then written to ``ids``."""
        try:
            return numbered(ids, split(smiles, self.alphabet.notation), self.alphabet) == "ok"
        except Refused:
            return False


class Oracle:
    """A function of molecules that counts its calls; one it has seen costs none."""

    def __init__(self, function: Callable[[str], float] = score) -> None:
        self.function = function
        self.seen: dict[str, float] = {}

    @property
    def calls(self) -> int:
        return len(self.seen)

    def up_to(self, calls: int, smiles: Sequence[str]) -> np.ndarray:
        """Their values, (N,); NaN for "", and for what would be a call too many."""
        for text in smiles:
            if text and text not in self.seen and self.calls < calls:
                self.seen[text] = self.function(text)
        return np.array([self.seen.get(text, np.nan) for text in smiles])

    def best(self) -> np.ndarray:
        """The best value after each call, (calls,)."""
        return np.fmax.accumulate(np.array(list(self.seen.values())))


def at_random(space: Space, oracle: Oracle, calls: int, seed: int) -> None:
    """Molecules from the prior."""

    def ask(number: int) -> None:
        oracle.up_to(calls, new_molecules(space.model, space.alphabet, START, seed + 7919 * (number + 1)))

    _while_new(oracle, calls, ask)


def by_genes(space: Space, oracle: Oracle, calls: int, seed: int) -> None:
    """A genetic algorithm on SELFIES from what the oracle has seen: the best ones, some of them crossed, mutated.

    After Nigam et al. 2021 (STONED): two parents cut and joined; a token exchanged, put in or left out, new ones
    being those of the parents.
    """
    generator = np.random.default_rng(seed)

    def ask(number: int) -> None:
        ranked = sorted(
            (t for t, value in oracle.seen.items() if np.isfinite(value)), key=lambda t: -oracle.seen[t]
        )
        parents = _sayable(ranked)
        if parents:
            oracle.up_to(calls, [_child(parents, generator) for _ in range(_POPULATION)])

    _while_new(oracle, calls, ask)


def _sayable(ranked: Sequence[str]) -> list[list[str]]:
    """The SELFIES of the first ones that have any: a model of SMILES may have drawn others."""
    found: list[list[str]] = []
    for text in ranked:
        with suppress(Refused):
            found.append(split(text, "selfies"))
        if len(found) == _POPULATION:
            break
    return found


def _child(parents: list[list[str]], generator: np.random.Generator) -> str:
    def parent() -> list[str]:
        return parents[generator.integers(len(parents))]

    child = list(parent())
    if generator.random() < _CROSSED:
        other = parent()
        child = child[: generator.integers(len(child) + 1)] + other[generator.integers(len(other)) :]
    giver = parent()
    place, kind = int(generator.integers(len(child))), generator.integers(3)
    token = giver[generator.integers(len(giver))]
    child[place : place + int(kind != 1)] = [] if kind == 2 and len(child) > 1 else [token]
    return completed(selfies.decoder("".join(child)))


def in_latents(space: Space, oracle: Oracle, calls: int, seed: int) -> None:
    """Bayesian optimisation in the latents of the molecules that the oracle has seen and the model can read."""
    from sciencevae.latents.optimise import trust_region

    def evaluate(points: torch.Tensor, most: int) -> tuple[torch.Tensor, torch.Tensor]:
        first: dict[str, int] = {}
        for row, text in enumerate(decoded(space.model, space.alphabet, points)):
            if text and text not in oracle.seen and len(first) < most:
                first.setdefault(text, row)
        values = torch.from_numpy(oracle.up_to(calls, list(first)))
        latents = points[list(first.values())]
        means, read = space.encode(list(first))
        latents[read] = means
        return latents, values

    start = list(oracle.seen)
    z, read = space.encode(start)
    values = torch.tensor([oracle.seen[start[row]] for row in read])
    trust_region(z, values, evaluate, calls - oracle.calls, seed, bounds=space.bounds)


def _while_new(oracle: Oracle, calls: int, ask: Callable[[int], None]) -> None:
    """Ask, with a number from 0 on, until the oracle has had its calls, or nothing new has come for long."""
    number = without = 0
    while oracle.calls < calls and without < _PATIENCE:
        before = oracle.calls
        ask(number)
        number, without = number + 1, 0 if oracle.calls > before else without + 1


WAYS: dict[str, Callable[[Space, Oracle, int, int], None]] = {
    "Bayesian optimisation in the latents": in_latents,
    "genetic algorithm": by_genes,
    "random molecules": at_random,
}
