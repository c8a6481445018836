"""Reading catalogues: Hipparcos' fixed columns and the user's own files, with what can be wrong in them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table
from sciencevae.builtin.stars.columns import read_catalogue
from sciencevae.builtin.stars.dataset import TooFewStars, cone, field_area, prepare, read
from sciencevae.builtin.stars.hipparcos import read_hip2
from sciencevae.builtin.stars.settings import Prepare, Stars

from sciencevae.errors import InputError

from .simulated import Catalogue, simulate, write_hip2

# the line of hip2.dat for HIP 1
HIP_1 = (
    "     1   5 0 1  0.0000159148  0.0190068680    4.55    -4.55    -1.19   1.29   0.66   1.33   1.25   0.75  90"
    "  0.91  0    0.0    0  9.2043 0.0020 0.017 0  0.482 0.025  0.550   1.19  -0.71   1.00  -0.02   0.02   1.00"
    "   0.45  -0.05   0.03   1.09  -0.41   0.09   0.08  -0.60   1.00"
)


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return simulate(members=60, field=240)


@pytest.fixture(scope="module")
def hip2(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hip2(catalogue, tmp_path_factory.mktemp("stars") / "hip2.dat")


def gaia_table(catalogue: Catalogue) -> Table:
    """The catalogue under the Gaia archive's names, without units."""
    return Table(
        {
            "source_id": catalogue.identifiers + 4_000_000_000_000_000_001,
            "ra": catalogue.ra,
            "dec": catalogue.dec,
            "parallax": catalogue.y[:, 0],
            "pmra": catalogue.y[:, 1],
            "pmdec": catalogue.y[:, 2],
            "parallax_error": catalogue.errors[:, 0],
            "pmra_error": catalogue.errors[:, 1],
            "pmdec_error": catalogue.errors[:, 2],
            "parallax_pmra_corr": np.full(len(catalogue.ra), 0.25),
            "phot_g_mean_mag": catalogue.magnitude,
            "bp_rp": catalogue.colour,
        }
    )


def one_block(path: Path, **options: dict[str, str]) -> pd.DataFrame:
    (block,) = read_catalogue(path, **options)
    return block


# ---- Hipparcos ------------------------------------------------------------------------------------------


def test_hip2_units_missing_colour_and_correlations(tmp_path: Path) -> None:
    path = tmp_path / "hip2.dat"
    without = HIP_1.replace(" 0.482 0.025  0.550", " 0.000 0.000  0.000").replace("     1   5", "    53   5")
    path.write_text(f"{HIP_1}\n{without}\n")
    frame = read_hip2(path)
    assert frame["source_id"].tolist() == [1, 53]
    assert frame.loc[0, "ra_deg"] == pytest.approx(np.degrees(0.0000159148))
    assert frame.loc[0, "dec_deg"] == pytest.approx(1.0890133, abs=1e-6)
    assert frame.loc[0, "parallax_mas"] == 4.55
    assert frame.loc[0, "magnitude"] == 9.2043
    assert frame["colour"].isna().tolist() == [False, True]
    # HIP 1: the last two rows of U alone give the correlation of the proper motions
    diagonal, off = 1.09 / 1.25, -0.60
    covariance = np.linalg.inv(np.array([[diagonal, off], [0, 1 / 0.75]]))
    covariance = covariance @ covariance.T
    expected = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert frame.loc[0, "pmra_pmdec_corr"] == pytest.approx(expected, abs=1e-12)


