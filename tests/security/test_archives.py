"""Archives made to break out of their folder, to fill the disk, or to fill the memory."""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sciencevae.data.archive import expand, extract, unpack
from sciencevae.errors import InputError, RunError

OUTSIDE = [
    "../evil",
    "a/../../evil",
    "/tmp/sciencevae-evil",
    "//tmp/sciencevae-evil",
    "a/..",
    "..",
    "C:\\evil",
    "..\\evil",
    "a\\..\\..\\evil",
    "./../evil",
    "a/./../../evil",
]


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def a_zip(path: Path, name: str, content: bytes = b"x", mode: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("placeholder")
        info.filename = name  # as it is given, past what zipfile makes of it
        info.external_attr = mode << 16
        archive.writestr(info, content)
    return path


def a_tar(file: Path, name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **header: Any) -> Path:
    with tarfile.open(file, "w:gz") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        info.pax_headers = header
        archive.addfile(info, io.BytesIO())
    return file


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["zip", "whl", "tar.gz", "tar with a long name"])
def test_no_member_leads_outside(tmp_path: Path, name: str, kind: str) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    path = inside / f"a.{kind.partition(' ')[0]}"
    if kind in ("zip", "whl"):
        a_zip(path, name)
    elif kind == "tar.gz":
        a_tar(path, name)
    else:  # the name of a pax header, which replaces the plain one
        a_tar(path, "good", path=name)
    before = tree(tmp_path)
    with pytest.raises(InputError, match="outside the folder, refused"):
        unpack(path, inside / "out")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE],
)
def test_links_and_devices_in_a_tar(tmp_path: Path, kind: bytes) -> None:
    path = a_tar(tmp_path / "a.tgz", "entry", kind, "/etc/passwd")
    if kind == tarfile.CONTTYPE:  # a plain file by another name
        assert [found.read_bytes() for found in unpack(path, tmp_path / "out")] == [b""]
        return
    with pytest.raises(InputError, match="a link or a device"):
        unpack(path, tmp_path / "out")
    assert tree(tmp_path) == ["a.tgz"]


def test_a_file_below_a_link_of_the_same_archive(tmp_path: Path) -> None:
    """The classic: first a link out, then a file through it."""
    (tmp_path / "target").mkdir()
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "target")
        archive.addfile(link)
        info = tarfile.TarInfo("out/evil")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(InputError, match="a link or a device"):
        unpack(tmp_path / "a.tar", tmp_path / "unpacked")
    assert tree(tmp_path) == ["a.tar", "target"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_in_a_zip(tmp_path: Path, kind: int) -> None:
    path = a_zip(tmp_path / "a.whl", "entry", b"/etc/passwd", mode=kind | 0o777)
    with pytest.raises(InputError, match="a link or a device"):
        unpack(path, tmp_path / "out")
    assert tree(tmp_path) == ["a.whl"]


def test_no_bit_of_another_user_is_set(tmp_path: Path) -> None:
    path = a_zip(tmp_path / "a.zip", "entry", mode=stat.S_IFREG | 0o6777)
    (found,) = unpack(path, tmp_path / "out")
    assert not found.stat().st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IXUSR | stat.S_IWOTH)


def test_a_zip_whose_index_lies_about_the_size(tmp_path: Path, bounded: Callable[..., Any]) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(50_000_000))
    raw = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        place = raw.index(signature) + offset
        raw[place : place + 4] = struct.pack("<I", 10)
    path.write_bytes(raw)
    with bounded(), pytest.raises(RunError, match="damaged"):
        unpack(path, tmp_path / "out")
    assert tree(tmp_path) == ["a.zip"]


