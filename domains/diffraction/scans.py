"""Readers of measured powder scans: text columns (.xy .xye .csv .dat .txt), Rigaku .ras, NeXus/HDF5.

Vendors' binary files (.raw, .brml, .xrdml …) are not read: export them as .xy from the vendor's own program, or
convert them with PowDLL.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sciencevae.data.foreign import open_h5, parsing
from sciencevae.errors import InputError

from .axes import check_two_theta, two_theta_from_d, two_theta_from_q

__all__ = ["ENDINGS", "Scan", "bin_counts", "read_scan"]

_TEXT = (".xy", ".xye", ".csv", ".dat", ".txt")
_NEXUS = (".h5", ".hdf5", ".nxs")
ENDINGS: tuple[str, ...] = (*_TEXT, ".ras", *_NEXUS)
_BINARY = (".raw", ".brml", ".xrdml", ".rd", ".sd", ".udf", ".uxd", ".rasx")
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eEdD][-+]?\d+)?$|[-+]?(nan|inf)$", re.IGNORECASE)


@dataclass(frozen=True)
class Scan:
    """One measured pattern.

    two_theta (n,): rising, degrees; counts (n,): whole numbers; anode: of the tube where the file tells; notes:
    what was done to the numbers in the file
    """

    name: str
    two_theta: np.ndarray
    counts: np.ndarray
    anode: str | None = None
    notes: tuple[str, ...] = ()


def read_scan(
    path: Path, axis: str = "2theta", wavelength: float | None = None, brightest: float | None = None
) -> Scan:
    """The scan in a file, checked.

    axis: what its first column is: "2theta" (degrees), "d" (Å) or "q" (Å⁻¹), these two with the ``wavelength``
    (Å) of the angles they are brought to. brightest: counts that the brightest point is given where intensities are
    none (normalised, smoothed, a background subtracted); without it they are refused, their noise not being known.

    A falling axis is turned round; intensities that are whole multiples of one number (normalised counts) become
    counts again; columns of fixed width that ran together are parted; each with a note. Further columns (errors, or
    what is not said) are left alone. Raises InputError, with the line where there is one: unreadable, no numbers,
    one column, angles repeated or out of range, negative or missing counts, intensities that are no counts.
    """
    path = Path(path)
    ending = path.suffix.lower()
    if ending in _BINARY:
        raise InputError(
            f"{path}: {ending} files of vendors are not read; export the scan as .xy (2θ and counts) from the "
            "vendor's program, or convert it with PowDLL"
        )
    if ending not in ENDINGS:
        raise InputError(
            f"{path}: a scan is one of {', '.join(ENDINGS)}, not {ending or 'a file without ending'}"
        )
    try:
        if ending in _NEXUS:
            scan, lines = _nexus(path), None
        else:
            text = path.read_text(encoding="utf-8", errors="replace").splitlines()
            scan, lines = (_ras if ending == ".ras" else _columns)(path, text)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    return _checked(path, scan, lines, axis, wavelength, brightest)


def bin_counts(scan: Scan, edges: np.ndarray) -> np.ndarray:
    """Counts of a scan in other bins, (N,): NaN in those it does not cover whole.

    A point counted at 2θ is spread evenly over the half-steps around it, so no count is lost or made; parts of
    counts are rounded at the end. InputError where scan and bins have nothing in common.
    """
    angles = scan.two_theta
    middle = (angles[1:] + angles[:-1]) / 2
    bounds = np.concatenate([[2 * angles[0] - middle[0]], middle, [2 * angles[-1] - middle[-1]]])
    cumulative = np.concatenate([[0.0], np.cumsum(scan.counts)])
    out = np.diff(np.interp(edges, bounds, cumulative))
    slack = (edges[1] - edges[0]) * 1e-6
    covered = (edges[:-1] >= bounds[0] - slack) & (edges[1:] <= bounds[-1] + slack)
    if not covered.any():
        raise InputError(
            f"scan {scan.name!r} covers {angles[0]:g}–{angles[-1]:g}°, the bins {edges[0]:g}–{edges[-1]:g}°: "
            "nothing in common. Set scan.start and scan.stop; is its axis in radians, or one of d or Q?"
        )
    return np.where(covered, np.round(out), np.nan)


def _checked(
    path: Path,
    scan: Scan,
    lines: np.ndarray | None,
    axis: str,
    wavelength: float | None,
    brightest: float | None,
) -> Scan:
    """A scan with rising angles and whole counts; ``lines``: where each point stands in the file."""

    def place(row: int) -> str:
        return f"{path}, line {lines[row]}" if lines is not None else f"{path}, point {row + 1}"

    x, y, notes = scan.two_theta, scan.counts, scan.notes
    for values, what in ((x, "the axis"), (y, "the intensity")):
        if not np.isfinite(values).all():
            row = int((~np.isfinite(values)).argmax())
            raise InputError(
                f"{place(row)}: {what} is {values[row]:g}; delete the point, or measure it again"
            )
    if axis != "2theta":
        if wavelength is None or axis not in ("d", "q"):
            raise InputError(f"axis is '2theta', 'd' or 'q', the last two with a wavelength; found {axis!r}")
        x = two_theta_from_d(x, wavelength) if axis == "d" else two_theta_from_q(x, wavelength)
        kept = np.isfinite(x)
        x, y, lines = x[kept], y[kept], None if lines is None else lines[kept]
    if len(x) > 1 and (np.diff(x) < 0).all():
        x, y, lines = x[::-1], y[::-1], None if lines is None else lines[::-1]
        if axis != "d":
            notes = (*notes, "2θ was falling: turned round")
    if len(x) > 1 and (np.diff(x) <= 0).any():
        row = int((np.diff(x) <= 0).argmax()) + 1
        kind = "repeated" if x[row] == x[row - 1] else "not rising"
        raise InputError(
            f"{place(row)}: 2θ is {kind} ({x[row]:g} after {x[row - 1]:g}); a file holds one scan, each angle "
            "once: separate the scans, or add their counts"
        )
    check_two_theta(x, str(path))
    counts, note = _whole(y)
    if counts is None and brightest is not None and y.max() > 0:
        low = min(float(y.min()), 0.0)
        counts = np.round((y - low) * (brightest / (y.max() - low)))
        note = (f"intensities are no counts: given {brightest:g} in the brightest point",)
    if counts is None and (y < 0).any():
        row = int((y < 0).argmax())
        raise InputError(
            f"{place(row)}: the intensity is {y[row]:g}; counts are not negative. Was a background subtracted? "
            "Give the counts as they were measured, or set source.brightest"
        )
    if counts is None:
        raise InputError(
            f"{path}: the intensities are no counts, nor multiples of one number (they begin "
            f"{y[:3]}): they were smoothed or rescaled. Give the counts as they were measured (of a rate, times "
            "the seconds a step), or set source.brightest"
        )
    return replace(scan, two_theta=x, counts=counts, notes=(*notes, *note))


def _whole(y: np.ndarray) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Whole counts from intensities, and a note where they were divided by something."""
    if (y < 0).any():
        return None, ()
    if np.allclose(y, np.round(y), atol=1e-3):
        return np.round(y), ()
    levels = np.unique(y[y > 0])
    gap = float(np.min(np.diff(np.concatenate([[0.0], levels]), prepend=math.inf)[1:], initial=math.inf))
    # of steps that are rounded to some digits the mean over all of them is the better one
    unit = float(levels[-1]) / max(round(float(levels[-1]) / gap), 1)
    counts = np.round(y / unit)
    if counts.max() < 20 or np.abs(y - counts * unit).max() > 0.02 * unit:
        return None, ()
    return counts, (f"intensities are multiples of {unit:.6g}: taken as counts times that",)


