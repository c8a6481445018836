"""Data files that name another file or an address, or bring code: nothing but the file itself is read or run."""

from __future__ import annotations

import gzip
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from sciencevae.builtin.diffraction.scans import read_scan
from sciencevae.builtin.fluids.fields import open_fields

from sciencevae.data.arrays import Arrays
from sciencevae.data.foreign import unpacked_bytes
from sciencevae.data.tables import open_table
from sciencevae.errors import InputError

SECRET = b"the owner's secret, 32 bytes long"[:32]


class Touch:
    """Unpickled, it makes a file: proof that code ran."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    return path


# ---- HDF5


def _external_storage(file: h5py.File, secret: Path) -> None:
    external = [(str(secret), 0, 32)]
    file.create_dataset("u", (2, 1, 2), np.float64, external=external).attrs["dims"] = ["time", "y", "x"]


def _external_link(file: h5py.File, secret: Path) -> None:
    with h5py.File(secret.with_suffix(".h5"), "w") as other:
        other["u"] = np.zeros((2, 1, 2))
    file.create_group("deep")["u"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/u")


def _virtual_dataset(file: h5py.File, secret: Path) -> None:
    _external_link(h5py.File(secret.with_suffix(".other"), "w"), secret)
    layout = h5py.VirtualLayout((2, 1, 2), np.float64)
    layout[:] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "u", (2, 1, 2))
    file.create_virtual_dataset("u", layout)


@pytest.mark.parametrize("attack", [_external_storage, _external_link, _virtual_dataset])
@pytest.mark.parametrize(
    ("ending", "read"),
    [
        (".h5", open_fields),
        (".mat", open_fields),
        (".nc", open_fields),
        (".nxs", read_scan),
        (".hdf5", lambda path: Arrays(path, "u")),
    ],
)
def test_hdf5_that_shows_other_files_is_refused(
    tmp_path: Path,
    secret: Path,
    attack: Callable[[h5py.File, Path], None],
    ending: str,
    read: Callable[[Path], Any],
) -> None:
    path = tmp_path / f"evil{ending}"
    with h5py.File(path, "w") as file:
        attack(file, secret)
    with pytest.raises(InputError, match="does not hold all its data") as refused:
        read(path)
    assert "\n" not in str(refused.value)
    with h5py.File(path, "r+"):  # it was closed again
        pass


def test_external_storage_would_have_shown_the_secret(tmp_path: Path, secret: Path) -> None:
    """What the attack is worth: h5py itself reads the other file."""
    with h5py.File(tmp_path / "evil.h5", "w") as file:
        _external_storage(file, secret)
    with h5py.File(tmp_path / "evil.h5") as file:
        assert file["u"][()].tobytes() == SECRET


# ---- Zarr


def _zarr(folder: Path, dtype: str, **codecs: Any) -> Path:
    """A Zarr v2 array whose one chunk is a pickle that makes a file."""
    (folder / "u").mkdir(parents=True)
    (folder / ".zgroup").write_text('{"zarr_format": 2}')
    array = {"zarr_format": 2, "shape": [2, 2, 2], "chunks": [2, 2, 2], "dtype": dtype, "order": "C"}
    (folder / "u" / ".zarray").write_text(json.dumps(array | {"fill_value": None} | codecs))
    (folder / "u" / ".zattrs").write_text(json.dumps({"_ARRAY_DIMENSIONS": ["time", "y", "x"], "units": "1"}))
    (folder / "u" / "0.0.0").write_bytes(pickle.dumps(Touch(folder.parent / "ran")))
    return folder


@pytest.mark.parametrize(
    "codecs",
    [
        {"filters": [{"id": "pickle"}], "compressor": None},
        {"filters": None, "compressor": {"id": "pickle"}},
        # behind a codec of text, zarr itself takes the array
        {"filters": [{"id": "vlen-utf8"}, {"id": "pickle"}], "compressor": None},
        {"filters": [{"id": "vlen-utf8"}], "compressor": {"id": "numcodecs.pickle"}},
    ],
)
@pytest.mark.parametrize("dtype", ["|O", "<f8"])
def test_zarr_with_a_pickle_is_refused(tmp_path: Path, dtype: str, codecs: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="codec 'pickle', which runs any code"):
        open_fields(_zarr(tmp_path / "evil.zarr", dtype, **codecs))
    assert not (tmp_path / "ran").exists()


def test_the_pickle_would_have_run(tmp_path: Path) -> None:
    """What the attack is worth: where the library allows it, as older ones do, the chunk runs."""
    import zarr
    from numcodecs import pickles

    allowed = getattr(pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True)
    _zarr(tmp_path / "evil.zarr", "|O", filters=[{"id": "vlen-utf8"}, {"id": "pickle"}], compressor=None)
    pickles.ALLOW_UNSAFE_PICKLE_DECODE = True
    try:
        with pytest.raises(Exception):  # noqa: B017  (what was unpickled is no array)
            zarr.open_group(tmp_path / "evil.zarr", mode="r")["u"][:]
    finally:
        pickles.ALLOW_UNSAFE_PICKLE_DECODE = allowed
    assert (tmp_path / "ran").exists()


def test_a_link_out_of_a_zarr_folder_is_refused(tmp_path: Path, secret: Path) -> None:
    folder = _zarr(tmp_path / "evil.zarr", "<f8", filters=None, compressor=None)
    (folder / "u" / "0.0.0").unlink()
    (folder / "u" / "0.0.0").symlink_to(secret)
    with pytest.raises(InputError, match=r"the link u/0\.0\.0 leads out"):
        open_fields(folder)


# ---- VOTable and text


VOTABLE = """<?xml version="1.0"?>{doctype}<VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">
<RESOURCE><TABLE><FIELD name="a" datatype="{kind}"/><DATA>{rows}</DATA></TABLE></RESOURCE></VOTABLE>"""


@pytest.mark.parametrize("form", ["BINARY", "BINARY2", "FITS"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_votable_reads_no_other_file(tmp_path: Path, secret: Path, form: str, packed: bool) -> None:
    rows = f'<{form}><STREAM href="{secret.as_uri()}"/></{form}>'
    text = VOTABLE.format(doctype="", kind="unsignedByte", rows=rows).encode()
    path = tmp_path / ("a.vot.gz" if packed else "a.vot")
    path.write_bytes(gzip.compress(text) if packed else text)
    with pytest.raises(InputError, match=r"the stream 'file:.*leads out of it"):
        open_table(path)


def test_a_votable_opens_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*_: object) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr("socket.socket.connect", connect)
    rows = '<BINARY><STREAM href="http://127.0.0.1:9/x"/></BINARY>'
    (tmp_path / "a.vot").write_text(VOTABLE.format(doctype="", kind="unsignedByte", rows=rows))
    with pytest.raises(InputError, match="leads out of it"):
        open_table(tmp_path / "a.vot")


def test_entities_of_xml_are_neither_files_nor_bombs(tmp_path: Path, secret: Path) -> None:
    rows = "<TABLEDATA><TR><TD>&e;</TD></TR></TABLEDATA>"
    shown = VOTABLE.replace('datatype="{kind}"', 'datatype="char" arraysize="*"')
    doctype = f'<!DOCTYPE v [<!ENTITY e SYSTEM "{secret.as_uri()}">]>'
    (tmp_path / "file.vot").write_text(shown.format(doctype=doctype, rows=rows))
    file = open_table(tmp_path / "file.vot")
    assert "secret" not in str(next(file.blocks(["a"]))["a"][0])
    laughs = "".join(f'<!ENTITY {b} "{f"&{a};" * 20}">' for a, b in zip("abcdef", "bcdefg", strict=True))
    bomb = f'<!DOCTYPE v [<!ENTITY a "ha">{laughs}]>'
    rows = rows.replace("&e;", "&g;")
    (tmp_path / "bomb.vot").write_text(shown.format(doctype=bomb, rows=rows))
    with pytest.raises(InputError, match="cannot be read as VOTable"):
        open_table(tmp_path / "bomb.vot")


def test_the_size_of_a_packed_file_is_counted_no_further_than_asked(tmp_path: Path) -> None:
    path = tmp_path / "zeros.gz"
    with gzip.open(path, "wb", 1) as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
    assert unpacked_bytes(path, 1 << 30) == 64 << 20
    assert 4 << 20 < unpacked_bytes(path, 4 << 20) <= 5 << 20


def test_a_text_file_has_a_header_of_bounded_length(tmp_path: Path) -> None:
    """A packed file of a thousandth of that size would otherwise fill the memory."""
    with gzip.open(tmp_path / "a.csv.gz", "wb", 1) as file:
        for _ in range(40):
            file.write(b"x" * (1 << 20))
    with pytest.raises(InputError, match="first line"):
        open_table(tmp_path / "a.csv.gz")