def test_a_zip_that_is_encrypted_or_of_an_unknown_kind(tmp_path: Path) -> None:
    for place, value in ((6, 1), (8, 99)):
        raw = bytearray(a_zip(tmp_path / "a.zip", "entry").read_bytes())
        raw[place] = value
        raw[raw.index(b"PK\x01\x02") + place + 2] = value
        (tmp_path / "b.zip").write_bytes(raw)
        with pytest.raises(RunError, match="damaged"):
            unpack(tmp_path / "b.zip", tmp_path / "out")
    assert tree(tmp_path) == ["a.zip", "b.zip"]


def test_names_that_the_disk_cannot_hold_or_that_are_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too long"):
        unpack(a_zip(tmp_path / "a.zip", "x" * 300), tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("a", b"x")
        archive.writestr("a/b", b"x")
    with pytest.raises(RunError, match="cannot write"):
        unpack(tmp_path / "b.zip", tmp_path / "out")
    assert tree(tmp_path) == ["a.zip", "b.zip"]


# ---- bombs


def repeated(path: Path, block: bytes, times: int) -> Path:
    with gzip.open(path, "wb", 1) as file:
        for _ in range(times):
            file.write(block)
    return path


def test_a_tar_of_countless_empty_files(tmp_path: Path, bounded: Callable[..., Any]) -> None:
    """200,000 headers of 512 bytes, packed in a megabyte; each would cost a kilobyte of memory."""
    header = tarfile.TarInfo("a").tobuf(tarfile.USTAR_FORMAT)
    path = repeated(tmp_path / "a.tgz", header * 2000, 100)
    assert path.stat().st_size < 2 << 20
    with bounded(seconds=60, megabytes=400), pytest.raises(InputError, match="more than 100,000 files"):
        unpack(path, tmp_path / "out")


def test_a_tar_with_an_endless_header(tmp_path: Path, bounded: Callable[..., Any]) -> None:
    """An extended header is read at once, before any size is known: 600 MB here, packed in 3."""
    header = tarfile.TarInfo("a")
    header.type, header.size = tarfile.XHDTYPE, 600 << 20
    path = tmp_path / "a.tgz"
    with gzip.open(path, "wb", 1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(600):
            file.write(bytes(1 << 20))
    for call in (
        lambda: unpack(path, tmp_path / "out"),
        lambda: extract(path, "a", tmp_path / "a", 10, lambda *_: None),
    ):
        with bounded(megabytes=256), pytest.raises(RunError, match="a header of 629,145,600 bytes"):
            call()


def test_a_tar_that_says_how_large_it_gets_is_not_unpacked_to_see(
    tmp_path: Path, bounded: Callable[..., Any]
) -> None:
    header = tarfile.TarInfo("zeros")
    header.size = 1 << 40
    path = tmp_path / "a.tgz"
    with gzip.open(path, "wb", 1) as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(100):
            file.write(bytes(1 << 20))
    with bounded(seconds=10), pytest.raises(InputError, match=r"allowed are 68\.7 GB"):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize("kind", [".gz", ".xz"])
def test_a_packed_file_is_unpacked_no_further_than_stated(tmp_path: Path, kind: str) -> None:
    import lzma

    content = bytes(20_000_000)
    packed = tmp_path / f"a{kind}"
    packed.write_bytes(gzip.compress(content) if kind == ".gz" else lzma.compress(content))
    with pytest.raises(RunError, match="larger than the 1,000 bytes stated for it"):
        expand(packed, kind, tmp_path / "a", 1000, lambda *_: None, "a")
    assert (tmp_path / "a").stat().st_size <= 1000


def test_a_wheel_gives_the_one_file_asked_for_and_no_more_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../evil", b"x")
        archive.writestr("data/zeros", bytes(1_000_000))
    with pytest.raises(RunError, match="larger than the 10 bytes"):
        extract(path, "data/zeros", tmp_path / "zeros", 10, lambda *_: None)
    extract(path, "../evil", tmp_path / "safe", 10, lambda *_: None)  # a name inside is no path here
    assert (tmp_path / "safe").read_bytes() == b"x"
    assert not (tmp_path.parent / "evil").exists()