def test_hip2_goes_through_prepare(catalogue: Catalogue, hip2: Path) -> None:
    data = prepare(Stars(prepare=Prepare(radius_deg=15.0)), {"hip2.dat": hip2}, None)
    assert data["x"].sizes["feature"] == 8
    rows = data["source_id"].values - 1
    np.testing.assert_allclose(data["ra"].values, catalogue.ra[rows], atol=1e-7)
    np.testing.assert_allclose(data["x"].values[:, 3:6], catalogue.y[rows], atol=0.0051)
    np.testing.assert_allclose(data["x"].values[:, 6], catalogue.magnitude[rows], atol=1e-4)
    np.testing.assert_allclose(
        np.sqrt(np.einsum("nii->ni", data["noise"].values[:, 3:6, 3:6])), catalogue.errors[rows], atol=0.0051
    )
    assert np.linalg.eigvalsh(data["noise"].values).min() > 0
    provenance = json.loads(data.attrs["provenance"])
    assert provenance["epoch"] == "J1991.25"
    assert provenance["area_deg2"] == pytest.approx(field_area(15.0))
    assert len(set(data["group"].values)) == data.sizes["sample"]


def test_damaged_hip2_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "hip2.dat"
    path.write_text(f"{HIP_1}\n{HIP_1[:100]}\n")
    with pytest.raises(InputError, match=r"line 2 has not 41 numbers"):
        read_hip2(path)


def test_fewer_than_50_stars(hip2: Path) -> None:
    with pytest.raises(TooFewStars, match=r"usable stars within 1° .*minimum_stars = 50 .*widen"):
        prepare(Stars(prepare=Prepare(radius_deg=1.0)), {"hip2.dat": hip2}, None)


@pytest.mark.parametrize(
    ("position", "radius", "message"),
    [
        ("hyads", None, "did you mean 'hyades'"),
        ("400 20", 5.0, "RA is 0 to 360"),
        ("80 20", None, "has no radius"),
    ],
)
def test_position(position: str, radius: float | None, message: str) -> None:
    with pytest.raises(InputError, match=message):
        cone(Prepare(position=position, radius_deg=radius))


# ---- the user's own files --------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "ecsv", "fits", "vot", "parquet"])
def test_every_format_gives_the_same(catalogue: Catalogue, tmp_path: Path, ending: str) -> None:
    path, table = tmp_path / f"field.{ending}", gaia_table(catalogue)
    if ending == "parquet":
        table.to_pandas().to_parquet(path)
    else:
        table.write(
            path, format={"vot": "votable", "csv": "ascii.csv", "ecsv": "ascii.ecsv"}.get(ending, ending)
        )
    block = one_block(path)
    assert block["source_id"].dtype == np.int64
    assert block["source_id"].tolist() == (catalogue.identifiers + 4_000_000_000_000_000_001).tolist()
    np.testing.assert_allclose(block["pmra_mas_yr"], catalogue.y[:, 1], rtol=1e-12)
    assert (block["parallax_pmra_corr"] == 0.25).all()
    assert (block["pmra_pmdec_corr"] == 0).all()
    assert (block["status"] == "").all()


def test_names_and_units_of_cds(catalogue: Catalogue, tmp_path: Path) -> None:
    """VizieR's names, positions in radians and parallaxes in arcsec, as the file's own units say."""
    table = Table(
        {
            "HIP": catalogue.identifiers,
            "RArad": np.radians(catalogue.ra),
            "DErad": np.radians(catalogue.dec),
            "Plx": catalogue.y[:, 0] / 1000,
            "pmRA": catalogue.y[:, 1],
            "pmDE": catalogue.y[:, 2],
            "e_Plx": catalogue.errors[:, 0] / 1000,
            "e_pmRA": catalogue.errors[:, 1],
            "e_pmDE": catalogue.errors[:, 2],
            "Hpmag": catalogue.magnitude,
            "B-V": catalogue.colour,
        },
        units={"RArad": "rad", "DErad": "rad", "Plx": "arcsec", "e_Plx": "arcsec", "pmRA": "mas/yr"},
    )
    table.write(tmp_path / "hip.ecsv", format="ascii.ecsv")
    block = one_block(tmp_path / "hip.ecsv")
    np.testing.assert_allclose(block["ra_deg"], catalogue.ra)
    np.testing.assert_allclose(block["parallax_mas"], catalogue.y[:, 0])
    np.testing.assert_allclose(block["parallax_error_mas"], catalogue.errors[:, 0])


