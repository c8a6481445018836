"""Better molecules in few calls of an oracle: in the latents, by a genetic algorithm, and at random."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import selfies
import torch
from rdkit import Chem

from .analysis import decoded, new_molecules
from .chemistry import COMPUTED

if TYPE_CHECKING:
    from sciencevae.runs import Variant

__all__ = ["Oracle", "at_random", "by_genes", "in_latents", "score"]

#: molecules of which every way begins
START = 100
_POPULATION = 50


def score(smiles: str) -> float:
    """5 QED − SAS (Gómez-Bombarelli et al. 2018); NaN for what is no molecule."""
    found = Chem.MolFromSmiles(smiles) if smiles else None
    if found is None or not found.GetNumAtoms():
        return float("nan")
    return 5 * COMPUTED["QED"][0](found) - COMPUTED["SAS"][0](found)


class Oracle:
    """A function of molecules that counts its calls; one it has seen costs none."""

    def __init__(self, function: Callable[[str], float] = score) -> None:
        self.function = function
        self.seen: dict[str, float] = {}

    @property
    def calls(self) -> int:
        return len(self.seen)

    def __call__(self, smiles: Sequence[str]) -> np.ndarray:
        for text in smiles:
            if text and text not in self.seen:
                self.seen[text] = self.function(text)
        return np.array([self.seen.get(text, np.nan) for text in smiles])

    def best(self) -> np.ndarray:
        """The best value after each call, (calls,)."""
        return np.fmax.accumulate(np.array(list(self.seen.values())))


def at_random(variant: Variant, oracle: Oracle, calls: int, seed: int) -> None:
    """Molecules from the prior."""
    number = 0
    while oracle.calls < calls:
        number += 1
        _ask(oracle, new_molecules(variant, START, seed + 7919 * number), calls)


def by_genes(variant: Variant, oracle: Oracle, calls: int, seed: int) -> None:
    """A genetic algorithm on SELFIES from what the oracle has seen: the better half crossed and mutated.

    Nigam et al. 2021 (STONED): a token exchanged, put in or left out; two parents cut and joined.
    """
    generator = np.random.default_rng(seed)
    alphabet = sorted(selfies.get_semantic_robust_alphabet())
    while oracle.calls < calls:
        ranked = sorted(
            (item for item in oracle.seen.items() if np.isfinite(item[1])), key=lambda item: -item[1]
        )
        parents = [list(selfies.split_selfies(selfies.encoder(text))) for text, _ in ranked[:_POPULATION]]
        children = []
        for _ in range(_POPULATION):
            one, other = (parents[generator.integers(len(parents))] for _ in range(2))
            child = one[: generator.integers(len(one) + 1)] + other[generator.integers(len(other)) :]
            for _ in range(generator.integers(1, 3)):
                place, kind = int(generator.integers(len(child))), generator.integers(3)
                token = alphabet[generator.integers(len(alphabet))]
                child[place : place + int(kind != 1)] = [] if kind == 2 and len(child) > 1 else [token]
            found = Chem.MolFromSmiles(selfies.decoder("".join(child)))
            children.append("" if found is None else Chem.MolToSmiles(found))
        _ask(oracle, children, calls)


def in_latents(variant: Variant, oracle: Oracle, calls: int, seed: int) -> None:
    """Bayesian optimisation in the latents of the molecules that the oracle has seen."""
    from sciencevae.latents.optimise import trust_region

    start = list(oracle.seen)
    z, values = _latents(variant, start), torch.tensor([oracle.seen[text] for text in start])
    spread = variant.latents["z"].values.astype(np.float32)
    bounds = torch.from_numpy(np.quantile(spread, [0.001, 0.999], axis=0).astype(np.float32))

    def evaluate(points: torch.Tensor) -> torch.Tensor:
        smiles = decoded(variant, points)
        allowed = [text if oracle.calls < calls or text in oracle.seen else "" for text in smiles]
        return torch.from_numpy(oracle(allowed)).float()

    while oracle.calls < calls:
        before = len(z)
        z, values = trust_region(z, values, evaluate, calls - oracle.calls, seed + before, bounds=bounds)


def _ask(oracle: Oracle, smiles: Sequence[str], calls: int) -> None:
    for text in smiles:
        if oracle.calls >= calls:
            return
        oracle([text])


@torch.no_grad()
def _latents(variant: Variant, smiles: Sequence[str]) -> torch.Tensor:
    """Posterior means of molecules."""
    from .dataset import alphabet_of
    from .tokens import split

    data = variant.data
    alphabet, places = alphabet_of(data), data["tokens"].shape[1]
    tokens = torch.full((len(smiles), places), -1)
    for row, text in enumerate(smiles):
        numbers = alphabet.encode(split(text, alphabet.notation))[:places]
        tokens[row, : len(numbers)] = torch.tensor(numbers)
    return variant.model().encode({"tokens": tokens}).mean
