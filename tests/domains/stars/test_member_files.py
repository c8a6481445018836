"""The members' files as others read them: astropy, pandas, and STILTS (TOPCAT's library) where it is installed."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import warnings
from importlib import resources
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from astropy.io import fits, votable
from astropy.io.votable import parse, ucd
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from sciencevae.builtin.stars.member_files import COLUMNS, Origin, write_members

from sciencevae.errors import InputError

ORIGIN = Origin(
    "Größe of a field.parquet", 2016.0, ("Vallenari A. et al. 2023, A&A 674, A1", "@article{b,\n}")
)
STILTS = shutil.which("stilts")


def members(rows: int) -> pd.DataFrame:
    """Every canonical column there is, one colour missing."""
    rng = np.random.default_rng(rows)
    data: dict[str, object] = {name: rng.normal(size=rows) for name in COLUMNS}
    data["source_id"] = 4_000_000_000_000_000_001 + np.arange(rows)  # a float would not hold it
    data["cluster"] = np.array([("NGC 2423", "cluster 1")[n % 2] for n in range(rows)], dtype=object)
    data["colour"] = np.where(np.arange(rows) == 1, np.nan, data["colour"])
    return pd.DataFrame(data)


@pytest.fixture(scope="module", params=[0, 1, 5], ids=lambda rows: f"{rows} rows")
def written(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[pd.DataFrame, Path]:
    """The members, and the stem of their files; writing them warns of nothing."""
    table, stem = members(request.param), tmp_path_factory.mktemp("members") / "members.v2"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        paths = write_members(table, stem, ORIGIN)
    assert [path.name for path in paths] == ["members.v2.fits", "members.v2.vot", "members.v2.parquet"]
    return table, stem


@pytest.mark.parametrize(
    ("suffix", "kind"), [("fits", "fits"), ("vot", "votable"), ("parquet", "parquet.votable")]
)
def test_values_units_ucds_and_descriptions_come_back(
    written: tuple[pd.DataFrame, Path], suffix: str, kind: str
) -> None:
    table, stem = written
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = Table.read(f"{stem}.{suffix}", format=kind)
    assert len(back) == len(table)
    assert back.colnames == [column.name for column in COLUMNS.values()]
    for number, (name, column) in enumerate(COLUMNS.items(), start=1):
        found = back[column.name]
        assert (found.unit or u.dimensionless_unscaled) == u.Unit(column.unit)
        values = found.filled(np.nan) if name == "colour" and hasattr(found, "filled") else found
        if name == "cluster":
            assert [str(value) for value in values] == table[name].tolist()
        else:
            assert values.dtype.newbyteorder("=") == ("int64" if name == "source_id" else "float64")
            np.testing.assert_array_equal(np.asarray(values), table[name])
        if kind == "fits":
            assert back.meta[f"TUCD{number}"] == column.ucd
            described = back.meta[f"TCOMM{number}"]
        else:
            assert found.meta["ucd"] == column.ucd
            described = found.description
        assert described.startswith(column.description)
        assert described.endswith("epoch J2016.0") == (name in ("ra_deg", "dec_deg"))


def test_plain_parquet_readers_see_the_columns_alone(written: tuple[pd.DataFrame, Path]) -> None:
    table, stem = written
    back = pd.read_parquet(f"{stem}.parquet")
    assert back["source_id"].dtype == np.int64
    assert pd.api.types.is_string_dtype(back["cluster"])
    assert back["probability"].dtype == np.float64
    np.testing.assert_array_equal(back["source_id"], table["source_id"])
    np.testing.assert_array_equal(back["probability"], table["probability"])


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_ucds_are_in_the_iaus_vocabulary_and_units_in_the_standards(column: object) -> None:
    assert ucd.check_ucd(column.ucd, check_controlled_vocabulary=True, has_colon=False)
    unit = u.Unit(column.unit)
    for standard in ("fits", "vounit"):
        assert u.Unit(unit.to_string(standard), format=standard) == unit


def test_fits_header_is_standard_and_says_where_it_comes_from(written: tuple[pd.DataFrame, Path]) -> None:
    with fits.open(f"{written[1]}.fits", checksum=True) as file:
        file.verify("exception")
        header = file[1].header
        assert all(len(key) <= 8 for key in header)
        assert header["RADESYS"] == "ICRS"
        assert header["CREATOR"].startswith("sciencevae ")
        assert np.datetime64(header["DATE"]) <= np.datetime64("now")
        history = " ".join(header["HISTORY"])
    assert r"source: Gr\xf6\xdfe of a field.parquet" in history
    assert "Vallenari A. et al. 2023" in history


def test_votable_is_valid_with_the_frame_and_epoch_of_the_positions(
    written: tuple[pd.DataFrame, Path],
) -> None:
    document = parse(f"{written[1]}.vot", verify="exception")
    (frame,) = document.coordinate_systems
    assert (frame.system, frame.epoch) == ("ICRS", "J2016.0")
    fields = {field.name: field for field in document.get_first_table().fields}
    assert {name for name, field in fields.items() if field.ref == frame.ID} >= {
        "ra",
        "dec",
        "pmra",
        "parallax",
    }
    assert fields["magnitude"].ref is None
    facts = [(info.name, info.value) for info in document.infos]
    assert ("source", "Größe of a field.parquet") in facts
    assert [name for name, _ in facts].count("citation") == 2


def test_votables_are_to_the_letter_of_the_standards(written: tuple[pd.DataFrame, Path]) -> None:
    """The file, and what VOParquet puts into the metadata: IVOA's schema, astropy's validator, VOUnits, UCD1+."""
    _, stem = written
    parquet = pq.read_schema(f"{stem}.parquet")
    texts = [Path(f"{stem}.vot").read_bytes(), parquet.metadata[b"IVOA.VOTable-Parquet.content"]]
    schema = etree.XMLSchema(etree.parse(str(resources.files(votable) / "data" / "VOTable.v1.4.xsd")))
    for text in texts:
        schema.assertValid(etree.fromstring(text))
        report = io.StringIO()
        assert votable.validate(io.BytesIO(text), output=report), report.getvalue()
        fields = parse(io.BytesIO(text), verify="exception").get_first_table().fields
        assert [field.name for field in fields] == parquet.names
        for field in fields:
            assert ucd.check_ucd(field.ucd, check_controlled_vocabulary=True, has_colon=False)
        # as written, not as astropy has read them
        for unit in re.findall(rb'unit="([^"]*)"', text):
            u.Unit(unit.decode(), format="vounit", parse_strict="raise")


def test_fits_columns_are_to_the_letter_of_the_standards(written: tuple[pd.DataFrame, Path]) -> None:
    """Names that differ by more than case and need no quotes, units of the FITS standard, UCD1+."""
    header = fits.getheader(f"{written[1]}.fits", 1)
    names = list(header["TTYPE*"].values())
    assert len({name.lower() for name in names}) == len(names) == len(COLUMNS)
    assert all(re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII) for name in names)
    for unit in header["TUNIT*"].values():
        u.Unit(unit, format="fits", parse_strict="raise")
    found = header["TUCD*"].values()
    assert all(ucd.check_ucd(word, check_controlled_vocabulary=True, has_colon=False) for word in found)


@pytest.mark.skipif(STILTS is None, reason="STILTS is not installed")
def test_stilts_has_nothing_to_complain_of(written: tuple[pd.DataFrame, Path]) -> None:
    table, stem = written
    for arguments in (
        ("votlint", "ucd=true", "unit=true", "validate=true", f"{stem}.vot"),
        ("tpipe", f"in={stem}.fits", "omode=count"),
    ):
        done = subprocess.run([str(STILTS), *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        said = done.stdout.split()
        assert said == (
            [] if arguments[0] == "votlint" else ["columns:", str(len(COLUMNS)), "rows:", str(len(table))]
        )


@settings(max_examples=20, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.text("abcÄΩ1", min_size=1, max_size=9)), max_size=5
    )
)
def test_any_identifier_and_any_name(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str]]
) -> None:
    table = pd.DataFrame(
        {
            "source_id": np.array([number for number, _ in rows], dtype=np.int64),
            "cluster": [name for _, name in rows],
            "probability": np.linspace(0, 1, len(rows)),
        }
    )
    paths = write_members(table, tmp_path_factory.mktemp("any") / "m", Origin("a field"))
    for path in paths:
        back = Table.read(path, format={".vot": "votable", ".parquet": "parquet.votable"}.get(path.suffix))
        assert np.asarray(back["source_id"]).tolist() == table["source_id"].tolist()
        if path.suffix != ".fits":  # which has ASCII alone
            assert [str(name) for name in back["cluster"]] == table["cluster"].tolist()
    assert "epoch" not in paths[1].read_text()  # unknown, so not said


def test_an_astropy_table_does_too(tmp_path: Path) -> None:
    table = Table.from_pandas(members(3)[["source_id", "cluster", "probability", "colour"]])
    assert np.ma.is_masked(table["colour"])
    write_members(table, tmp_path / "m", ORIGIN)
    assert np.isnan(fits.getdata(tmp_path / "m.fits")["colour"]).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t.assign(probabilty=1.0),
            r"no canonical column 'probabilty'; did you mean 'probability'\?",
        ),
        (lambda t: t.drop(columns="cluster"), "the column 'cluster' is missing"),
        (
            lambda t: t.assign(source_id=t["source_id"].astype(float)),
            "source_id is float64, not whole numbers",
        ),
        (lambda t: t.assign(magnitude="bright"), "magnitude is no column of numbers"),
    ],
)
def test_bad_tables_are_refused_and_what_was_there_stays(
    tmp_path: Path, change: object, message: str
) -> None:
    before = [path.read_bytes() for path in write_members(members(2), tmp_path / "m", ORIGIN)]
    with pytest.raises(InputError, match=message):
        write_members(change(members(3)), tmp_path / "m", ORIGIN)
    assert [(tmp_path / f"m.{kind}").read_bytes() for kind in ("fits", "vot", "parquet")] == before


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fits.HDUList, "writeto", broken)
    with pytest.raises(KeyboardInterrupt):
        write_members(members(2), tmp_path / "m", ORIGIN)
    assert list(tmp_path.iterdir()) == []
