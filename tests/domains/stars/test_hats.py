"""A small HATS catalogue, with clusters on the borders of its partitions, read back through LSDB."""

from __future__ import annotations

import sys
from pathlib import Path

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from pages import python_blocks, run_blocks
from sciencevae.builtin.stars.dataset import TooFewStars
from sciencevae.builtin.stars.hats import open_hats, over_partitions, partitions
from sciencevae.builtin.stars.simulate import Simulation, simulate

from sciencevae.errors import InputError

lsdb = pytest.importorskip("lsdb", reason="the extra hats is not installed")

MARGIN_DEG = 0.5
#: RA, Dec and proper motion in RA: well inside a partition, near a border, on a corner, over RA 0
CLUSTERS = ((2.0, 1.2, 10.0), (0.9, 0.9, 20.0), (0.0, 0.0, 30.0), (0.0, 3.1, 40.0))
SIZE = 40


def sky() -> pd.DataFrame:
    """Field stars at rest around RA 0, and the clusters, 0.1° wide."""
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(-4, 4, 1500), rng.uniform(-4, 4, 1500)
    motion = rng.normal(0, 1, 1500)
    for centre_ra, centre_dec, pmra in CLUSTERS:
        ra = np.append(ra, centre_ra + rng.normal(0, 0.05, SIZE).clip(-0.15, 0.15))
        dec = np.append(dec, centre_dec + rng.normal(0, 0.05, SIZE).clip(-0.15, 0.15))
        motion = np.append(motion, np.full(SIZE, pmra))
    number = np.arange(len(ra))
    return pd.DataFrame(
        {
            "source_id": rng.permutation(number) + 4_000_000_000_000_000_001,  # no float holds it
            "ra": ra % 360,
            "dec": dec,
            "pmra": motion,
            "parallax": np.where(number % 7 == 0, np.nan, 1.0),
            "secret": "not of interest",
        }
    )


@pytest.fixture(scope="module")
def stars() -> pd.DataFrame:
    return sky()


