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

__all__ = [
    "PROPERTIES",
    "Refused",
    "Standard",
    "canonical",
    "completed",
    "molecule",
    "parsed",
    "properties",
    "standard",
]

#: characters of a SMILES, at most: the largest drug-like molecules have a few hundred
LONGEST = 2000


def _logp(found: Chem.Mol) -> float:
    return rdMolDescriptors.CalcCrippenDescriptors(found)[0]


def _qed(found: Chem.Mol) -> float:
    """RDKit's QED. It takes hydrogens off a copy first, which has lost what was computed of the molecule (a third
    of its time): a molecule without any is its own copy."""
    if found.GetNumAtoms() > found.GetNumHeavyAtoms():
        return QED.qed(found)
    described = QED.QEDproperties(
        MW=rdMolDescriptors._CalcMolWt(found),
        ALOGP=_logp(found),
        HBA=sum(len(found.GetSubstructMatches(pattern)) for pattern in QED.Acceptors),
        HBD=rdMolDescriptors.CalcNumHBD(found),
        PSA=rdMolDescriptors.CalcTPSA(found),
        ROTB=rdMolDescriptors.CalcNumRotatableBonds(found, rdMolDescriptors.NumRotatableBondsOptions.Strict),
        AROM=len(Chem.GetSSSR(Chem.DeleteSubstructs(Chem.Mol(found), QED.AliphaticRings))),
        ALERTS=sum(map(found.HasSubstructMatch, QED.StructuralAlerts)),
    )
    return QED.qed(found, qedProperties=described)


#: of ``settings.COMPUTED``: the partition coefficient of Wildman & Crippen, drug-likeness from 0 to 1, synthetic
#: accessibility from 1 (easy) to 10, average molecular weight
PROPERTIES: Mapping[str, Callable[[Chem.Mol], float]] = {
    "logP": _logp,
    "QED": _qed,
    "SAS": sascorer.calculateScore,
    "weight": rdMolDescriptors._CalcMolWt,
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


def parsed(smiles: str) -> Chem.Mol | None:
    """The molecule of a SMILES; None of "" and of what is none, without RDKit's messages."""
    with rdBase.BlockLogs():
        return Chem.MolFromSmiles(smiles) if smiles else None


def canonical(smiles: str) -> str:
    """The canonical SMILES, "" of what is no molecule."""
    found = parsed(smiles)
    return "" if found is None else Chem.MolToSmiles(found)


def completed(smiles: str) -> str:
    """The canonical SMILES of what a model has written, "" of what is no molecule.

    A stereocentre is written with the hydrogens that it has beside its neighbours; where it has fewer of these it
    would be a radical, which no model means: the hydrogens that are missing are put there.
    """
    found = parsed(smiles)
    if found is None:
        return ""
    if "@" in smiles and any(atom.GetNumRadicalElectrons() for atom in found.GetAtoms()):
        with rdBase.BlockLogs():
            found = Chem.MolFromSmiles(smiles, sanitize=False)
            centres = [
                a.GetIdx() for a in found.GetAtoms() if a.GetChiralTag() != Chem.ChiralType.CHI_UNSPECIFIED
            ]
            Chem.SanitizeMol(found)
            for atom in map(found.GetAtomWithIdx, centres):
                if atom.GetNumRadicalElectrons():
                    atom.SetNumRadicalElectrons(0)
                    atom.SetNoImplicit(False)
        return canonical(Chem.MolToSmiles(found))
    return Chem.MolToSmiles(found)


def molecule(smiles: str) -> Chem.Mol:
    """The molecule of a SMILES; Refused with the reason where there is none."""
    text = smiles.strip()
    if not text:
        raise Refused("empty")
    if not text.isascii():
        raise Refused(f"not ASCII: {next(c for c in text if not c.isascii())!r}")
    if len(text) > LONGEST:
        raise Refused(f"{len(text)} characters; at most {LONGEST} are read")
    found = parsed(text)
    if found is None:
        raise Refused(_problem(text))
    if not found.GetNumAtoms():
        raise Refused("no atoms")
    return found


def _problem(text: str) -> str:
    """What RDKit finds wrong in a SMILES that it refuses."""
    try:
        with rdBase.BlockLogs():
            drawn = Chem.MolFromSmiles(text, sanitize=False)
            problems = Chem.DetectChemistryProblems(drawn) if drawn is not None else ()
    except RuntimeError as error:  # what RDKit takes for granted, as that an element has such a number
        return " ".join(str(error).split("Violation occurred")[0].split())
    return problems[0].Message() if problems else "not a SMILES"


def standard(smiles: str, how: Standard = Standard()) -> str:  # noqa: B008  (immutable)
    """The canonical SMILES of a molecule, sanitised, with salts, charges and stereochemistry as ``how`` says.

    Tautomers are left as they are drawn; numbers of atoms, as of a reaction, are taken off. Raises Refused.
    """
    found = molecule(smiles)
    for atom in found.GetAtoms():
        atom.SetAtomMapNum(0)
    if len(Chem.GetMolFrags(found)) > 1:
        if how.salts == "refuse":
            raise Refused("a mixture or salt: give one molecule, or set prepare.salts to largest")
        if how.salts == "largest":
            found = rdMolStandardize.LargestFragmentChooser().choose(found)
    if how.charges == "neutralise":
        found = rdMolStandardize.Uncharger().uncharge(found)
    if how.stereo == "drop":
        Chem.RemoveStereochemistry(found)
    text = Chem.MolToSmiles(found)
    if how.charges == "neutralise" and parsed(text) is None:  # as of PF6−, whose charge is no proton's
        raise Refused(f"without its charges it is no molecule: {text}")
    return text


def properties(smiles: str, names: tuple[str, ...]) -> list[float]:
    """The named properties of a molecule, each in its unit (``settings.COMPUTED``)."""
    if not names:
        return []
    found = Chem.MolFromSmiles(smiles)
    return [float(PROPERTIES[name](found)) for name in names]