def _columns(path: Path, text: list[str]) -> tuple[Scan, np.ndarray]:
    """Columns of text under any header; decimal commas are understood where columns are not parted by commas."""
    rows: list[list[float]] = []
    lines: list[int] = []
    for number, line in enumerate(text, 1):
        words = _words(line)
        if not words:
            continue
        if not all(_NUMBER.match(word) for word in words):
            if len(rows) < 2:  # a header, or a number in one
                rows, lines = [], []
                continue
            raise InputError(
                f"{path}, line {number}: {line.strip()[:40]!r} is no row of numbers; a file holds one scan, its "
                "header above it: delete what stands below the data"
            )
        rows.append([float(word.lower().replace("d", "e")) for word in words])
        lines.append(number)
    if not rows:
        raise InputError(f"{path} holds no numbers; a scan has two columns, 2θ in degrees and counts")
    notes: tuple[str, ...] = ()
    short = [number for number, row in enumerate(rows) if len(row) < 2]
    if len(short) == len(rows):
        raise InputError(
            f"{path}, line {lines[0]}: one column; a scan has two, 2θ in degrees and counts. Of counts alone write "
            "the angles beside them"
        )
    if short:
        _part(path, text, rows, lines, short)
        notes = (f"{len(short)} rows had their two columns run together: parted by their width",)
    if len(rows) < 2:
        raise InputError(f"{path}: {len(rows)} point; a scan has at least 2")
    pairs = np.array([row[:2] for row in rows])
    return Scan(path.stem, pairs[:, 0], pairs[:, 1], notes=notes), np.array(lines)


def _part(path: Path, text: list[str], rows: list[list[float]], lines: list[int], short: list[int]) -> None:
    """Part rows in place whose columns ran together: the first ends where it does in the other rows.

    InputError for a row that is cut off, or gives no angle between those of its neighbours.
    """
    ends = [
        len(line) - len(line.lstrip()) + len(line.split()[0])
        for line in (text[n - 1] for row, n in zip(rows, lines, strict=True) if len(row) > 1)
    ]
    width = max(set(ends), key=ends.count)
    angles = [row[0] for row in rows if len(row) > 1]
    low, high = min(angles), max(angles)
    step = 3 * (high - low) / max(len(rows) - 1, 1)
    for k in short:
        line = text[lines[k] - 1]
        parts = line[:width].strip(), line[width:].strip()
        if all(_NUMBER.match(part) for part in parts):
            rows[k] = [float(part) for part in parts]
            before = rows[k - 1][0] if k else low - step
            if abs(rows[k][0] - before) <= step:
                continue
        end = "the file ends in the middle of a row: fetch it again, or " if k == len(rows) - 1 else ""
        raise InputError(
            f"{path}, line {lines[k]}: {line.strip()[:40]!r} is one number, and the others are two; {end}delete "
            "that line, or part its columns"
        )


