"""Which stars of a catalogue are taken, block by block and as often as asked, and why the others are not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sciencevae.errors import InputError

from . import kinematics
from .astrometry import at_epoch, corrected
from .columns import ASTROMETRY, read_catalogue, status_of
from .hipparcos import read_hip2
from .settings import Prepare

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AGAIN",
    "HIPPARCOS",
    "VALUES",
    "Counted",
    "Seen",
    "Selection",
    "catalogued",
    "directions",
    "listed",
]

HIPPARCOS, _HIPPARCOS_EPOCH = "hip2.dat, van Leeuwen (2007)", 1991.25
AGAIN = "source_id appears before"
#: what is measured of a star beside its position
VALUES = list(ASTROMETRY[2:])
#: bytes of memory that preparing takes, and for each star of the field, measured on 0.5 and 1.5 million
_BYTES, _BYTES_A_STAR = 1.2e9, 250


@dataclass
class Counted:
    """What is known of a field once its catalogue was gone through.

    Usable stars that come first under their identifier, before the quality cuts: their positions (deg), and which
    pass; of those that pass: identifiers, the first epoch (yr), which of magnitude and colour there are. Why how
    many stars are left out: of the catalogue, in a later block again, by the cuts; or elsewhere. Notes on what was
    not corrected.
    """

    ra: list[np.ndarray] = field(default_factory=list)
    dec: list[np.ndarray] = field(default_factory=list)
    good: list[np.ndarray] = field(default_factory=list)
    source_id: list[np.ndarray] = field(default_factory=list)
    again: int = 0
    epoch: float | None = None
    photometry: set[str] = field(default_factory=set)
    dropped: Counter[str] = field(default_factory=Counter)
    cuts: Counter[str] = field(default_factory=Counter)
    elsewhere: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)


class Selection(NamedTuple):
    """The usable stars of a catalogue, in the cone if one is cut, that pass the quality cuts."""

    catalogue: Path | pd.DataFrame
    source: str
    chosen: Prepare
    place: tuple[np.ndarray, float] | None

    def counted(self) -> Counted:
        """One pass over the catalogue. InputError: too many stars, or none that can be used."""
        counted = Counted()
        for frame in self.frames(counted):
            counted.source_id.append(frame["source_id"].to_numpy(np.int64))
            counted.photometry |= {
                name for name in ("magnitude", "colour") if name in frame and frame[name].notna().any()
            }
            if counted.epoch is None and "ref_epoch" in frame:
                counted.epoch = next(iter(frame["ref_epoch"].dropna().tolist()), None)
        counted.dropped[AGAIN] += counted.again
        counted.dropped, counted.elsewhere = +counted.dropped, +counted.elsewhere
        if not sum(map(len, counted.good)) and not counted.elsewhere.total():
            raise InputError(
                f"{self.source}: no row can be used ({listed(counted.dropped)}): mend the column, name another "
                "with --set prepare.columns.NAME=COLUMN, or state its unit with --set prepare.units.COLUMN=UNIT"
            )
        return counted

    def frames(self, counted: Counted) -> Iterator[pd.DataFrame]:
        """The stars in blocks, counted as they pass by."""
        chosen, seen, total = self.chosen, Seen(), 0
        for block in catalogued(self.catalogue, self.source, chosen):
            counted.dropped.update(block["status"][block["status"] != ""].to_list())
            frame = block[block["status"] == ""].drop(columns="status")
            if self.place is not None:
                inside = kinematics.separation(directions(frame), self.place[0]) <= self.place[1]
                counted.elsewhere["outside the cone"] += int((~inside).sum())
                frame = frame[inside]
            if chosen.magnitude_max is not None:
                bright = _bright(frame, chosen.magnitude_max, self.source)
                counted.elsewhere["fainter than the limit, or without a magnitude"] += int((~bright).sum())
                frame = frame[bright]
            frame = corrected(frame, chosen, counted.notes)
            total += len(frame)
            if total > chosen.maximum_stars:
                memory = (_BYTES + _BYTES_A_STAR * chosen.maximum_stars) / 1e9
                raise InputError(
                    f"{self.source} holds more stars than prepare.maximum_stars = {chosen.maximum_stars:,}, and to "
                    f"prepare that many takes {memory:.1f} GB of memory: cut a cone (--set prepare.cut_input=true, "
                    "prepare.position, prepare.radius_deg), set prepare.magnitude_max, or raise the limit"
                )
            if chosen.epoch is not None:
                left = "position left at its own epoch, without a proper motion"
                counted.notes[left] += int((frame["ref_epoch"] != chosen.epoch).sum())
            again = frame["source_id"].duplicated().to_numpy() | seen.again(frame["source_id"].to_numpy())
            counted.again += int(again.sum())
            frame = frame[~again]
            good = _quality(frame, chosen, counted.cuts)
            counted.ra.append(frame["ra_deg"].to_numpy())
            counted.dec.append(frame["dec_deg"].to_numpy())
            counted.good.append(good)
            yield frame[good]


def directions(frame: pd.DataFrame) -> np.ndarray:
    """Unit vectors towards the stars, (N, 3), ICRS."""
    return kinematics.directions(frame["ra_deg"].to_numpy(), frame["dec_deg"].to_numpy())


def listed(reasons: Mapping[str, int]) -> str:
    """Why how many rows are left out, in words."""
    return ", ".join(f"{n} rows: {reason}" for reason, n in reasons.items() if n) or "none left out"


def catalogued(catalogue: Path | pd.DataFrame, source: str, chosen: Prepare) -> Iterator[pd.DataFrame]:
    """Canonical columns with ``status``, propagated to one epoch; InputError where there are several."""
    epochs: set[float] = set()
    for frame in _read(catalogue, chosen):
        if "ref_epoch" in frame and chosen.epoch is None:
            epochs |= set(frame["ref_epoch"].dropna().unique())
            if len(epochs) > 1:
                raise InputError(
                    f"{source} mixes positions of the epochs {_series(epochs)}: have them all propagated to one, "
                    f"with --set prepare.epoch={max(epochs):g}"
                )
        yield at_epoch(frame, chosen)


def _read(catalogue: Path | pd.DataFrame, chosen: Prepare) -> Iterator[pd.DataFrame]:
    if not isinstance(catalogue, Path) or catalogue.suffix != ".dat":
        yield from read_catalogue(catalogue, chosen.columns, chosen.units)
        return
    frame = read_hip2(catalogue)
    yield frame.assign(status=status_of(frame), ref_epoch=_HIPPARCOS_EPOCH)


class Seen:
    """Which identifiers came before, of any number of blocks, in 8 bytes each: sorted runs, merged as they grow."""

    def __init__(self) -> None:
        self.runs: list[np.ndarray] = []

    def again(self, identifiers: np.ndarray) -> np.ndarray:
        """Whether each was in an earlier block; these ones are known from now on."""
        found = np.zeros(len(identifiers), dtype=bool)
        for run in self.runs:
            place = np.minimum(np.searchsorted(run, identifiers), len(run) - 1)
            found |= run[place] == identifiers
        if not len(identifiers):
            return found
        new = np.unique(identifiers)
        while self.runs and len(self.runs[-1]) <= 2 * len(new):
            new = np.union1d(self.runs.pop(), new)
        self.runs.append(new)
        return found


def _quality(frame: pd.DataFrame, chosen: Prepare, cuts: Counter[str]) -> np.ndarray:
    """Which stars pass the cuts, (N,); how many fail each is added to ``cuts``."""
    poor = ~(frame["parallax_error_mas"] <= chosen.parallax_error_max_mas) & frame["parallax_mas"].notna()
    unsolved = frame[VALUES].isna().any(axis=1) & (chosen.two_parameter == "drop")
    cuts["parallax error above the limit"] += int(poor.sum())
    cuts["no parallax or motion"] += int(unsolved.sum())
    good = ~poor & ~unsolved
    if chosen.motion_error_max_mas_yr is not None:
        error = frame[["pmra_error_mas_yr", "pmdec_error_mas_yr"]].max(axis=1)
        vague = (error > chosen.motion_error_max_mas_yr) & good
        cuts["proper-motion error above the limit"] += int(vague.sum())
        good &= ~vague
    if chosen.ruwe_max is not None:
        if "ruwe" not in frame:
            raise InputError(
                "prepare.ruwe_max needs a column ruwe; name yours with --set prepare.columns.ruwe=COLUMN"
            )
        blurred = frame["ruwe"] > chosen.ruwe_max
        cuts["RUWE above the limit"] += int((blurred & good).sum())
        good &= ~blurred
    return good.to_numpy()


def _bright(frame: pd.DataFrame, limit: float, source: str) -> np.ndarray:
    if "magnitude" not in frame:
        raise InputError(
            f"{source} has no magnitudes, and prepare.magnitude_max = {limit:g} is set: unset it"
        )
    return (frame["magnitude"] <= limit).to_numpy()


def _series(values: set[float]) -> str:
    return ", ".join(f"{value:g}" for value in sorted(values))
