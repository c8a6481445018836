"""A user's files in every format."""

import gzip

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
    with pytest.raises(InputError, match=r"no column 'smiles'.*name it with prepare.column"):
        list(rows_of(path))


def test_names_that_are_missing_are_numbers(tmp_path):
    path = tmp_path / "a.smi"
    path.write_text("smiles id\nCCO\nCCN\tb c\n")
    assert [(row.name, row.smiles) for row in rows_of(path)] == [("2", "CCO"), ("b c", "CCN")]


def test_a_structure_that_cannot_be_read_keeps_its_place(tmp_path):
    path = write(tmp_path / "a.sdf", False)
    path.write_text(path.read_text().replace("  6  6  0", "  6 99  0", 1))
    found = list(rows_of(path))
    assert found[1].problem == "RDKit cannot read this structure"
    assert found[0].name == "ethanol"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"", "molecules are read from"),
        ("a.smi", b"CC\xff\xfe", "not text in UTF-8"),
        ("a.smi.gz", gzip.compress(b"CCO x\n" * 1000)[:-20], "damaged or cut short"),
        ("a.smi.gz", b"CCO", "damaged or cut short"),
        ("a.parquet", b"PAR1", "as Parquet"),
        ("a.csv", b"a,b\n1,2\n", "no column 'smiles'"),
        ("a.csv", b"", "no column 'smiles'"),
    ],
)
def test_what_is_no_such_file_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(rows_of(tmp_path / name))
