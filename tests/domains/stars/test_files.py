"""Files of a user's own, of each format: identifiers, units, names, and all that can be wrong with them."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from hypothesis import given, settings
from hypothesis import strategies as st
from sciencevae.builtin.stars.columns import ALIASES, CORRELATIONS, positive_definite, read_catalogue
from sciencevae.builtin.stars.dataset import prepare, read
from sciencevae.builtin.stars.selection import Seen
from sciencevae.builtin.stars.settings import Prepare, Stars

from sciencevae.data import tables
from sciencevae.errors import InputError

FORMATS = {"csv": "ascii.csv", "ecsv": "ascii.ecsv", "fits": "fits", "vot": "votable", "parquet": "parquet"}
FIRST = 2**62 + 1


def field(count: int = 120, seed: int = 0) -> Table:
    """A field across RA 0 under the Gaia archive's names, with its units."""
    random = np.random.default_rng(seed)
    table = Table({"source_id": np.arange(count) + FIRST})
    table["ra"] = random.uniform(-1, 1, count) % 360
    table["dec"] = random.uniform(-31, -29, count)
    for name, spread in (("parallax", 1.0), ("pmra", 5.0), ("pmdec", 5.0)):
        table[name] = random.normal(2, spread, count)
        table[f"{name}_error"] = random.uniform(0.05, 0.3, count)
    table["phot_g_mean_mag"] = random.uniform(10, 18, count)
    for name, unit in (("ra", "deg"), ("dec", "deg"), ("parallax", "mas"), ("parallax_error", "mas"),
                       ("pmra", "mas/yr"), ("pmra_error", "mas/yr"), ("pmdec", "mas/yr"),
                       ("pmdec_error", "mas/yr"), ("phot_g_mean_mag", "mag")):  # fmt: skip
        table[name].unit = unit
    return table


def written(table: Table, path: Path) -> Path:
    table.write(path, format=FORMATS[path.suffix[1:]], overwrite=True)
    return path


def whole(path: Path, **options: dict[str, str]) -> pd.DataFrame:
    return pd.concat(list(read_catalogue(path, **options)), ignore_index=True)


# ---- identifiers and missing values ----------------------------------------------------------------------


@pytest.mark.parametrize("ending", FORMATS)
def test_identifiers_near_2_62_with_gaps_and_masked_numbers(tmp_path: Path, ending: str) -> None:
    """No digit is lost, and a row without an identifier or a parallax is marked or NaN, in every format."""
    table = field()
    table["source_id"] = MaskedColumn(table["source_id"], mask=np.arange(120) == 5)
    table["parallax"] = MaskedColumn(table["parallax"], mask=np.arange(120) == 7)
    if ending == "fits":  # the integer that stands for missing
        table["source_id"] = table["source_id"].filled(-99)
        hdu = fits.BinTableHDU(table.filled(np.nan))
        hdu.columns["source_id"].null = -99
        hdu.writeto(tmp_path / "field.fits")
    else:
        written(table, tmp_path / f"field.{ending}")
    block = whole(tmp_path / f"field.{ending}")
    assert block["source_id"].dtype == np.int64
    good = block["source_id"] != -1
    assert block.index[~good].tolist() == [5]
    assert block.loc[good, "source_id"].tolist() == [FIRST + i for i in range(120) if i != 5]
    assert block.loc[5, "status"] == "no identifier"
    assert block.index[block["parallax_mas"].isna()].tolist() == [7]


@pytest.mark.parametrize("ending", ["fits", "parquet"])
def test_unsigned_identifiers(tmp_path: Path, ending: str) -> None:
    table = field()
    table["source_id"] = table["source_id"].astype(np.uint64)
    assert whole(written(table, tmp_path / f"f.{ending}"))["source_id"].tolist() == list(
        range(FIRST, FIRST + 120)
    )
    table["source_id"][3] = 2**63 + 1
    with pytest.raises(
        InputError, match=r"'source_id' must be whole numbers: 9223372036854775809 is beyond 63"
    ):
        whole(written(table, tmp_path / f"g.{ending}"))


