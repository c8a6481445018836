"""Readers of measured scans: what they take, and what they say of what they do not."""

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sciencevae.builtin.diffraction.axes import ANODES, d_from_two_theta, q_from_two_theta
from sciencevae.builtin.diffraction.scans import Scan, bin_counts, read_scan

from sciencevae.errors import InputError

ANGLES = np.round(np.arange(10, 12, 0.02), 4)
COUNTS = np.random.default_rng(0).poisson(200, len(ANGLES))


def rows(separator="  ", counts=COUNTS, angles=ANGLES):
    return [f"{a:.2f}{separator}{c}" for a, c in zip(angles, counts, strict=True)]


def scan_of(tmp_path, lines, name="scan.xy", **given):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_scan(path, **given)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a.xy", rows()),
        ("a.xye", [f"{row}  14.1" for row in rows()]),
        ("a.dat", ["Sample 12", "2theta  counts", *rows("\t")]),
        ("a.csv", ["Angle,Intensity", *rows(",")]),
        ("a.csv", ["\ufeffWinkel;Zähler", *(r.replace(".", ",") for r in rows(";"))]),
        ("a.txt", ["# comment", "", *(r.replace(".", ",") for r in rows(" "))]),
        ("a.xy", ["'date 2020", *rows(), "# end"]),
    ],
)
def test_columns_under_any_header(tmp_path, name, lines):
    scan = scan_of(tmp_path, lines, name)
    assert np.allclose(scan.two_theta, ANGLES)
    assert np.array_equal(scan.counts, COUNTS)
    assert scan.name == "a"


def test_what_is_mended_is_said(tmp_path):
    falling = scan_of(tmp_path, rows()[::-1])
    assert np.allclose(falling.two_theta, ANGLES)
    assert falling.notes == ("2θ was falling: turned round",)
    normalised = scan_of(tmp_path, rows(counts=COUNTS / COUNTS.max() * 100))
    assert np.array_equal(normalised.counts, COUNTS)
    assert "multiples" in normalised.notes[0]
    together = rows("")  # 10.00200: fixed width
    apart = scan_of(tmp_path, [*rows()[:50], *together[50:60], *rows()[60:]])
    assert np.array_equal(apart.counts, COUNTS)
    assert "10 rows" in apart.notes[0]


