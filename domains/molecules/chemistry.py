"""Molecules by RDKit: one standard SMILES of each, and what is computed from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from rdkit import Chem, rdBase
from rdkit.Chem import QED, rdMolDescriptors
from rdkit.Chem.MolStandardize import rdMolStandardize
from rdkit.Contrib.SA_Score import sascorer

if TYPE_CHECKING:
    from .settings import Prepare

__all__ = ["COMPUTED", "Refused", "Standard", "molecule", "properties", "quiet", "standard"]

#: characters of a SMILES, at most: the largest drug-like molecules have a few hundred
LONGEST = 2000


def _logp(found: Chem.Mol) -> float:
    return rdMolDescriptors.CalcCrippenDescriptors(found)[0]


#: what can be computed of a molecule: name -> (function, unit, in words)
COMPUTED: Mapping[str, tuple[Callable[[Chem.Mol], float], str, str]] = {
    "logP": (_logp, "1", "octanol-water partition coefficient by Wildman & Crippen, log10"),
    "QED": (QED.qed, "1", "quantitative estimate of drug-likeness, 0 to 1"),
    "SAS": (sascorer.calculateScore, "1", "synthetic accessibility, 1 easy to 10 hard"),
    "weight": (rdMolDescriptors._CalcMolWt, "g/mol", "average molecular weight"),
}


class Refused(ValueError):
    """Why a molecule can't be used, in one line."""


class Standard(NamedTuple):
    """What is made alike: as ``Prepare`` says."""

    stereo: str = "keep"
    salts: str = "keep"
    charges: str = "keep"

    @classmethod
    def of(cls, chosen: Prepare) -> Standard:
        return cls(chosen.stereo, chosen.salts, chosen.charges)


def quiet() -> rdBase.BlockLogs:
    """RDKit's own messages are kept back while this object lives; ours say which row and why."""
    return rdBase.BlockLogs()


def molecule(smiles: str) -> Chem.Mol:
    """The molecule of a SMILES; Refused with the reason where there is none."""
    text = smiles.strip()
    if not text:
        raise Refused("empty")
    if not text.isascii():
        raise Refused(f"not ASCII: {next(c for c in text if not c.isascii())!r}")
    if len(text) > LONGEST:
        raise Refused(f"{len(text)} characters; at most {LONGEST} are read")
    found = Chem.MolFromSmiles(text)
    if found is None:
        raise Refused(_problem(text))
    if not found.GetNumAtoms():
        raise Refused("no atoms")
    return found


def _problem(text: str) -> str:
    """What RDKit finds wrong in a SMILES that it refuses."""
    drawn = Chem.MolFromSmiles(text, sanitize=False)
    problems = Chem.DetectChemistryProblems(drawn) if drawn is not None else ()
    return problems[0].Message() if problems else "not a SMILES"


def standard(smiles: str, how: Standard = Standard()) -> str:  # noqa: B008  (immutable)
    """The canonical SMILES of a molecule, sanitised, with salts, charges and stereochemistry as ``how`` says.

    Tautomers are left as they are drawn. Raises Refused.
    """
    found = molecule(smiles)
    if len(Chem.GetMolFrags(found)) > 1:
        if how.salts == "refuse":
            raise Refused("a mixture or salt: give one molecule, or set prepare.salts to largest")
        if how.salts == "largest":
            found = rdMolStandardize.LargestFragmentChooser().choose(found)
    if how.charges == "neutralise":
        found = rdMolStandardize.Uncharger().uncharge(found)
    if how.stereo == "drop":
        Chem.RemoveStereochemistry(found)
    return Chem.MolToSmiles(found)


def properties(smiles: str, names: tuple[str, ...]) -> list[float]:
    """The named properties of a molecule, each in its unit (``COMPUTED``)."""
    if not names:
        return []
    found = Chem.MolFromSmiles(smiles)
    return [float(COMPUTED[name][0](found)) for name in names]