def test_identifiers_of_text(tmp_path: Path) -> None:
    table = field()
    table["source_id"] = [f" {number}" for number in table["source_id"]]
    assert whole(written(table, tmp_path / "f.csv"))["source_id"][119] == FIRST + 119
    table["source_id"] = [f"Gaia DR3 {number}" for number in table["source_id"]]
    with pytest.raises(InputError, match="must be whole numbers"):
        whole(written(table, tmp_path / "g.csv"))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=20), max_size=12))
def test_identifiers_seen_in_earlier_blocks(blocks: list[list[int]]) -> None:
    seen, before = Seen(), set[int]()
    for block in blocks:
        assert seen.again(np.array(block) + FIRST).tolist() == [number in before for number in block]
        before |= set(block)


def test_a_repeated_identifier_in_a_later_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_BLOCK_ROWS", 25)
    table = field()
    table["source_id"][[30, 110]] = FIRST + 3
    path = written(table, tmp_path / "f.parquet")
    status = np.concatenate([block["status"].values for block in read(path, Stars())])
    assert np.flatnonzero(status == "source_id appears before").tolist() == [30, 110]
    provenance = json.loads(prepare(Stars(), {}, path).attrs["provenance"])
    assert provenance["left out in the whole catalogue"] == {"source_id appears before": 2}


# ---- names and units -------------------------------------------------------------------------------------

#: canonical names of all that VizieR's Gaia DR3 (I/355/gaiadr3) has of them
VIZIER = {
    "Source": "source_id", "RA_ICRS": "ra_deg", "DE_ICRS": "dec_deg", "Plx": "parallax_mas",
    "pmRA": "pmra_mas_yr", "pmDE": "pmdec_mas_yr", "e_RA_ICRS": "ra_error_mas", "e_DE_ICRS": "dec_error_mas",
    "e_Plx": "parallax_error_mas", "e_pmRA": "pmra_error_mas_yr", "e_pmDE": "pmdec_error_mas_yr",
    "RADEcor": "ra_dec_corr", "RAPlxcor": "ra_parallax_corr", "RApmRAcor": "ra_pmra_corr",
    "RApmDEcor": "ra_pmdec_corr", "DEPlxcor": "dec_parallax_corr", "DEpmRAcor": "dec_pmra_corr",
    "DEpmDEcor": "dec_pmdec_corr", "PlxpmRAcor": "parallax_pmra_corr", "PlxpmDEcor": "parallax_pmdec_corr",
    "pmRApmDEcor": "pmra_pmdec_corr", "Gmag": "magnitude", "BPmag": "bp_magnitude", "RPmag": "rp_magnitude",
    "BP-RP": "colour", "RUWE": "ruwe", "epsi": "astrometric_excess_noise",
    "sepsi": "astrometric_excess_noise_sig", "nueff": "nu_eff_used_in_astrometry", "pscol": "pseudocolour",
    "ELAT": "ecl_lat", "Solved": "astrometric_params_solved", "RV": "radial_velocity",
    "e_RV": "radial_velocity_error",
}  # fmt: skip


