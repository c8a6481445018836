"""Powder patterns as prepared data: simulated mixtures to train on, measured scans to look at, and users' own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from sciencevae.data.arrays import write_arrays
from sciencevae.data.splits import SPLITS, assign
from sciencevae.errors import InputError, did_you_mean

from .axes import anode, rewavelength
from .crystals import Crystal, formula, packaged, read_cif
from .mixtures import Patterns, draw, edges_of
from .powder_settings import Powder
from .scans import ENDINGS, Scan, bin_counts, read_scan
from .settings import Diffraction

__all__ = ["prepare", "read", "structures", "write"]

_BLOCK = 512
_COUNTS = {"units": "counts", "long_name": "counts in a bin of 2θ", "scaling": "identity"}


def prepare(settings: Diffraction, files: Mapping[str, Path], input: Path | None) -> xr.Dataset:
    """Fields ``pattern`` (sample, channel, bin), counts, and ``phases`` (sample, phase), 1 where one is in it.

    Rows by ``origin``: "simulated" mixtures of the structures, dealt out to train, valid and test; in test also
    mixtures with one of ``source.unknown`` ("unknown") and "measured" scans, whose phases the model is not told:
    −1. The measured ones' names, up to a dot and parted by +, are their ``label`` ("MnO+TiO2.2.xy").
    ``expected`` are the counts without noise, NaN of scans; ``exposure`` the mean count of a bin.

    ``input``: a folder with scans, and with .cif files of the phases to expect; without these, the structures that
    come with the package. Scans that cannot be used are left out, counted in ``refused_reasons``.
    """
    source = _source(settings)
    found = _folder(input) if input is not None else dict(files)
    known, foreign = structures(source, [path for path in found.values() if path.suffix.lower() == ".cif"])
    if not known:
        raise InputError("no structures to train on: all that source.phases names are unknown")
    made = draw(source, known, source.patterns, source.seed)
    split = assign(np.arange(source.patterns), settings.prepare.fractions, settings.prepare.split_seed)
    parts = [_simulated(source, known, made, split, "simulated")]
    if foreign:
        parts.append(_with_unknown(source, known, foreign, int((split == SPLITS["test"]).sum())))
    scans, refused = _scans(source, [path for path in found.values() if path.suffix.lower() != ".cif"])
    if scans:
        parts.append(_measured(source, known, scans))
    data = xr.concat(parts, "sample", data_vars="minimal") if len(parts) > 1 else parts[0]
    return data.assign_coords(group=("sample", np.arange(data.sizes["sample"]))).assign_attrs(
        refused=sum(refused.values()),
        refused_reasons=json.dumps(refused),
        provenance=json.dumps(
            {"structures": {c.name: len(c.elements) for c in [*known, *foreign]}, "seed": source.seed}
        ),
    )


def structures(source: Powder, cifs: Sequence[Path]) -> tuple[list[Crystal], list[Crystal]]:
    """The crystals to train on and those left out, of the files or the packaged ones.

    ``source.phases`` and ``source.unknown`` name structures, or formulas: all structures of one.
    """
    found = {c.name: c for c in map(read_cif, sorted(cifs))} if cifs else packaged()

    def named(names: Sequence[str]) -> list[Crystal]:
        chosen: dict[str, Crystal] = {}
        for name in names:
            own = [name] if name in found else [one for one in found if formula(one) == name]
            if not own:
                raise InputError(
                    f"no structure {name!r}{did_you_mean(name, found)}; there are {', '.join(sorted(found))}"
                )
            chosen |= {one: found[one] for one in own}
        return list(chosen.values())

    foreign = named(source.unknown)
    left_out = {crystal.name for crystal in foreign}
    wanted = named(source.phases) if source.phases else list(found.values())
    return [crystal for crystal in wanted if crystal.name not in left_out], foreign


def read(path: Path, settings: Diffraction, template: xr.Dataset | None = None) -> Iterator[xr.Dataset]:
    """A user's scans in blocks, from a file or a folder of them; one that cannot be used stays, with its reason."""
    source = _source(settings)
    names = template["phase"].values.tolist() if template is not None else []
    paths = sorted(_folder(path).values()) if path.is_dir() else [path]
    paths = [one for one in paths if one.suffix.lower() != ".cif"]
    for start in range(0, len(paths), _BLOCK):
        block = paths[start : start + _BLOCK]
        counts = np.full((len(block), source.scan.bins), np.nan)
        status, notes = [], []
        for row, one in enumerate(block):
            try:
                scan = _read(source, one)
                counts[row] = bin_counts(scan, edges_of(source))
            except InputError as error:
                status.append(str(error))
                notes.append("")
            else:
                status.append("ok")
                notes.append("; ".join(scan.notes))
        yield _dataset(source, counts, np.full((len(block), len(names)), np.nan), names).assign_coords(
            row=("sample", np.arange(start, start + len(block))),
            id=("sample", [one.stem for one in block]),
            status=("sample", status),
            note=("sample", notes),
        )


def write(data: xr.Dataset, path: Path) -> None:
    """Decoded or sampled patterns as ``counts`` (n, N) in .npz or .npy, bins as the model's."""
    write_arrays(path, "counts", data["pattern"].values[:, 0])


def _source(settings: Diffraction) -> Powder:
    assert isinstance(settings.source, Powder)
    return settings.source


def _folder(path: Path) -> dict[str, Path]:
    """The scans and structures in a folder, by name."""
    if not path.is_dir():
        raise InputError(
            f"{path} is a file; name the folder that holds the scans (and the .cif files of phases)"
        )
    found = {one.name: one for one in sorted(path.iterdir()) if one.suffix.lower() in (*ENDINGS, ".cif")}
    if not found:
        raise InputError(f"{path} holds no scans ({', '.join(ENDINGS)}) and no .cif files")
    return found


