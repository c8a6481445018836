"""Molecules to prepared data, and a user's file."""

import json
from collections import Counter

import dask
import numpy as np
import pytest
from sciencevae.builtin.molecules import DOMAIN
from sciencevae.builtin.molecules.chemistry import standard
from sciencevae.builtin.molecules.dataset import alphabet_of, prepare, read, write

from sciencevae.config import validate
from sciencevae.errors import InputError


def settings(**prepare_):
    return validate(DOMAIN.settings, {"dataset": "zinc250k", "prepare": prepare_}, "test")


def test_rows_and_splits(file, smiles):
    data = prepare(settings(properties=["QED", "weight"]), {}, file)
    canonical = [standard(text) for text in smiles]
    assert data["smiles"].values.tolist() == canonical
    alphabet = alphabet_of(data)
    assert [alphabet.decode(row) for row in data["tokens"].values.tolist()] == canonical
    assert data["properties"].dims == ("sample", "property")
    assert data["properties"].attrs["units"] == "1, g/mol"
    ethane = canonical.index(standard("CC#N"))
    assert data["properties"].values[ethane, 1] == pytest.approx(41.05, abs=0.01)
    assert Counter(data["split"].values.tolist()) == pytest.approx({0: 0.8 * 182, 1: 18, 2: 18}, abs=2)
    sides = {}
    for text, code in zip(canonical, data["split"].values.tolist(), strict=True):
        assert sides.setdefault(text, code) == code, "a molecule of several rows is on one side"
    assert len(sides) < len(canonical)


def test_split_does_not_depend_on_the_order_or_on_rdkit(file, smiles):
    first = prepare(settings(), {}, file)
    file.write_text("".join(f"{text}\n" for text in reversed(smiles)))
    again = prepare(settings(), {}, file)
    assert again["split"].values[::-1].tolist() == first["split"].values.tolist()


def test_several_processes_give_the_same(tmp_path, smiles):
    path = tmp_path / "many.smi"
    path.write_text("".join(f"{text}\n" for text in smiles * 12))  # more than one block
    with dask.config.set(num_workers=1):
        one = prepare(settings(properties=["logP"]), {}, path)
    with dask.config.set(num_workers=2):
        two = prepare(settings(properties=["logP"]), {}, path)
    assert one.identical(two)


def test_refused_rows_are_counted_and_named(file):
    with file.open("a") as more:
        more.write("C( broken\n\nCC(C)(C)(C)C five\n*C dummy\nC[#200] none\nC:Br kekule\n")
    data = prepare(settings(), {}, file)
    assert data.sizes["sample"] == 182
    assert data.attrs["refused"] == 6
    assert data.attrs["refused_rows"][0] == "row 183 (broken): not a SMILES"
    assert json.loads(data.attrs["refused_reasons"])["empty"] == 1


def test_only_bad_rows(tmp_path):
    path = tmp_path / "bad.smi"
    path.write_text("C( a\n")
    with pytest.raises(InputError, match=r"no molecule can be used; row 1 \(a\): not a SMILES"):
        prepare(settings(), {}, path)
    path.write_text("")
    with pytest.raises(InputError, match="has no rows"):
        prepare(settings(), {}, path)


def test_a_part_of_the_rows(file):
    part = prepare(settings(rows=100), {}, file)
    whole = prepare(settings(), {}, file)
    assert part.sizes["sample"] == pytest.approx(100, abs=5)  # rows of one text are taken together
    assert set(part["molecule"].values.tolist()) < set(whole["molecule"].values.tolist())


def test_longer_ones_and_lacking_tokens_are_left_out(file):
    data = prepare(settings(length=6), {}, file)
    assert data["tokens"].shape[1] == 6
    assert data.attrs["refused"] == 182 - data.sizes["sample"] > 0
    assert len(data.attrs["refused_rows"]) == min(20, data.attrs["refused"])
    assert all(" tokens with the stop" in text for text in data.attrs["refused_rows"])
    with pytest.raises(InputError, match=r"no molecule has 2 tokens at most.*the shortest has 3"):
        prepare(settings(length=2), {}, file)
    with pytest.raises(InputError, match="none is for training"):
        prepare(settings(fractions={"train": 0.0, "test": 1.0}), {}, file)