def changed(catalogue: Catalogue, tmp_path: Path, **columns: object) -> Path:
    frame = gaia_table(catalogue).to_pandas().assign(**columns)
    frame.to_parquet(tmp_path / "field.parquet")
    return tmp_path / "field.parquet"


def test_missing_column_suggests_the_nearest(catalogue: Catalogue, tmp_path: Path) -> None:
    table = gaia_table(catalogue)
    table.rename_column("parallax", "paralax")
    table.write(tmp_path / "field.csv")
    with pytest.raises(
        InputError, match=r"lacks a column parallax_mas .*did you mean 'paralax'.*prepare.columns"
    ):
        one_block(tmp_path / "field.csv")
    assert len(one_block(tmp_path / "field.csv", names={"parallax_mas": "paralax"})) == len(table)


def test_a_missing_column_is_not_one_that_is_something_else(catalogue: Catalogue, tmp_path: Path) -> None:
    """Not ra_error for pmra_error."""
    table = gaia_table(catalogue)
    table["ra_error"] = table["pmra_error"]
    table.remove_column("pmra_error")
    table.write(tmp_path / "field.csv")
    with pytest.raises(
        InputError, match=r"lacks a column pmra_error_mas_yr .*pmra_err\); else --set .*=COLUMN$"
    ):
        one_block(tmp_path / "field.csv")


def test_wrong_unit(catalogue: Catalogue, tmp_path: Path) -> None:
    table = gaia_table(catalogue)
    table["parallax"].unit = "kg"
    table.write(tmp_path / "field.ecsv")
    with pytest.raises(InputError, match=r"'parallax' is in 'kg', which is no unit like 'mas'"):
        one_block(tmp_path / "field.ecsv")


def test_radians_and_arcseconds_without_a_unit(catalogue: Catalogue, tmp_path: Path) -> None:
    path = changed(catalogue, tmp_path, ra=np.radians(catalogue.ra), dec=np.radians(catalogue.dec))
    with pytest.raises(InputError, match="look like radians"):
        one_block(path)
    np.testing.assert_allclose(one_block(path, units={"ra": "rad", "dec": "rad"})["ra_deg"], catalogue.ra)
    path = changed(
        catalogue, tmp_path, parallax=catalogue.y[:, 0] / 1000, parallax_error=catalogue.errors[:, 0] / 1000
    )
    with pytest.raises(InputError, match="state the unit"):
        one_block(path)


def test_bad_rows_stay_with_their_reason(catalogue: Catalogue, tmp_path: Path) -> None:
    frame = gaia_table(catalogue).to_pandas()
    frame.loc[0, "ra"] = 361.0
    frame.loc[1, "dec"] = -91.0
    frame.loc[2, "parallax_error"] = 0.0
    frame.loc[3, "pmra_error"] = -1.0
    frame.loc[4, "pmdec_error"] = np.inf
    frame.loc[5, "ra"] = np.nan
    frame.loc[7, "source_id"] = frame.loc[6, "source_id"]
    frame.loc[8, ["parallax", "parallax_error"]] = np.nan
    path = tmp_path / "field.parquet"
    frame.to_parquet(path)
    (data,) = read(path, Stars())
    status = data["status"].values.tolist()
    assert status[:9] == [
        "right ascension outside 0 to 360 degrees",
        "declination outside -90 to 90 degrees",
        "parallax_error_mas is zero or negative",
        "pmra_error_mas_yr is zero or negative",
        "pmdec_error_mas_yr is infinite",
        "no position",
        "ok",
        "source_id appears before",
        "ok",
    ]
    assert np.isnan(data["x"].values[[0, 1, 2, 3, 4, 5, 7]]).all()
    assert np.isfinite(data["x"].values[6]).all()
    assert np.isnan(data["x"].values[8]).tolist() == [False] * 3 + [True] + [False] * 4
    assert data["row"].values.tolist() == list(range(len(frame)))
    assert data["id"].dtype == np.int64
    # and are left out, and counted, where a field is prepared
    prepared = prepare(Stars(), {}, path)
    assert prepared.sizes["sample"] == len(frame) - 8
    counted = json.loads(prepared.attrs["provenance"])
    assert counted["left out in the whole catalogue"]["no position"] == 1
    assert counted["left out in the cone"]["no parallax or motion"] == 1


