"""Molecules made standard, and as tokens."""

import numpy as np
import pytest
import selfies
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import QED
from sciencevae.builtin.molecules.chemistry import (
    Refused,
    Standard,
    canonical,
    completed,
    properties,
    standard,
)
from sciencevae.builtin.molecules.tokens import STOP, Alphabet, split

ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


@pytest.mark.parametrize(
    ("given", "how", "wanted"),
    [
        ("OCC", {}, "CCO"),
        ("C1=CC=CC=C1", {}, "c1ccccc1"),
        ("  OCC ", {}, "CCO"),
        ("C[C@H](N)C(=O)O", {}, "C[C@H](N)C(=O)O"),
        ("C[C@H](N)C(=O)O", {"stereo": "drop"}, "CC(N)C(=O)O"),
        ("F/C=C/F", {"stereo": "drop"}, "FC=CF"),
        ("CC(=O)[O-].[Na+]", {"salts": "largest"}, "CC(=O)[O-]"),
        ("CC(=O)[O-].[Na+]", {"salts": "largest", "charges": "neutralise"}, "CC(=O)O"),
        ("C[N+](C)(C)C", {"charges": "neutralise"}, "C[N+](C)(C)C"),  # no proton to take
        ("[2H]OC", {}, "[2H]OC"),
        ("[CH3:1][CH2:2][OH:3]", {}, "CCO"),
    ],
)
def test_is_made_standard(given, how, wanted):
    assert standard(given, Standard(**how)) == wanted


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("CC[C@H]CC", "CCCCC"),
        ("C[C@@](C)C", "CC(C)C"),
        ("C[N@+](C)CC", "CC[NH+](C)C"),
        ("[C@H]", "C"),
        ("C[C@H](N)O", "C[C@H](N)O"),  # a hydrogen is its fourth neighbour
        ("[O]N1C(C)(C)CCCC1(C)C", "CC1(C)CCCC(C)(C)N1[O]"),  # a radical that is meant
        ("xx", ""),
        ("", ""),
    ],
)
def test_stereocentres_without_neighbours_are_filled_with_hydrogen(written, meant):
    assert completed(written) == meant


@given(
    st.lists(
        st.sampled_from(
            [
                "[C]",
                "[C@H1]",
                "[C@@H1]",
                "[C@@]",
                "[N]",
                "[N@+1]",
                "[=C]",
                "[O]",
                "[Ring1]",
                "[Branch1]",
                "[F]",
            ]
        )
    )
)
def test_no_sequence_of_selfies_is_a_radical(tokens):
    text = selfies.decoder("".join(tokens))
    found = Chem.MolFromSmiles(completed(text))
    assert found is not None
    assert not any(atom.GetNumRadicalElectrons() for atom in found.GetAtoms())
    if not any("@" in token for token in tokens):
        assert completed(text) == canonical(text)


@pytest.mark.parametrize(
    ("given", "how", "reason"),
    [
        ("", {}, "empty"),
        ("   ", {}, "empty"),
        ("CÖ", {}, "not ASCII: 'Ö'"),
        ("C" * 2001, {}, "2001 characters; at most 2000"),
        ("C(", {}, "not a SMILES"),
        ("CC(C)(C)(C)C", {}, "valence for atom # 1 C, 5"),
        ("c1cccc1", {}, "kekulize"),
        ("CCO.CCN", {"salts": "refuse"}, "a mixture or salt"),
        ("C[#200]", {}, "Atomic number not found"),
    ],
)
def test_is_refused_with_the_reason(given, how, reason):
    with pytest.raises(Refused, match=reason):
        standard(given, Standard(**how))


def test_charges_that_no_proton_takes_off():
    assert standard("CC(=O)[O-]", Standard(charges="neutralise")) == "CC(=O)O"
    assert standard("F[P-](F)(F)(F)(F)F") == "F[P-](F)(F)(F)(F)F"
    with pytest.raises(Refused, match="without its charges it is no molecule"):
        standard("F[P-](F)(F)(F)(F)F", Standard(charges="neutralise"))