def test_reading_keeps_every_row(file, smiles, tmp_path):
    data = prepare(settings(length=12), {}, file)
    path = tmp_path / "new.csv"
    path.write_text("id,smiles\na,OCC\nb,\nc,C(\nd,CCI\ne," + "C" * 40 + "\na,CCN\n")
    (block,) = read(path, settings(), data)
    status = block["status"].values.tolist()
    assert block["id"].values.tolist() == ["a", "b", "c", "d", "e", "a"]
    assert [status[0], status[1], status[2], status[5]] == ["ok", "empty", "not a SMILES", "ok"]
    assert status[3] == "the model's alphabet lacks [I]"
    assert "tokens with the stop; the model reads" in status[4]
    assert block["smiles"].values[0] == "CCO"
    assert (block["tokens"].values[1:5] == -1).all()


def test_written_as_smiles(file, tmp_path):
    data = prepare(settings(), {}, file).isel(sample=slice(0, 3))
    data = data.assign_coords(row=("sample", np.arange(3)), id=("sample", ["a", "b", "c"]))
    data["tokens"].values[1] = -1
    write(data, tmp_path / "out.smi")
    lines = (tmp_path / "out.smi").read_text().splitlines()
    assert lines == [f"{data['smiles'].values[0]} a", " b", f"{data['smiles'].values[2]} c"]
    write(data, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[:2] == [
        "id,smiles",
        f"a,{data['smiles'].values[0]}",
    ]


def test_properties_that_are_not_known(file):
    with pytest.raises(InputError, match="unknown property 'logp'"):
        settings(properties=["logp"])
    with pytest.raises(InputError, match="HOMO is known of qm9 alone"):
        settings(properties=["HOMO"])


MEASURED = (
    "Name,SMILES,Solubility,melting\none,CCO,0.5,\ntwo,CCN,,-81\nthree,CCC,much,1\nfour,CCF,2e-3,-143\n"
)


@pytest.mark.parametrize("ending", ["csv", "parquet", "sdf"])
def test_numbers_of_a_table_of_your_own(ending, tmp_path):
    import io

    import pandas as pd
    from rdkit import Chem

    path = tmp_path / f"mine.{ending}"
    table = pd.read_csv(io.StringIO(MEASURED), dtype=str)
    if ending == "csv":
        path.write_text(MEASURED)
    elif ending == "parquet":
        table.to_parquet(path)
    else:
        with Chem.SDWriter(str(path)) as writer:
            for name, smiles, solubility, melting in table.fillna("").itertuples(index=False):
                found = Chem.MolFromSmiles(smiles)
                found.SetProp("_Name", name)
                found.SetProp("solubility", solubility)
                found.SetProp("melting", melting)
                writer.write(found)
    chosen = {
        "measured": {"solubility": "mol/l", "melting": "degC"},
        "properties": ["weight"],
        "identifier": "name",
    }
    data = prepare(settings(fractions={"train": 1.0}, **chosen), {}, path)
    assert data["property"].values.tolist() == ["weight", "solubility", "melting"]
    assert data["properties"].attrs["units"] == "g/mol, mol/l, degC"
    nan = np.nan
    np.testing.assert_allclose(
        data["properties"].values[:, 1:], [[0.5, nan], [nan, -81], [2e-3, -143]], rtol=1e-6
    )
    assert data.attrs["ranges"]["properties"][2] == [-143, -81]
    assert data.attrs["refused_rows"] == ["row 3 (three): Solubility: 'much' is no number"] or ending != "csv"
    assert data.attrs["refused"] == 1


def test_columns_that_are_not_there(file, tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(MEASURED)
    with pytest.raises(
        InputError, match=r"no column 'solubilty'; did you mean 'Solubility'.*prepare\.measured"
    ):
        prepare(settings(measured={"solubilty": "mol/l"}), {}, path)
    with pytest.raises(InputError, match="has no columns"):
        prepare(settings(measured={"solubility": "mol/l"}), {}, file)
    with pytest.raises(InputError, match="give it with --input"):
        prepare(settings(measured={"solubility": "mol/l"}), {}, None)
    with pytest.raises(InputError, match="name of a property that is computed"):
        settings(measured={"logp": "1"})
    with pytest.raises(InputError, match="another column"):
        settings(measured={"ID": "1"})
    with pytest.raises(InputError, match="one name but for upper and lower case"):
        settings(measured={"y": "1", "Y": "m"})
    path.write_text("smiles,x\nCCO,\nCCN,\n")
    with pytest.raises(InputError, match="no training molecule has a number in 'x'"):
        prepare(settings(measured={"x": "1"}, fractions={"train": 1.0}), {}, path)
