"""How a set of new molecules compares with molecules that are known: the metrics of MOSES.

Polykovskiy et al. 2020, Front. Pharmacol. 11, 565644, §"Metrics"; FCD: Preuer et al. 2018. Written anew on RDKit.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
from rdkit import Chem, DataStructs, rdBase
from rdkit.Chem import rdFingerprintGenerator, rdmolops
from rdkit.Chem.Scaffolds import MurckoScaffold
from scipy.stats import wasserstein_distance

from sciencevae.data.parallel import blocks_of, streamed
from sciencevae.errors import InputError

from .chemistry import PROPERTIES, parsed
from .chemnet import ChemNet, frechet_distance

__all__ = [
    "Description",
    "alone",
    "compare",
    "describe",
    "fingerprints",
    "nearest_similarity",
    "new_share",
    "unique_share",
]

_BITS = 1024
_RADIUS = 2
_BLOCK = 500
_ATOMS = {"C", "N", "S", "O", "F", "Cl", "Br", "H"}


class _Molecule(NamedTuple):
    """What is computed of one valid molecule."""

    smiles: str
    bits: bytes
    fragments: tuple[str, ...]
    scaffold: str | None
    passes: bool
    values: tuple[float, ...]


@dataclass(frozen=True)
class Description:
    """Of a set of molecules, the valid ones in order: all that comparisons need.

    smiles: canonical · asked: how many were given · fingerprints: Morgan, radius 2, (N, 16) words of 64 bits ·
    fragments: by BRICS · scaffolds: by Bemis and Murcko, of two rings or more · passes: the filters, (N,) ·
    values: (N, 4), ``PROPERTIES`` · mean, covariance: of ChemNet's activations, None without the network
    """

    smiles: tuple[str, ...]
    asked: int
    fingerprints: np.ndarray
    fragments: Counter[str]
    scaffolds: Counter[str]
    passes: np.ndarray
    values: np.ndarray
    mean: np.ndarray | None = None
    covariance: np.ndarray | None = None


def describe(
    smiles: Sequence[str], filters: Sequence[Path] = (), chemnet: ChemNet | None = None
) -> Description:
    """A set of SMILES described, by several processes where it is large. Raises InputError where none is valid.

    filters: tables of SMARTS (``moses``' mcf.csv and wehi_pains.csv) that molecules have to pass
    """
    smarts = tuple(pattern for path in filters for pattern in _smarts(path))
    found = [
        one
        for _, part in streamed(_described, blocks_of(smiles, _BLOCK), smarts)
        for one in part
        if one is not None
    ]
    if not found:
        raise InputError(f"none of {len(smiles)} molecules is valid")
    canonical = tuple(one.smiles for one in found)
    mean = covariance = None
    if chemnet is not None:
        activations = chemnet.activations(canonical)
        mean = activations.mean(0)
        covariance = np.cov(activations.T) if len(activations) > 1 else np.zeros((mean.size, mean.size))
    return Description(
        canonical,
        len(smiles),
        np.frombuffer(b"".join(one.bits for one in found), np.uint64).reshape(len(found), -1),
        Counter(fragment for one in found for fragment in one.fragments),
        Counter(one.scaffold for one in found if one.scaffold),
        np.array([one.passes for one in found]),
        np.array([one.values for one in found]),
        mean,
        covariance,
    )


def compare(new: Description, known: Description) -> dict[str, float]:
    """FCD, SNN, Frag, Scaf and the Wasserstein distances of properties of a set from a known one."""
    found = {
        "SNN": float(nearest_similarity(new.fingerprints, known.fingerprints).mean()),
        "Frag": _cosine(new.fragments, known.fragments),
        "Scaf": _cosine(new.scaffolds, known.scaffolds),
    }
    if new.mean is not None and known.mean is not None:
        assert new.covariance is not None
        assert known.covariance is not None
        found["FCD"] = frechet_distance(new.mean, new.covariance, known.mean, known.covariance)
    for column, name in enumerate(PROPERTIES):
        found[f"W1 {name}"] = float(wasserstein_distance(new.values[:, column], known.values[:, column]))
    return found


def alone(new: Description, training: set[str] | frozenset[str] | None = None) -> dict[str, float]:
    """Valid, Unique@1k and @10k, IntDiv, IntDiv2, Filters; Novelty where training molecules are given; of
    these it takes those that are among the new ones."""
    found = {"Valid": len(new.smiles) / new.asked}
    found |= {
        f"Unique@{k // 1000}k": unique_share(new.smiles, k) for k in (1000, 10_000) if len(new.smiles) >= k
    }
    mean, square = _mean_pairs(new.fingerprints, _counted(new.fingerprints))
    found |= {"IntDiv": 1 - float(mean.mean()), "IntDiv2": 1 - float(np.sqrt(square).mean())}
    found["Filters"] = float(new.passes.mean())
    if training is not None:
        found["Novelty"] = new_share(new.smiles, training)
    return found


def unique_share(smiles: Sequence[str], first: int | None = None) -> float:
    """The share of different ones among the first canonical SMILES."""
    chosen = smiles[:first]
    return len(set(chosen)) / len(chosen)


def new_share(smiles: Sequence[str], training: set[str] | frozenset[str]) -> float:
    """Of the different molecules, the share that no training molecule is."""
    different = set(smiles)
    return len(different - training) / len(different)


def nearest_similarity(new: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The Tanimoto similarity of each new fingerprint to the nearest known one, (N,): (N, W) and (M, W) uint64."""
    return _nearest(new, known, _counted(new), _counted(known))


@numba.njit("uint64(uint64)", inline="always", cache=True)
def _ones(word):  # type: ignore[no-untyped-def]
    """Bits that are set: added up in pairs, fours, eights, then all eights at once."""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (word * np.uint64(0x0101010101010101)) >> np.uint64(56)


@numba.njit(cache=True)
def _counted(words):  # type: ignore[no-untyped-def]
    out = np.zeros(len(words), np.int64)
    for row in range(len(words)):
        for word in words[row]:
            out[row] += np.int64(_ones(word))
    return out


@numba.njit(inline="always", cache=True)
def _tanimoto(a, b, of_a, of_b):  # type: ignore[no-untyped-def]
    common = np.int64(0)
    for place in range(len(a)):
        common += np.int64(_ones(a[place] & b[place]))
    either = of_a + of_b - common
    return common / either if either else 1.0


@numba.njit(parallel=True, cache=True)
def _nearest(new, known, of_new, of_known):  # type: ignore[no-untyped-def]
    out = np.zeros(len(new))
    for row in numba.prange(len(new)):
        best = 0.0
        for other in range(len(known)):
            # bits in common are at most those of the poorer one
            low, high = min(of_new[row], of_known[other]), max(of_new[row], of_known[other])
            if low >= best * high:
                best = max(best, _tanimoto(new[row], known[other], of_new[row], of_known[other]))
        out[row] = best
    return out


@numba.njit(parallel=True, cache=True)
def _mean_pairs(words, ones):  # type: ignore[no-untyped-def]
    """Mean similarity and mean squared similarity of each to all, itself included, (N,) both."""
    mean, square = np.zeros(len(words)), np.zeros(len(words))
    for row in numba.prange(len(words)):
        for other in range(len(words)):
            value = _tanimoto(words[row], words[other], ones[row], ones[other])
            mean[row] += value
            square[row] += value * value
    return mean / len(words), square / len(words)


def _cosine(some: Mapping[str, int], other: Mapping[str, int]) -> float:
    """⟨a, b⟩ / ‖a‖ ‖b‖ of counts; NaN where either has none."""
    dot = sum(count * other.get(name, 0) for name, count in some.items())
    norms = [np.sqrt(sum(count * count for count in counts.values())) for counts in (some, other)]
    return float(dot / (norms[0] * norms[1])) if all(norms) else float("nan")


def _described(smiles: Sequence[str], smarts: tuple[str, ...]) -> list[_Molecule | None]:
    with rdBase.BlockLogs():
        return [_molecule(text, smarts) for text in smiles]


def _molecule(smiles: str, smarts: tuple[str, ...]) -> _Molecule | None:
    found = parsed(smiles)
    if found is None:
        return None
    bits = DataStructs.BitVectToBinaryText(fingerprints().GetFingerprint(found))
    fragments = Chem.MolToSmiles(rdmolops.FragmentOnBRICSBonds(found)).split(".")
    values = tuple(float(compute(found)) for compute in PROPERTIES.values())
    return _Molecule(
        Chem.MolToSmiles(found), bits, tuple(fragments), _scaffold(found), _passes(found, smarts), values
    )


@lru_cache(maxsize=1)
def fingerprints() -> rdFingerprintGenerator.FingerprintGenerator64:
    """Morgan's, radius 2, 1024 bits."""
    return rdFingerprintGenerator.GetMorganGenerator(radius=_RADIUS, fpSize=_BITS)


def _scaffold(found: Chem.Mol) -> str | None:
    try:
        scaffold = MurckoScaffold.GetScaffoldForMol(found)
    except (ValueError, RuntimeError):
        return None
    return Chem.MolToSmiles(scaffold) if scaffold.GetRingInfo().NumRings() >= 2 else None


def _passes(found: Chem.Mol, smarts: tuple[str, ...]) -> bool:
    """No ring of eight atoms or more, no charge, no other elements, none of the patterns."""
    atoms = list(found.GetAtoms())
    if any(len(ring) >= 8 for ring in found.GetRingInfo().AtomRings()):
        return False
    if any(atom.GetFormalCharge() or atom.GetSymbol() not in _ATOMS for atom in atoms):
        return False
    if not smarts:
        return True
    patterns, screens = _patterns(smarts)
    # a molecule that lacks a bit of a pattern's screen cannot hold the pattern: few are left to be searched for
    left = np.flatnonzero(~(screens & ~_screen(found)).any(1))
    return not any(found.HasSubstructMatch(patterns[number]) for number in left)


@lru_cache(maxsize=4)
def _patterns(smarts: tuple[str, ...]) -> tuple[list[Chem.Mol], np.ndarray]:
    """The patterns, their hydrogens counted at the atoms they are on (so that molecules need none), and screens."""
    patterns = [Chem.MergeQueryHs(Chem.MolFromSmarts(text)) for text in smarts]
    return patterns, np.stack([_screen(pattern) for pattern in patterns])


def _screen(found: Chem.Mol) -> np.ndarray:
    return np.frombuffer(DataStructs.BitVectToBinaryText(Chem.PatternFingerprint(found)), np.uint64)


def _smarts(path: Path) -> list[str]:
    """The patterns of a table: the column ``smarts``, else the first one."""
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    column = rows[0].index("smarts") if "smarts" in rows[0] else 0
    chosen = [row[column] for row in rows[1 if "smarts" in rows[0] else 0 :]]
    if wrong := next((text for text in chosen if Chem.MolFromSmarts(text) is None), None):
        raise InputError(f"{path}: {wrong!r} is no SMARTS pattern")
    return chosen