def test_properties_are_those_published():
    # aspirin: PubChem's weight; Wildman-Crippen logP 1.31, QED 0.55 (Bickerton et al. 2012), SAS 1.58
    logp, qed, sas, weight = properties(ASPIRIN, ("logP", "QED", "SAS", "weight"))
    assert weight == pytest.approx(180.16, abs=0.01)
    assert logp == pytest.approx(1.31, abs=0.005)
    assert qed == pytest.approx(0.55, abs=0.005)
    assert sas == pytest.approx(1.58, abs=0.005)


def test_drug_likeness_is_that_of_rdkit(smiles):
    for text in [*smiles, ASPIRIN, "[H][H]", "[2H]C", "[Na+].[Cl-]", "[H]/N=C/C", "O=[N+]([O-])c1ccc(N)cc1S"]:
        found = Chem.MolFromSmiles(text)
        assert properties(text, ("QED",)) == [QED.qed(found)], text


@pytest.mark.parametrize("notation", ["selfies", "smiles"])
def test_tokens_give_the_molecule_back(notation, smiles):
    molecules = [standard(text) for text in smiles] + ["C[C@H](N)C(=O)[O-]", "F/C=C\\Cl", "C%11CC%11Br"]
    molecules = [standard(text) for text in molecules]
    tokens = [split(text, notation) for text in molecules]
    alphabet = Alphabet.of(tokens, notation)
    for text, sequence in zip(molecules, tokens, strict=True):
        numbers = alphabet.encode(sequence)
        assert numbers[-1] == STOP
        assert 0 not in numbers[:-1]
        assert alphabet.decode([*numbers, -1, -1]) == text


@given(st.data())
def test_every_sequence_of_selfies_is_a_molecule(data):
    alphabet = Alphabet.of([["[C]", "[=N]", "[O]", "[F]", "[C@@H1]", "[N+1]", "[Cl]", "[S]"]], "selfies")
    numbers = data.draw(st.lists(st.integers(1, len(alphabet) - 1), min_size=1, max_size=30))
    found = alphabet.decode(numbers)
    text = selfies.decoder("".join(alphabet.tokens[number - 1] for number in numbers))
    assert (found != "") == (text != "")
    assert not found or Chem.MolFromSmiles(found) is not None


def test_what_differs_in_a_bond_is_in_the_alphabet():
    seen = split("CCO", "selfies") + split("CN", "selfies") + split("CF", "selfies")
    alphabet = Alphabet.of([seen], "selfies")
    assert alphabet.trained == len(set(seen))
    for text in ("C#N", "C=O", "C1CC1", "C1=CC=CC=C1", "CC(C)(C)C", "F/C=C/F"):
        alphabet.encode(split(text, "selfies"))
    assert not {"[=F]", "[#O]"} & set(alphabet.tokens), "bonds that the atom cannot have"
    with pytest.raises(Refused, match=r"lacks \[S\]"):
        alphabet.encode(split("CS", "selfies"))


@pytest.mark.parametrize(
    ("smiles", "why"),
    [
        ("*C", r"an atom of any element \(\*\)"),
        ("[CH4]->[Cu]", r"a dative bond \(->\)"),
        ("CC~CC", "a bond of any order"),
        ("C:Br", "an aromatic bond of atoms that are not"),
        ("[Og]", "an atom or a bond of it"),
        ("Cl(=O)(=O)(=O)O", "Cl with 7 bond"),
    ],
)
def test_refused_by_selfies(smiles, why):
    with pytest.raises(Refused, match=f"SELFIES cannot say it: .*{why}"):
        split(smiles, "selfies")


def test_numbers_fit_their_type():
    alphabet = Alphabet.of([["[C]"]], "selfies")
    assert len(alphabet) < np.iinfo(np.int16).max