def test_text_in_numbers_is_missing(catalogue: Catalogue, tmp_path: Path) -> None:
    text = ["--", *map(str, catalogue.y[1:, 0])]
    block = one_block(changed(catalogue, tmp_path, parallax=text))
    assert np.isnan(block.loc[0, "parallax_mas"])
    assert block.loc[1, "parallax_mas"] == pytest.approx(catalogue.y[1, 0])


def test_a_number_no_star_has_is_a_reason(catalogue: Catalogue, tmp_path: Path) -> None:
    frame = gaia_table(catalogue).to_pandas()
    frame.loc[0, "pmra"] = 1e300
    frame.to_parquet(tmp_path / "field.parquet")
    (data,) = read(tmp_path / "field.parquet", Stars())
    assert data["status"].values[:2].tolist() == ["pmra_mas_yr is beyond 1e+08, which no star has", "ok"]


def test_a_column_that_holds_no_numbers_is_named(catalogue: Catalogue, tmp_path: Path) -> None:
    frame = gaia_table(catalogue).to_pandas()
    frame["parallax"] = [[1.0, 2.0]] * len(frame)
    frame.to_parquet(tmp_path / "field.parquet")
    with pytest.raises(InputError, match="column 'parallax' holds"):
        one_block(tmp_path / "field.parquet")


def test_all_nan(catalogue: Catalogue, tmp_path: Path) -> None:
    path = changed(catalogue, tmp_path, parallax=np.nan)
    with pytest.raises(InputError, match=r"0 usable stars .*no parallax or motion"):
        prepare(Stars(), {}, path)
    path = changed(catalogue, tmp_path, ra=np.nan)
    with pytest.raises(InputError, match=r"no row can be used .300 rows: no position.: mend"):
        prepare(Stars(), {}, path)


def test_identifiers_that_lose_digits(catalogue: Catalogue, tmp_path: Path) -> None:
    path = changed(catalogue, tmp_path, source_id=np.full(300, 4e18))
    with pytest.raises(InputError, match="whole numbers"):
        one_block(path)


def test_unknown_format_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "field.xlsx").write_text("x")
    with pytest.raises(InputError, match=r"\.csv.*\.parquet"):
        one_block(tmp_path / "field.xlsx")
    with pytest.raises(InputError, match="no file"):
        one_block(tmp_path / "nowhere.csv")


def test_field_across_ra_0_and_at_the_pole(tmp_path: Path) -> None:
    """A field that wraps around RA 0 or lies over a pole is one field."""
    random = np.random.default_rng(0)
    drawn = random.normal(10, 1, 100)
    for number, (ra, dec) in enumerate(
        [((random.uniform(-3, 3, 100)) % 360, random.uniform(-3, 3, 100)),
         (random.uniform(0, 360, 100), 90 - random.uniform(0, 3, 100))]
    ):  # fmt: skip
        frame = pd.DataFrame(
            {"source_id": np.arange(100), "ra": ra, "dec": dec, "parallax": drawn, "pmra": drawn, "pmdec": drawn,
             "parallax_error": 1.0, "pmra_error": 1.0, "pmdec_error": 1.0}
        )  # fmt: skip
        path = tmp_path / f"{number}.parquet"
        frame.to_parquet(path)
        assert json.loads(prepare(Stars(), {}, path).attrs["provenance"])["radius_deg"] < 4.6