@pytest.fixture(scope="module")
def path(stars: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = lsdb.from_dataframe(
        stars, lowest_order=4, highest_order=5, partition_rows=150, margin_threshold=3600 * MARGIN_DEG
    )
    folder = tmp_path_factory.mktemp("hats") / "sky"
    made.write_catalog(folder, catalog_name="sky", progress_bar=False)
    return folder


def find(field: pd.DataFrame) -> pd.DataFrame:
    """Stars that move like a cluster, if there are ten."""
    found = []
    for number, (_, _, pmra) in enumerate(CLUSTERS):
        members = field[(field["pmra"] - pmra).abs() < 1]
        if len(members) >= 10:
            found.append(
                pd.DataFrame({"source_id": members["source_id"], "cluster": f"c{number}", "probability": 0.9})
            )
    nothing = pd.DataFrame({"source_id": np.empty(0, np.int64), "cluster": [], "probability": []})
    return pd.concat([nothing.astype({"cluster": "str"}), *found]) if found else nothing


def test_every_star_is_in_one_partition_with_all_its_neighbours(path: Path, stars: pd.DataFrame) -> None:
    found = list(partitions(open_hats(path)))
    assert len(found) > 8
    assert len({part.order for part in found}) == 2  # pixels of two sizes
    own = pd.concat(part.own for part in found)
    assert sorted(own["source_id"]) == sorted(stars["source_id"])
    truth, back = (frame.set_index("source_id").sort_index() for frame in (stars, own))
    pd.testing.assert_frame_equal(
        truth[["ra", "dec", "pmra", "parallax"]], back[["ra", "dec", "pmra", "parallax"]]
    )
    assert "secret" not in own
    assert own.dtypes.map(str).to_dict() == {
        "source_id": "int64", **dict.fromkeys(("ra", "dec", "pmra", "parallax"), "float64")
    }  # fmt: skip
    everywhere = SkyCoord(stars["ra"].to_numpy() * u.deg, stars["dec"].to_numpy() * u.deg)
    for part in found:
        assert not set(part.own["source_id"]) & set(part.margin["source_id"])
        here = SkyCoord(part.own["ra"].to_numpy() * u.deg, part.own["dec"].to_numpy() * u.deg)
        _, away, _ = everywhere.match_to_catalog_sky(here)
        neighbours = stars["source_id"][away.deg < MARGIN_DEG]
        assert set(neighbours) <= set(part.own["source_id"]) | set(part.margin["source_id"])


def test_partitions_are_read_when_their_turn_comes(path: Path) -> None:
    catalogue = open_hats(path)
    first, *_, last = catalogue.get_ordered_healpix_pixels()
    (file,) = path.glob(f"sky/dataset/Norder={last.order}/Dir=*/Npix={last.pixel}.parquet")
    aside = file.rename(file.with_name("aside"))
    try:
        coming = partitions(catalogue)
        assert next(coming)[:2] == (first.order, first.pixel)
        with pytest.raises(FileNotFoundError):
            list(coming)
    finally:
        aside.rename(file)


def test_a_cone(path: Path, stars: pd.DataFrame) -> None:
    found = pd.concat(part.own for part in partitions(open_hats(path, (359.5, 1.0), 1.5)))
    place = SkyCoord(stars["ra"].to_numpy() * u.deg, stars["dec"].to_numpy() * u.deg)
    inside = place.separation(SkyCoord(359.5 * u.deg, 1.0 * u.deg)).deg <= 1.5
    assert sorted(found["source_id"]) == sorted(stars["source_id"][inside])


def test_a_cluster_over_a_border_is_found_once_and_whole(path: Path, stars: pd.DataFrame) -> None:
    catalogue = open_hats(path)
    seen = [name for part in partitions(catalogue) for name in find(pd.concat(part[2:]))["cluster"].unique()]
    assert {seen.count("c1"), seen.count("c2")} - {1}  # else nothing is tested
    members = over_partitions(catalogue, find)
    by_name = members.groupby("cluster")
    assert sorted(name.split(" ")[1] for name in by_name.groups) == ["c0", "c1", "c2", "c3"]
    motion = stars.set_index("source_id")["pmra"]
    for name, cluster in by_name:
        _, _, pmra = CLUSTERS[int(name[-1])]
        assert sorted(cluster["source_id"]) == sorted(motion.index[motion == pmra])
    owner = {name.split(" ")[1]: name.split(" ")[0] for name in by_name.groups}
    place = stars.set_index("source_id")
    for part in partitions(catalogue):  # the well-placed one belongs to the partition that holds its stars
        if owner["c0"] == f"{part.order}/{part.pixel}":
            own = place.loc[part.own["source_id"], "pmra"]
            assert (own == CLUSTERS[0][2]).sum() > SIZE / 2
            break
    else:
        pytest.fail("no such partition")


def test_a_cluster_that_each_side_leaves_to_the_other_is_found_once_too(path: Path) -> None:
    def modest(field: pd.DataFrame) -> pd.DataFrame:
        """Members nearer to the middle of the field get almost no weight: the centre moves out of it."""
        found = find(field).merge(field, on="source_id")
        ra = (field["ra"] + 180) % 360
        middle = np.array([(ra.min() + ra.max()) / 2, (field["dec"].min() + field["dec"].max()) / 2])
        away = np.hypot((found["ra"] + 180) % 360 - middle[0], found["dec"] - middle[1])
        median = away.groupby(found["cluster"]).transform("median")
        return found.assign(probability=np.where(away > median, 1.0, 0.4))[
            ["source_id", "cluster", "probability"]
        ]

    members = over_partitions(open_hats(path), modest)
    assert sorted(name.split(" ")[1] for name in members["cluster"].unique()) == ["c0", "c1", "c2", "c3"]


def test_a_partition_of_too_few_stars_has_no_cluster(path: Path) -> None:
    def careful(field: pd.DataFrame) -> pd.DataFrame:
        found = find(field)
        if not len(found):
            raise TooFewStars("no ten stars of one motion")
        return found

    catalogue = open_hats(path)
    pd.testing.assert_frame_equal(over_partitions(catalogue, careful), over_partitions(catalogue, find))


def test_where_there_is_no_cluster_the_answer_has_no_rows(path: Path) -> None:
    def nothing(field: pd.DataFrame) -> pd.DataFrame:
        return find(field)[:0]

    members = over_partitions(open_hats(path), nothing)
    assert len(members) == 0
    assert members.dtypes.map(str).to_dict() == {
        "source_id": "int64",
        "cluster": "str",
        "probability": "float64",
    }


def test_two_clusters_in_one_field_stay_two(path: Path) -> None:
    def twice(field: pd.DataFrame) -> pd.DataFrame:
        return pd.concat([find(field), find(field).assign(cluster=lambda t: t["cluster"] + "b")])

    members = over_partitions(open_hats(path, (2.0, 1.2), 0.2), twice)
    assert sorted(name.split(" ")[1] for name in members["cluster"].unique()) == ["c0", "c0b"]


def test_the_readme_finds_the_cluster_in_a_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lines, word for word, on a simulated sky around Praesepe."""
    text = (Path(__file__).parents[3] / "domains" / "stars" / "README.md").read_text(encoding="utf-8")
    (code,) = [block for block in python_blocks(text) if "open_hats" in block]
    truth = simulate(Simulation(ra=130.10, dec=19.67, radius_deg=3.1), seed=1)
    made = lsdb.from_dataframe(
        truth, lowest_order=4, highest_order=5, partition_rows=600, margin_threshold=1800
    )
    made.write_catalog(tmp_path / "GAIA_IN_HATS", catalog_name="sky", progress_bar=False)
    monkeypatch.chdir(tmp_path)
    names = run_blocks([code])
    place = SkyCoord(truth["ra"].to_numpy() * u.deg, truth["dec"].to_numpy() * u.deg)
    inside = place.separation(SkyCoord(130.10 * u.deg, 19.67 * u.deg)).deg <= 3
    assert sum(len(part.own) for part in partitions(names["sky"])) == inside.sum()
    members = names["members"]
    assert members["cluster"].nunique() == 1
    found = set(members["source_id"][members["probability"] > 0.5])
    true = set(truth["source_id"][truth["true_cluster"] == 1])
    assert len(found & true) > 0.9 * len(found | true)


def test_what_can_be_wrong(
    path: Path, stars: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"a HATS catalogue is a folder with hats\.properties"):
        open_hats(tmp_path / "nothing")
    with pytest.raises(InputError, match="a cone has a position and a radius_deg"):
        open_hats(path, (180.0, 0.0))
    with pytest.raises(InputError, match="no coverage"):
        open_hats(path, (180.0, 0.0), 1.0)
    with pytest.raises(
        InputError, match=r"sky/sky has no margin, and clusters do not end where its \d+ partitions do"
    ):
        open_hats(path / "sky")
    renamed = stars[:50].rename(columns={"source_id": "sourceid"})
    lsdb.from_dataframe(renamed, margin_threshold=None).write_catalog(
        tmp_path / "n", catalog_name="n", as_collection=False, progress_bar=False
    )
    with pytest.raises(InputError, match=r"no column of identifiers \(source_id, .*\)"):
        open_hats(tmp_path / "n")
    monkeypatch.setitem(sys.modules, "lsdb", None)
    with pytest.raises(InputError, match=r"pip install 'sciencevae\[hats\]'"):
        open_hats(path)