def lines_with(number, text):
    lines = rows()
    lines[number - 1] = text
    return lines


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "holds no numbers"),
        (["only words", "and more"], "holds no numbers"),
        ([str(c) for c in COUNTS], "line 1: one column"),
        (rows()[:1], "1 point"),
        (lines_with(7, "10.12 nan"), "line 7: the intensity is nan; delete the point"),
        (lines_with(7, "nan 100"), "line 7: the axis is nan"),
        (lines_with(7, "10.12 -3"), r"line 7: the intensity is -3.*background subtracted.*source.brightest"),
        (lines_with(7, "10.10 103"), r"line 7: 2θ is repeated \(10.1 after 10.1\).*each angle once"),
        (lines_with(7, "9.00 103"), "line 7: 2θ is not rising"),
        (
            lines_with(len(ANGLES), "11.9"),
            f"line {len(ANGLES)}: .*ends in the middle of a row: fetch it again",
        ),
        (lines_with(40, "10"), "line 40: '10' is one number, and the others are two"),
        (lines_with(40, "second scan"), "line 40: 'second scan' is no row of numbers"),
        (rows(angles=ANGLES + 200), "degrees, below 180"),
        (rows(counts=np.random.default_rng(1).normal(50, 5, len(ANGLES))), "no counts.*seconds a step"),
    ],
)
def test_bad_scans_are_refused_with_line_and_remedy(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        scan_of(tmp_path, lines)


@pytest.mark.parametrize(
    ("name", "message"),
    [("a.raw", "PowDLL"), ("a.brml", "PowDLL"), ("a.png", "one of .xy"), ("a.xy", "cannot be read")],
)
def test_files_that_are_no_scans(tmp_path, name, message):
    if name != "a.xy":
        (tmp_path / name).write_bytes(b"RAW4.00\x00")
    with pytest.raises(InputError, match=message):
        read_scan(tmp_path / name)


def test_other_intensities_become_counts_only_when_asked(tmp_path):
    values = np.random.default_rng(1).normal(0, 5, len(ANGLES))
    scan = scan_of(tmp_path, rows(counts=values), brightest=1000)
    assert scan.counts.min() == 0
    assert scan.counts.max() == 1000
    assert np.corrcoef(scan.counts, values)[0, 1] > 0.999
    assert "no counts" in scan.notes[0]


def test_axes_of_d_and_q(tmp_path):
    wavelength = ANODES["Cu"].mean
    for axis, values in (
        ("d", d_from_two_theta(ANGLES, wavelength)),
        ("q", q_from_two_theta(ANGLES, wavelength)),
    ):
        lines = [f"{v:.8f} {c}" for v, c in zip(values, COUNTS, strict=True)]
        scan = scan_of(tmp_path, lines, axis=axis, wavelength=wavelength)
        assert np.allclose(scan.two_theta, ANGLES, atol=1e-4)
        assert np.array_equal(scan.counts, COUNTS)
    with pytest.raises(InputError, match="with a wavelength"):
        scan_of(tmp_path, rows(), axis="d")


RAS = [
    "*RAS_DATA_START", "*RAS_HEADER_START", '*HW_XG_TARGET_NAME "Co"', '*MEAS_SCAN_UNIT_X "deg"', "*RAS_HEADER_END",
    "*RAS_INT_START", *(f"{row} 1.0000" for row in rows(" ")), "*RAS_INT_END", "*RAS_DATA_END",
]  # fmt: skip


def test_ras(tmp_path):
    scan = scan_of(tmp_path, RAS, "a.ras")
    assert scan.anode == "Co"
    assert np.array_equal(scan.counts, COUNTS)
    attenuated = [line.replace(" 1.0000", " 2.0000") for line in RAS]
    assert np.array_equal(scan_of(tmp_path, attenuated, "a.ras").counts, 2 * COUNTS)
    for lines, message in (
        (RAS[:20], "cut off"),
        (RAS[:5], "no .ras file, or was cut off"),
        ([*RAS, *RAS], "2 scans"),
        ([line.replace('"deg"', '"mm"') for line in RAS], "in 'mm', not in degrees"),
        ([*RAS[:10], "10.1 x 1", *RAS[10:]], "line 11"),
    ):
        with pytest.raises(InputError, match=message):
            scan_of(tmp_path, lines, "a.ras")


def nexus(path, unit="deg", shape=None, attributes=True):
    with h5py.File(path, "w") as file:
        entry = file.create_group("entry")
        file.attrs["default"] = "entry"
        entry.create_dataset("junk", data=np.arange(3))
        data = entry.create_group("data")
        data.attrs["NX_class"] = "NXdata"
        if attributes:
            data.attrs["signal"] = "counts"
            data.attrs["axes"] = np.array(["two_theta"], dtype="S9")
        data["counts"] = COUNTS if shape is None else np.zeros(shape)
        data["two_theta"] = np.radians(ANGLES) if unit == "rad" else ANGLES
        data["two_theta"].attrs["units"] = unit
    return path


def test_nexus(tmp_path):
    for unit in ("deg", "rad", "degrees"):
        scan = read_scan(nexus(tmp_path / "a.nxs", unit))
        assert np.allclose(scan.two_theta, ANGLES)
        assert np.array_equal(scan.counts, COUNTS)
    for changed, message in (
        ({"unit": "angstrom"}, "in 'angstrom'; a scan is over 2θ"),
        ({"attributes": False}, "NXdata with a signal"),
        ({"shape": (3, 4)}, "one value a point|has one axis"),
    ):
        with pytest.raises(InputError, match=message):
            read_scan(nexus(tmp_path / "a.h5", **changed))
    (tmp_path / "bad.h5").write_bytes(b"not hdf5")
    with pytest.raises(InputError, match="cannot be read"):
        read_scan(tmp_path / "bad.h5")


@settings(deadline=None, max_examples=40)
@given(st.floats(0.003, 0.2), st.integers(20, 200))
def test_bins_keep_every_count(step, bins):
    """Whole coverage: the sum stays, but for rounding; of a flat scan every bin has its share."""
    angles = np.arange(9.0, 81.0, step)
    counts = np.full(len(angles), 1000.0)
    edges = np.linspace(10, 80, bins + 1)
    made = bin_counts(Scan("flat", angles, counts), edges)
    assert np.allclose(made, 1000 * (70 / bins) / step, atol=1)
    beyond = bin_counts(Scan("short", angles[angles < 45], counts[angles < 45]), edges)
    assert np.isnan(beyond[edges[1:] > 45 + step]).all()
    assert np.isfinite(beyond[edges[1:] < 45 - 2 * step]).all()


def test_a_scan_beside_the_bins_is_refused():
    with pytest.raises(InputError, match=r"covers 10–11.98°.*nothing in common.*radians"):
        bin_counts(Scan("s", ANGLES, COUNTS), np.linspace(20, 30, 11))
