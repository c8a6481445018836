"""A user's files in every format."""

import gzip

import numpy as np
import pandas as pd
import pytest
from rdkit import Chem
from sciencevae.builtin.molecules.files import rows_of

from sciencevae.errors import InputError

ROWS = [("CCO", "ethanol"), ("c1ccccc1", "benzene"), ("", "nothing"), ("CC(=O)O", "acetic acid")]


def write(path, packed):
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[1]
    if kind == "smi":
        text = "".join(f"{smiles} {name}\n" for smiles, name in ROWS)
    elif kind in ("csv", "tsv"):
        mark = {"csv": ",", "tsv": "\t"}[kind]
        text = mark.join(("ID", "SMILES", "note")) + "\n"
        text += "".join(mark.join((name, smiles, "x")) + "\n" for smiles, name in ROWS)
    else:
        text = ""
        for smiles, name in ROWS:
            molecule = Chem.MolFromSmiles(smiles)
            molecule.SetProp("_Name", name)
            text += Chem.MolToMolBlock(molecule) + "$$$$\n"
    (gzip.open if packed else open)(path, "wb").write(text.encode())
    return path


@pytest.mark.parametrize("name", ["a.smi", "a.smi.gz", "a.csv", "a.csv.gz", "a.tsv", "a.sdf", "a.sdf.gz"])
def test_rows_in_order_with_names(tmp_path, name):
    found = list(rows_of(write(tmp_path / name, name.endswith(".gz"))))
    assert [row.name for row in found] == [name for _, name in ROWS]
    assert [row.smiles for row in found] == [smiles for smiles, _ in ROWS]


def test_parquet_and_another_column(tmp_path):
    path = tmp_path / "a.parquet"
    pd.DataFrame({"structure": [s for s, _ in ROWS[:2]] + [None], "key": [7, 8, 9]}).to_parquet(path)
    found = list(rows_of(path, column="Structure", identifier="KEY"))
    assert [(row.name, row.smiles) for row in found] == [("7", "CCO"), ("8", "c1ccccc1"), ("9", "")]
    with pytest.raises(InputError, match=r"no column 'smiles'.*rename the column, or .* prepare.column"):
        list(rows_of(path))


def test_names_that_are_missing_are_numbers(tmp_path):
    path = tmp_path / "a.smi"
    path.write_text("smiles id\nCCO\nCCN\tb c\n")
    assert [(row.name, row.smiles) for row in rows_of(path)] == [("1", "CCO"), ("b c", "CCN")]


def test_bytes_that_are_no_utf8_cost_nothing_but_themselves(tmp_path):
    path = tmp_path / "a.smi"
    path.write_bytes("CCO Mé\n".encode() + b"CCN M\xe9\nC\xe9 c\n")
    assert [(row.name, row.smiles) for row in rows_of(path)] == [
        ("Mé", "CCO"), (r"M\xe9", "CCN"), ("c", r"C\xe9"),
    ]  # fmt: skip
    path = write(tmp_path / "a.sdf", False)
    path.write_bytes(path.read_bytes().replace(b"ethanol", b"\xe9thanol"))
    assert next(rows_of(path))[:2] == (r"\xe9thanol", "CCO")
    path.write_text("CCO a\n", encoding="utf-16")
    with pytest.raises(InputError, match="is text in UTF-16: write it in UTF-8"):
        list(rows_of(path))


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("smiles,smiles,id\nCCO,CO,1\n")
    with pytest.raises(InputError, match="has 2 columns 'smiles': rename all but one"):
        list(rows_of(path))


def test_the_column_that_is_named_is_taken(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        "SMILES,smiles,canonical_smiles,id,Y\nC,CC,CCC,a, 1e-3\nC,CC,CCC,b,NA\nC,CC,CCC,c,1_0\nC,CC,CCC,d,inf\n"
    )
    assert [row.smiles for row in rows_of(path)] == ["CC"] * 4
    assert [row.smiles for row in rows_of(path, column="SMILES")] == ["C"] * 4
    with pytest.raises(InputError, match="no column 'structure'"):
        list(rows_of(path, column="structure"))
    found = list(rows_of(path, measured=("y",)))
    assert found[0].values == (1e-3,)
    assert np.isnan(found[1].values[0])
    assert [row.problem for row in found[2:]] == ["Y: '1_0' is no number", "Y: 'inf' is no finite number"]
    path.write_text("canonical_smiles\nCC\n")
    assert [row.smiles for row in rows_of(path)] == ["CC"]
    path.write_text("smiles,id\n" + "C" * 3_000_000 + ",a\nCC,b\n")
    assert [len(row.smiles) for row in rows_of(path)] == [3_000_000, 2]


def test_properties_of_an_sdf_whatever_the_case(tmp_path):
    path = write(tmp_path / "a.sdf", False)
    path.write_text(path.read_text().replace("M  END\n", "M  END\n>  <Solubility>\n-1.5\n\n", 1))
    first, second, *_ = rows_of(path, measured=("solubility",))
    assert first.values == (-1.5,)
    assert np.isnan(second.values[0])


def test_a_structure_that_cannot_be_read_keeps_its_place(tmp_path):
    path = write(tmp_path / "a.sdf", False)
    path.write_text(path.read_text().replace("  6  6  0", "  6 99  0", 1))
    found = list(rows_of(path))
    assert found[1].problem == "RDKit cannot read this structure"
    assert found[0].name == "ethanol"
    assert found[1].name == "benzene", "and its title"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"", "molecules are read from"),
        ("a.smi.gz", gzip.compress(b"CCO x\n" * 1000)[:-20], "damaged or cut short"),
        ("a.smi.gz", b"CCO", "damaged or cut short"),
        ("a.parquet", b"PAR1", "as Parquet"),
        ("a.csv", b"a,b\n1,2\n", "no column 'smiles'"),
        ("a.csv", b"", "is empty"),
        ("a.csv", b'smiles,id\nCCO,a\nCCC,"open\nCCN,b\n', "line 3 can't be read as a table.*a quote"),
        ("a.tsv", b'smiles\tid\nCCO\t"5 tube\nCCN\tb\n', "line 2 can't be read as a table.*a quote"),
        ("a.sdf.gz", gzip.compress(b"x\n" * 100_000)[:-20], "damaged or cut short"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(rows_of(tmp_path / name))