def test_all_columns_of_vizier(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    table = Table({name: random.uniform(0.1, 0.2, 60) for name in VIZIER})
    table["Source"], table["RA_ICRS"], table["Solved"] = np.arange(60) + FIRST, np.arange(60.0), 31
    table["DE_ICRS"].unit = table["RA_ICRS"].unit = "deg"
    block = whole(written(table, tmp_path / "f.fits"))
    for theirs, ours in VIZIER.items():
        np.testing.assert_array_equal(block[ours], table[theirs], err_msg=theirs)


def test_no_alias_stands_for_two_columns() -> None:
    """But BP − RP, which is a colour too."""
    others = {name: {alias.lower() for alias in known} for name, known in ALIASES.items() if name != "bp_rp"}
    known = [alias for aliases in others.values() for alias in aliases]
    assert len(known) == len(set(known))


def test_correlations_of_the_hipparcos_catalogue(tmp_path: Path) -> None:
    """I/239 writes the later parameter first: Plx:RA, pmDE:pmRA."""
    table = field()
    for name, value in (("DE:RA", 0.1), ("Plx:RA", 0.2), ("pmDE:pmRA", -0.3)):
        table[name] = np.full(len(table), value)
    block = whole(written(table, tmp_path / "f.fits"))
    assert [block[name][0] for name in ("ra_dec_corr", "ra_parallax_corr", "pmra_pmdec_corr")] == [
        0.1,
        0.2,
        -0.3,
    ]


def test_colour_of_bp_and_rp(tmp_path: Path) -> None:
    table = field()
    table["phot_bp_mean_mag"] = table["phot_g_mean_mag"] + 0.4
    table["phot_rp_mean_mag"] = table["phot_g_mean_mag"] - 0.5
    block = whole(written(table, tmp_path / "f.parquet"))
    np.testing.assert_allclose(block["colour"], 0.9)
    np.testing.assert_allclose(block["bp_rp"], 0.9)


@pytest.mark.parametrize("ending", ["ecsv", "fits", "vot", "parquet"])
def test_units_of_the_file(tmp_path: Path, ending: str) -> None:
    table, expected = field(), field()
    for name in ("parallax", "parallax_error"):
        table[name] = table[name].to("arcsec")
    for name in ("pmra", "pmra_error"):
        table[name] = table[name].to("deg/yr")
    table["ra"] = table["ra"].to("rad")
    block = whole(written(table, tmp_path / f"f.{ending}"))
    for ours, theirs in (("ra_deg", "ra"), ("parallax_mas", "parallax"), ("pmra_error_mas_yr", "pmra_error")):
        np.testing.assert_allclose(block[ours], expected[theirs], rtol=1e-12)


def test_units_as_the_gaia_archive_writes_them(tmp_path: Path) -> None:
    table = field()
    hdu = fits.BinTableHDU(table)
    hdu.columns["pmra"].unit = "mas.yr**-1"
    hdu.writeto(tmp_path / "f.fits")
    np.testing.assert_array_equal(whole(tmp_path / "f.fits")["pmra_mas_yr"], table["pmra"])


def test_compressed_files(tmp_path: Path) -> None:
    for ending in ("csv", "ecsv", "fits", "vot"):
        plain = written(field(), tmp_path / f"f.{ending}")
        packed = tmp_path / f"f.{ending}.gz"
        packed.write_bytes(gzip.compress(plain.read_bytes()))
        pd.testing.assert_frame_equal(whole(packed), whole(plain))


def test_a_column_that_an_alias_finds_can_be_left_alone(tmp_path: Path) -> None:
    table = field()
    table["ra_error"] = np.zeros(len(table))
    path = written(table, tmp_path / "f.fits")
    assert (whole(path)["status"] == "ra_error_mas is zero or negative").all()
    assert (whole(path, names={"ra_error_mas": ""})["status"] == "").all()


# ---- what can be wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", FORMATS)
def test_a_file_cut_short(tmp_path: Path, ending: str) -> None:
    path = written(field(400), tmp_path / f"f.{ending}")
    whole_file = path.read_bytes()
    for share in (0.1, 0.5, 0.93):
        path.write_bytes(whole_file[: int(share * len(whole_file))])
        if ending in ("csv", "ecsv"):  # lines are lost without a trace: cut within one, after a separator
            path.write_bytes(path.read_bytes().rpartition(b"," if ending == "csv" else b" ")[0])
        with pytest.raises(InputError, match=r"(cannot be read as|holds no table).*fetch it again"):
            whole(path)


@pytest.mark.parametrize("ending", FORMATS)
def test_an_empty_file_and_one_without_rows(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"f.{ending}"
    path.touch()
    with pytest.raises(InputError, match="is empty: fetch it again"):
        whole(path)
    written(field()[:0], path)
    with pytest.raises(InputError, match="holds no rows"):
        whole(path)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(field(), tmp_path / "f.parquet")

    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # the tests may run as root, whom no mode stops
    with pytest.raises(InputError, match=r"may not be read \(Permission denied\)"):
        whole(path)


def test_a_fits_file_of_images(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros((4, 4))).writeto(tmp_path / "f.fits")
    with pytest.raises(InputError, match="holds no table"):
        whole(tmp_path / "f.fits")


def test_text_in_a_column_of_numbers(tmp_path: Path) -> None:
    """A row is marked; a column of nothing else is refused; what stands for missing is missing."""
    frame = field().to_pandas().astype({"parallax": object})
    frame.loc[2, "parallax"], frame.loc[3, "parallax"], frame.loc[4, "parallax"] = "n/a", "about 3", ""
    frame.to_csv(tmp_path / "f.csv", index=False)
    block = whole(tmp_path / "f.csv")
    assert block.loc[2:4, "status"].tolist() == ["", "parallax_mas is not a number", ""]
    assert block.loc[2:4, "parallax_mas"].isna().all()
    assert block.loc[5, "parallax_mas"] == frame.loc[5, "parallax"]
    frame.assign(ra="03:47:24").to_csv(tmp_path / "g.csv", index=False)
    with pytest.raises(InputError, match=r"column 'ra' holds text such as '03:47:24'.* decimal degrees"):
        whole(tmp_path / "g.csv")


def test_numbers_in_another_unit_than_said(tmp_path: Path) -> None:
    table = field()
    table["parallax"] = table["parallax"].value * 1000  # microarcseconds under the label mas
    table["parallax"].unit = "mas"
    with pytest.raises(
        InputError, match=r"not 25 stars of the sky have more than 300: state their unit.*=uas"
    ):
        whole(written(table, tmp_path / "f.fits"))


@pytest.mark.parametrize(
    ("name", "unit"), [("parallax", "arcsec"), ("pmra", "arcsec/yr"), ("pmdec", "arcsec/yr")]
)
def test_values_that_scatter_less_than_their_errors(tmp_path: Path, name: str, unit: str) -> None:
    """Values in arcsec beside errors in mas; with the units that the message names, they are what was measured."""
    frame = field().to_pandas()
    frame[name] /= 1000
    frame.to_parquet(tmp_path / "f.parquet")
    with pytest.raises(
        InputError, match=rf"'{name}' scatters by 0.00.* another unit.*units\.{name}={unit} "
    ) as told:
        whole(tmp_path / "f.parquet")
    units = dict(re.findall(r"prepare\.units\.(\w+)=(\S+)", str(told.value)))
    column = f"{name}_mas" + ("_yr" if name != "parallax" else "")
    np.testing.assert_allclose(whole(tmp_path / "f.parquet", units=units)[column], field()[name], rtol=1e-12)


def test_impossible_correlations(tmp_path: Path) -> None:
    table = field()
    for name in ("ra_error", "dec_error"):
        table[name] = np.full(len(table), 0.1)
    for name in CORRELATIONS.values():
        table[name] = np.zeros(len(table))
    table["ra_dec_corr"][1] = 1.5
    table["pmra_pmdec_corr"][2] = -1.01
    table["ra_dec_corr"][3] = table["ra_pmra_corr"][3] = 0.9
    table["dec_pmra_corr"][3] = -0.9  # each within −1 to 1, and not together
    table["ra_dec_corr"][4] = 0.999
    table["dec_error"][5], table["ra_error"][6] = np.inf, -0.1
    assert whole(written(table, tmp_path / "f.fits"))["status"][:7].tolist() == [
        "",
        "ra_dec_corr is outside -1 to 1",
        "pmra_pmdec_corr is outside -1 to 1",
        "the correlations are no covariance",
        "",
        "dec_error_mas is infinite",
        "ra_error_mas is zero or negative",
    ]


def test_positive_definite_is_what_the_eigenvalues_say() -> None:
    random = np.random.default_rng(0)
    rho = np.eye(5) + np.triu(random.uniform(-0.7, 0.7, (2000, 5, 5)), 1)
    rho = rho + rho.transpose(0, 2, 1) - np.eye(5)
    lowest = np.linalg.eigvalsh(rho)[:, 0]
    assert 0.1 < (lowest > 0).mean() < 0.9
    clear = np.abs(lowest) > 1e-3
    np.testing.assert_array_equal(positive_definite(rho)[clear], (lowest > 0)[clear])


# ---- size ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "fits", "parquet"])
def test_a_cone_cut_block_by_block_is_the_cone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    monkeypatch.setattr(tables, "_BLOCK_ROWS", 90)
    monkeypatch.setattr(tables, "_BLOCK_BYTES", 1 << 14)
    table = field(2000)
    path = written(table, tmp_path / f"f.{ending}")
    assert len(list(read_catalogue(path))) > 10
    chosen = Prepare(cut_input=True, position="0.2 -30.1", radius_deg=0.5)
    data = prepare(Stars(prepare=chosen), {}, path)
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    away = SkyCoord(table["ra"], table["dec"]).separation(SkyCoord(0.2 * u.deg, -30.1 * u.deg)).deg
    assert sorted(data["source_id"].values) == sorted(table["source_id"][away <= 0.5])
    provenance = json.loads(data.attrs["provenance"])
    assert provenance["not in the field"] == {"outside the cone": int((away > 0.5).sum())}


def test_more_stars_than_can_be_prepared(tmp_path: Path) -> None:
    path = written(field(), tmp_path / "f.fits")
    with pytest.raises(InputError, match=r"prepare.maximum_stars = 100, .*GB.*prepare.cut_input=true"):
        prepare(Stars(prepare=Prepare(maximum_stars=100)), {}, path)
    data = prepare(Stars(prepare=Prepare(maximum_stars=100, magnitude_max=15)), {}, path)
    assert data.sizes["sample"] == (field()["phot_g_mean_mag"] <= 15).sum()
    provenance = json.loads(data.attrs["provenance"])
    assert provenance["quality cuts"]["magnitude"] == "<= 15"
    assert provenance["not in the field"] == {
        "fainter than the limit, or without a magnitude": 120 - data.sizes["sample"]
    }
    table = field()
    table.remove_column("phot_g_mean_mag")
    path = written(table, tmp_path / "g.fits")
    with pytest.raises(InputError, match="has no magnitudes"):
        prepare(Stars(prepare=Prepare(magnitude_max=15)), {}, path)


@pytest.mark.slow
def test_a_file_of_ten_million_rows(tmp_path: Path) -> None:
    """A cone from a Parquet file of 10 million rows, within 600 MB of memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    random, count = np.random.default_rng(0), 1_000_000
    with pq.ParquetWriter(tmp_path / "f.parquet", pa.Table.from_pandas(field().to_pandas()).schema) as writer:
        for part in range(10):
            frame = field(count, part).to_pandas()
            frame["source_id"] += part * count
            frame["dec"] = np.degrees(np.arcsin(random.uniform(-1, 1, count)))
            frame["ra"] = random.uniform(0, 360, count)
            writer.write_table(pa.Table.from_pandas(frame))
    script = (
        "import sys; from pathlib import Path\n"
        "from sciencevae.builtin.stars.dataset import prepare\n"
        "from sciencevae.builtin.stars.settings import Stars\n"
        "cone = dict(cut_input=True, position='56.7 24.1', radius_deg=3)\n"
        "data = prepare(Stars.model_validate({'prepare': cone}), {}, Path(sys.argv[1]))\n"
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        # not ru_maxrss, which a child has from its parent
        "print(data.sizes['sample'], peak.split()[1])"
    )
    told = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "f.parquet")],
        capture_output=True,
        text=True,
        check=True,
    )
    stars, kilobytes = map(int, told.stdout.split())
    assert stars == pytest.approx(1e7 * (1 - np.cos(np.radians(3))) / 2, rel=0.05)
    assert kilobytes < 600_000