def _read(source: Powder, path: Path) -> Scan:
    """A scan at the angles of the model's wavelength."""
    own = anode(source.scan.anode)
    scan = read_scan(path, source.axis, own.mean, source.brightest)
    tube = scan.anode or source.measured_with or source.scan.anode
    if tube == source.scan.anode or source.axis != "2theta":
        return scan
    angles = rewavelength(scan.two_theta, anode(tube).mean, own.mean)
    reached = np.isfinite(angles)
    return replace(
        scan,
        two_theta=angles[reached],
        counts=scan.counts[reached],
        notes=(*scan.notes, f"measured with {tube}: angles brought to {source.scan.anode}"),
    )


def _scans(source: Powder, paths: Sequence[Path]) -> tuple[list[tuple[str, np.ndarray]], dict[str, int]]:
    """(name, counts in the bins) of scans, and why others were refused."""
    scans, refused = [], {}
    for path in sorted(paths):
        if path.suffix.lower() not in ENDINGS:
            continue
        try:
            scans.append((path.stem, bin_counts(_read(source, path), edges_of(source))))
        except InputError as error:
            refused[str(error).replace(str(path), path.name)] = 1
    return scans, refused


def _dataset(source: Powder, counts: np.ndarray, phases: np.ndarray, names: Sequence[str]) -> xr.Dataset:
    edges = edges_of(source)
    known = np.isfinite(counts)
    mean = np.where(known, counts, 0).sum(1) / np.maximum(known.sum(1), 1)
    about = {"units": "counts", "long_name": "mean count of a bin"}
    present = {"units": "1", "long_name": "1 where the phase is there, −1 where it is not known"}
    return xr.Dataset(
        {
            "pattern": (("sample", "channel", "bin"), counts[:, None].astype(np.float32), _COUNTS),
            "phases": (("sample", "phase"), np.nan_to_num(phases, nan=-1.0).astype(np.int8), present),
            "exposure": ("sample", np.maximum(mean, 1e-3).astype(np.float32), about),
        },
        coords={
            "bin": ("bin", (edges[1:] + edges[:-1]) / 2, {"units": "degree", "long_name": "2θ"}),
            "phase": ("phase", np.array(names, str)),
        },
        attrs={"fields": ["pattern", "phases"], "anode": source.scan.anode},
    )


def _simulated(
    source: Powder,
    known: Sequence[Crystal],
    made: Patterns,
    split: np.ndarray,
    origin: str,
    width: int | None = None,
) -> xr.Dataset:
    """Counted patterns; of phases behind the first ``width`` the model has no name."""
    random = np.random.default_rng([source.seed, len(origin)])
    names = [crystal.name for crystal in known]
    counts = random.poisson(made.rate).astype(float)
    counts[_cut(random, source, len(counts))] = np.nan
    there = made.fraction > 0
    most = made.fraction.argmax(1)
    rows = np.arange(len(counts))
    labels = ["+".join(names[k] for k in np.flatnonzero(row)) for row in there]
    own = width or len(names)
    data = _dataset(source, counts, there[:, :own].astype(float), names[:own])
    data["expected"] = (data["pattern"].dims, made.rate[:, None].astype(np.float32), _COUNTS)
    return data.assign_coords(
        split=("sample", split),
        origin=("sample", np.full(len(counts), origin)),
        label=("sample", labels),
        strain=(
            "sample",
            made.strain[rows, most],
            {"units": "1", "long_name": "mean strain of the main phase"},
        ),
        size_nm=(
            "sample",
            made.size_nm[rows, most],
            {"units": "nm", "long_name": "crystallites, main phase"},
        ),
    )


def _with_unknown(source: Powder, known: Sequence[Crystal], foreign: Sequence[Crystal], n: int) -> xr.Dataset:
    """n mixtures with one phase that training never sees."""
    random = np.random.default_rng([source.seed, 1])
    crystals = [*known, *foreign]
    chosen = []
    for _ in range(n):
        beside = random.integers(0, min(source.most_phases - 1, len(known)) + 1)
        stranger = len(known) + random.integers(len(foreign))
        chosen.append([*random.choice(len(known), beside, replace=False), stranger])
    made = draw(source, crystals, n, source.seed + 1, chosen)
    split = np.full(n, SPLITS["test"], np.int8)
    return _simulated(source, crystals, made, split, "unknown", width=len(known))


def _measured(
    source: Powder, known: Sequence[Crystal], scans: Sequence[tuple[str, np.ndarray]]
) -> xr.Dataset:
    counts = np.stack([counts for _, counts in scans])
    nothing: Any = np.full(len(scans), np.nan)
    data = _dataset(source, counts, np.full((len(scans), len(known)), np.nan), [c.name for c in known])
    data["expected"] = (data["pattern"].dims, np.full_like(data["pattern"].values, np.nan), _COUNTS)
    return data.assign_coords(
        split=("sample", np.full(len(scans), SPLITS["test"], np.int8)),
        origin=("sample", np.full(len(scans), "measured")),
        label=("sample", [name.split(".")[0] for name, _ in scans]),
        strain=("sample", nothing),
        size_nm=("sample", nothing),
    )


def _cut(random: np.random.Generator, source: Powder, n: int) -> np.ndarray:
    """Where patterns end before the bins do, (n, N): scans of other ranges are to be understood too."""
    bins = source.scan.bins
    place = np.arange(bins)
    short = random.uniform(size=n) < source.cut
    first = random.integers(0, bins // 8, n)
    last = random.integers(bins * 5 // 8, bins, n)
    return short[:, None] & ((place < first[:, None]) | (place >= last[:, None]))
