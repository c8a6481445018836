"""Arrays of users' files: the same from each format, and named errors."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from sciencevae.data.arrays import Arrays, write_arrays
from sciencevae.errors import InputError

VALUES = np.arange(24.0).reshape(4, 3, 2)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_what_is_written_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write_arrays(path, "field", VALUES)
    with Arrays(path, "field") as file:
        assert list(file) == ["field"]
        assert len(file) == 1
        np.testing.assert_array_equal(file["field"], VALUES)
        assert file.get("other") is None
        assert not file.attrs


@pytest.mark.parametrize("suffix", [".h5", ".anything"])
def test_hdf5_stays_on_disk_until_it_is_indexed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with h5py.File(path, "w") as file:
        file["field"] = VALUES
        file.attrs["unit"] = "m"
    with Arrays(path, "x") as found:
        assert isinstance(found["field"], h5py.Dataset)
        np.testing.assert_array_equal(found["field"][1:3], VALUES[1:3])
        assert found.attrs["unit"] == "m"


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".txt"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"\x93NUMPY"])
def test_what_is_no_such_file_is_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"bad\{suffix} cannot be read"):
        Arrays(path, "x")
    with pytest.raises(InputError, match="cannot be read"):
        Arrays(tmp_path / f"none{suffix}", "x")


def test_a_damaged_array_and_objects_are_named_when_read(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, field=np.array([{}], dtype=object))
    with Arrays(path, "x") as file, pytest.raises(InputError, match=r"a.npz cannot be read"):
        file["field"]
    np.savez(path, field=VALUES)
    whole = bytearray(path.read_bytes())
    whole[150] ^= 0xFF
    path.write_bytes(whole)
    with Arrays(path, "x") as file, pytest.raises(InputError, match=r"a.npz cannot be read"):
        file["field"]


def test_another_ending_is_refused_and_nothing_left(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"field is written to \.npz"):
        write_arrays(tmp_path / "a.txt", "field", VALUES)
    assert not list(tmp_path.iterdir())


def test_hdf5_that_is_damaged_is_named_when_it_is_indexed(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        where = file.create_dataset("field", data=VALUES, chunks=VALUES.shape, fletcher32=True)
        place = where.id.get_chunk_info(0).byte_offset
    whole = bytearray(path.read_bytes())
    whole[place + 8] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(InputError, match=r"a.h5 cannot be read"), Arrays(path, "x") as found:
        found["field"][:]


def test_what_is_no_array_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_group("group")
        file["null"] = h5py.Empty("f")
        file["link"] = h5py.SoftLink("/nowhere")
    with Arrays(tmp_path / "a.h5", "x") as found:
        assert "link" not in found
        for name in ("group", "null"):
            with pytest.raises(InputError, match=f"{name} is no array"):
                found[name]
