"""Archives: unpacked whole, and never outside their folder."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from sciencevae.data.archive import unpack
from sciencevae.errors import InputError, RunError


def _zip(path: Path, *names: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name), name.encode())
    return path


def _tar(path: Path, *members: tuple[str, bytes, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link.decode()
            content = name.encode() if kind == tarfile.REGTYPE else b""
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def _nothing_but(folder: Path, *names: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_zip_and_tar_are_unpacked(tmp_path: Path) -> None:
    zipped = _zip(tmp_path / "a.zip", "a.txt", "b/c.txt", "b/..d")
    assert [p.relative_to(tmp_path).as_posix() for p in unpack(zipped, tmp_path / "a")] == [
        "a/a.txt",
        "a/b/..d",
        "a/b/c.txt",
    ]
    tarred = _tar(tmp_path / "b.tar.gz", ("d", tarfile.DIRTYPE, b""), ("d/e", tarfile.REGTYPE, b""))
    assert [p.read_text() for p in unpack(tarred, tmp_path / "b")] == ["d/e"]


@pytest.mark.parametrize(
    "name", ["../evil", "a/../../evil", "/tmp/evil", "C:\\evil", "a\\..\\..\\evil", "c:/evil"]
)
def test_a_name_that_leads_outside_is_refused(tmp_path: Path, name: str) -> None:
    for archive in (
        _zip(tmp_path / "a.zip", "good", name),
        _tar(tmp_path / "a.tgz", (name, tarfile.REGTYPE, b"")),
    ):
        with pytest.raises(InputError, match="outside the folder, refused"):
            unpack(archive, tmp_path / "out")
    assert _nothing_but(tmp_path, "a.zip", "a.tgz")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = _tar(tmp_path / "a.tgz", ("good", tarfile.REGTYPE, b""), ("link", kind, b"/etc/passwd"))
    with pytest.raises(InputError, match="a link or a device"):
        unpack(archive, tmp_path / "out")
    assert _nothing_but(tmp_path, "a.tgz")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match="a link or a device"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_too_large_twice_named_damaged_or_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(2_000_000))
    with pytest.raises(InputError, match=r"unpacks to 2.0 MB, allowed are 1.0 MB"):
        unpack(tmp_path / "bomb.zip", tmp_path / "out", limit_bytes=1_000_000)
    with pytest.warns(UserWarning, match="Duplicate"), pytest.raises(InputError, match="twice"):
        unpack(_zip(tmp_path / "twice.zip", "a", "a"), tmp_path / "out")
    whole = _tar(tmp_path / "a.tgz", ("x", tarfile.REGTYPE, b"")).read_bytes()
    (tmp_path / "cut.tgz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises((RunError, InputError)):
        unpack(tmp_path / "cut.tgz", tmp_path / "out")
    with pytest.raises(InputError, match="no archive"):
        unpack(tmp_path / "none.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()
