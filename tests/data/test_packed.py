"""Files that a url or a mirror gives packed: unpacked on the way, never beyond their size, checked as any other."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import os
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sciencevae.data.archive import expand, packing
from sciencevae.data.fetch import fetch
from sciencevae.data.manifest import Manifest
from sciencevae.errors import RunError

CONTENT = b"".join(hashlib.sha256(bytes([i % 256, i // 256])).digest()[:16] * 2 for i in range(5000))
PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".xz": lzma.compress}
KINDS = pytest.mark.parametrize("kind", sorted(PACK))


def _data(server: Any, kind: str, **changes: Any) -> Manifest:
    """CONTENT as a file ``stars.dat`` whose url gives it packed."""
    plain = {
        "bytes": len(CONTENT),
        "sha256": hashlib.sha256(CONTENT).hexdigest(),
        "urls": (f"{server.url}/stars.dat{kind}?raw=1",),
    }
    manifest: Manifest = server.manifest(**plain | changes)
    return manifest


def _files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock"))


def _silent(done: int, total: int | None = None) -> None:
    pass


# ---- unpacking


@KINDS
@given(content=st.binary(max_size=5000), repeat=st.integers(1, 500))
def test_unpacking_gives_the_content_and_never_more(
    kind: str, content: bytes, repeat: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("packed")
    packed, target, content = folder / f"a{kind}", folder / "a", content * repeat
    packed.write_bytes(PACK[kind](content))
    expand(packed, kind, target, len(content), _silent, "a")
    assert target.read_bytes() == content
    if content:
        with pytest.raises(RunError, match="the content of a is larger than the"):
            expand(packed, kind, target, len(content) - 1, _silent, "a")
        assert target.stat().st_size < len(content)


def test_what_is_called_packed() -> None:
    assert [packing(f"a{suffix}", "a") for suffix in (".gz", ".xz", ".bz2", "")] == [".gz", ".xz", "", ""]
    assert packing("a.gz", "a.gz") == ""
    assert packing("a.gz.xz", "a.gz") == ".xz"


# ---- urls


@KINDS
def test_a_packed_url(server: Any, cache: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    server.content = PACK[kind](CONTENT)
    assert fetch(_data(server, kind))["stars.dat"].read_bytes() == CONTENT
    assert _files(cache) == ["stars.dat"]
    assert "stars.dat: unpacking: 160.0 kB" in capsys.readouterr().err
    assert fetch(_data(server, kind))["stars.dat"].read_bytes() == CONTENT
    assert server.requests == [None]


def test_a_file_that_is_to_stay_packed(server: Any) -> None:
    server.content = gzip.compress(CONTENT)
    data = server.manifest(name="stars.gz", urls=(f"{server.url}/stars.gz",))
    assert fetch(data, progress=False)["stars.gz"].read_bytes() == server.content


@KINDS
def test_a_packed_download_is_resumed(server: Any, cache: Path, kind: str) -> None:
    server.content = PACK[kind](CONTENT)
    half = len(server.content) // 2

    def cut_once(handler: BaseHTTPRequestHandler) -> bool:
        if len(server.requests) > 1:
            return False
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(server.content)))
        handler.end_headers()
        handler.wfile.write(server.content[:half])
        return True

    server.behaviour = cut_once
    assert fetch(_data(server, kind), progress=False)["stars.dat"].read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={half}-"]
    assert _files(cache) == ["stars.dat"]


@KINDS
def test_a_part_of_another_file_never_ends_in_the_result(server: Any, cache: Path, kind: str) -> None:
    server.content = PACK[kind](CONTENT)
    (cache / "toy").mkdir(parents=True)
    (cache / "toy" / f".stars.dat{kind}.part").write_bytes(bytes(1000))
    assert fetch(_data(server, kind), progress=False)["stars.dat"].read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-", None]


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda packed: packed[:-2000],
    "without its end": lambda packed: packed[:-3],
    "altered": lambda packed: packed[:2000] + bytes(50) + packed[2050:],
    "not packed at all": lambda packed: CONTENT[:2000],
}


@KINDS
@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_packed_file(server: Any, cache: Path, kind: str, how: str) -> None:
    server.content = SPOILT[how](PACK[kind](CONTENT))
    message = rf"stars.dat{kind}\?raw=1: damaged or cut short|wrong hash: stars.dat should have sha256"
    with pytest.raises(RunError, match=message) as error:
        fetch(_data(server, kind), progress=False)
    assert "\n" not in str(error.value)
    assert _files(cache) == []


@KINDS
def test_a_packed_file_of_other_content(server: Any, cache: Path, kind: str) -> None:
    server.content = PACK[kind](CONTENT[:-1] + b"?")
    with pytest.raises(RunError, match=r"wrong hash: stars.dat .*has changed there"):
        fetch(_data(server, kind), progress=False)
    server.content = PACK[kind](bytes(10**7))  # a bomb: some kB that unpack to 10 MB
    with pytest.raises(RunError, match=r"the content of .* is larger than the 160,000 bytes stated"):
        fetch(_data(server, kind), progress=False)
    server.content = os.urandom(170_000)  # more than CONTENT can take, however badly it packs
    with pytest.raises(RunError, match=r"127.0.0.1 sends more than 162,624 bytes for stars.dat"):
        fetch(_data(server, kind), progress=False)
    assert [name for name in _files(cache) if not name.endswith(".part")] == []


def test_a_plain_url_after_a_packed_one(server: Any, cache: Path) -> None:
    def only_plain(handler: BaseHTTPRequestHandler) -> bool:
        if not handler.path.endswith(".gz"):
            return False
        handler.send_error(404)
        return True

    server.content, server.behaviour = CONTENT, only_plain
    data = _data(server, "", urls=(f"{server.url}/stars.dat.gz", f"{server.url}/stars.dat"))
    assert fetch(data, progress=False)["stars.dat"].read_bytes() == CONTENT
    assert server.paths == ["/stars.dat.gz", "/stars.dat"]


def test_offline_names_every_place(server: Any, cache: Path) -> None:
    def absent(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_error(404 if "gz" in handler.path else 410)
        return True

    server.behaviour = absent
    data = _data(server, "", urls=(f"{server.url}/stars.dat.gz", f"{server.url}/stars.dat.xz"))
    with pytest.raises(RunError, match=r"offline\? cannot fetch stars.dat .* 404 .*; .* 410 ") as error:
        fetch(data, progress=False)
    for part in (data.files[0].sha256, str(cache / "toy" / "stars.dat"), "SCIENCEVAE_MIRROR"):
        assert str(part) in str(error.value)


# ---- mirrors


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty mirror, without a network."""
    (tmp_path / "mirror" / "toy").mkdir(parents=True)
    monkeypatch.setenv("SCIENCEVAE_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("SCIENCEVAE_OFFLINE", "1")
    return tmp_path / "mirror"


@KINDS
@pytest.mark.parametrize("place", ["toy/stars.dat", "stars.dat"])
def test_a_mirror_that_holds_it_packed(server: Any, folder: Path, cache: Path, kind: str, place: str) -> None:
    (folder / f"{place}{kind}").write_bytes(PACK[kind](CONTENT))
    data = _data(server, "")
    path = fetch(data, progress=False)["stars.dat"]
    assert path == cache / "toy" / "stars.dat"
    assert path.read_bytes() == CONTENT
    (folder / f"{place}{kind}").unlink()
    assert fetch(data)["stars.dat"] == path
    (folder / place).write_bytes(CONTENT)
    assert fetch(data)["stars.dat"] == folder / place


@KINDS
@pytest.mark.parametrize("how", SPOILT)
def test_a_mirror_that_holds_it_spoilt(server: Any, folder: Path, cache: Path, kind: str, how: str) -> None:
    (folder / "toy" / f"stars.dat{kind}").write_bytes(SPOILT[how](PACK[kind](CONTENT)))
    message = rf"toy/stars.dat{kind}: damaged or cut short|wrong hash: stars.dat .*unset SCIENCEVAE_MIRROR"
    with pytest.raises(RunError, match=message) as error:
        fetch(_data(server, ""), progress=False)
    assert "\n" not in str(error.value)
    assert _files(cache) == []


@KINDS
def test_a_mirror_that_holds_something_else(server: Any, folder: Path, cache: Path, kind: str) -> None:
    for content, message in (
        (CONTENT[1:], "wrong hash: stars.dat .*replace it, or unset SCIENCEVAE_MIRROR"),
        (bytes(10**7), "is larger than the 160,000 bytes stated"),
    ):
        (folder / "toy" / f"stars.dat{kind}").write_bytes(PACK[kind](content))
        with pytest.raises(RunError, match=message):
            fetch(_data(server, ""), progress=False)
    assert _files(cache) == []


def test_a_spoilt_file_in_the_cache_is_unpacked_again(server: Any, folder: Path, cache: Path) -> None:
    (folder / "toy" / "stars.dat.xz").write_bytes(lzma.compress(CONTENT))
    path = fetch(_data(server, ""), progress=False)["stars.dat"]
    path.write_bytes(CONTENT[:-1])
    assert fetch(_data(server, ""), progress=False)["stars.dat"].read_bytes() == CONTENT