def _words(line: str) -> list[str]:
    """The numbers of a line, decimal commas as points; nothing for a comment."""
    line = line.strip().lstrip("\ufeff")
    if not line or line[0] in "#!;'/*":
        return []
    if ";" in line or "\t" in line:
        return [word.strip().replace(",", ".") for word in re.split(r"[;\t]+", line) if word.strip()]
    words = line.split()
    if len(words) > 1 and all(_NUMBER.match(word.replace(",", ".")) for word in words):
        return [
            word.replace(",", ".") for word in words
        ]  # "28,44  103": a comma inside a word is a decimal one
    return [word.strip() for word in re.split(r"[,\s]+", line) if word.strip()]


def _ras(path: Path, text: list[str]) -> tuple[Scan, np.ndarray]:
    """Rigaku's text format: angle, intensity and attenuation between *RAS_INT_START and *RAS_INT_END."""
    starts = [n for n, line in enumerate(text) if line.startswith("*RAS_INT_START")]
    if not starts:
        raise InputError(f"{path} has no *RAS_INT_START: it is no .ras file, or was cut off before its data")
    if len(starts) > 1:
        raise InputError(f"{path} holds {len(starts)} scans; a file holds one: separate them")
    header = dict(
        line[1:].split(maxsplit=1) for line in text[: starts[0]] if line.startswith("*") and " " in line
    )
    header = {key: value.strip().strip('"') for key, value in header.items()}
    if header.get("MEAS_SCAN_UNIT_X", "deg") not in ("deg", ""):
        raise InputError(
            f"{path}: the axis is in {header['MEAS_SCAN_UNIT_X']!r}, not in degrees: export it in deg"
        )
    rows, lines = [], []
    for number, line in enumerate(text[starts[0] + 1 :], starts[0] + 2):
        if line.startswith("*RAS_INT_END"):
            break
        words = line.split()
        if len(words) < 2 or not all(_NUMBER.match(word) for word in words):
            raise InputError(f"{path}, line {number}: {line.strip()[:40]!r} is no row of a scan")
        rows.append([float(words[0]), float(words[1]) * (float(words[2]) if len(words) > 2 else 1.0)])
        lines.append(number)
    else:
        raise InputError(f"{path} has no *RAS_INT_END: the file was cut off; fetch it again")
    if not rows:
        raise InputError(f"{path}: no points between *RAS_INT_START and *RAS_INT_END")
    pairs = np.array(rows)
    return Scan(path.stem, pairs[:, 0], pairs[:, 1], header.get("HW_XG_TARGET_NAME") or None), np.array(lines)


def _nexus(path: Path) -> Scan:
    """The default NXdata of a NeXus file, its signal over its one axis, in degrees or radians."""
    with open_h5(path) as file, parsing(path, "NeXus"):
        group = _default(file)
        if group is None:
            raise InputError(
                f"{path} has no group of NX_class NXdata with a signal and one axis; found "
                f"{list(file)[:5]}: name them, or write the scan as .xy"
            )
        signal, axis = group[_text(group.attrs["signal"])], group[_text(group.attrs["axes"])]
        if signal.shape != axis.shape or signal.ndim != 1:
            raise InputError(
                f"{path}: the signal has shape {signal.shape}, the axis {axis.shape}; a scan has one axis, "
                "one value a point"
            )
        angles = np.asarray(axis, float)
        unit = _text(axis.attrs.get("units", "deg"))
        if unit in ("rad", "radian", "radians"):
            angles = np.degrees(angles)
        elif not unit.startswith("deg"):
            raise InputError(
                f"{path}: the axis {axis.name!r} is in {unit!r}; a scan is over 2θ in deg or rad"
            )
        return Scan(path.stem, angles, np.asarray(signal, float))


def _default(file: Any) -> Any:
    """The NXdata that the file's ``default`` leads to, or the first one."""
    if "default" in file.attrs and (name := _text(file.attrs["default"])) in file:
        return _default(file[name])
    return next(iter(_data_groups(file)), None)


def _data_groups(group: Any) -> Iterator[Any]:
    import h5py

    if {"signal", "axes"} <= set(group.attrs):
        yield group
    for child in group.values():
        if isinstance(child, h5py.Group):
            yield from _data_groups(child)


def _text(value: object) -> str:
    """An attribute as a string: h5py gives bytes, str, or an array of one of them."""
    if isinstance(value, np.ndarray):
        value = value.ravel()[0]
    return value.decode() if isinstance(value, bytes) else str(value)
