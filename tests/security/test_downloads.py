"""Servers and manifests that try to write elsewhere, to send without end, or to lead to other addresses."""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from sciencevae.data.download import Transfer, Unreachable, _Redirects, _Refused, download
from sciencevae.data.fetch import fetch
from sciencevae.data.manifest import FileEntry, Manifest, load_manifest
from sciencevae.errors import InputError, RunError

SHA = "0" * 64
FILE = {"name": "a.dat", "bytes": 1000, "sha256": SHA, "urls": ["https://example.org/a.dat"]}
PLAIN = {
    "name": "evil",
    "version": "1",
    "title": "t",
    "description": "d",
    "license": "CC0-1.0",
    "citation": {"bibtex": "@misc{a}"},
    "files": [FILE],
    "splits": {"group": "row"},
}
Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """serve(answer) -> the address of a server that answers every request so."""
    servers = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def manifest(url: str, **changes: Any) -> Manifest:
    return Manifest.model_validate(PLAIN | {"files": [FILE | {"urls": [f"{url}/a.dat"]} | changes]})


def endless(handler: BaseHTTPRequestHandler) -> None:
    """Bytes without end, and no word of how many."""
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(bytes(1 << 16))
    except OSError:
        pass


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


# ---- servers


def test_an_endless_stream_ends_at_the_stated_size(
    serve: Callable[[Answer], str], cache: Path, bounded: Callable[..., Any]
) -> None:
    with bounded(seconds=20), pytest.raises(RunError, match=r"sends more than 1,000 bytes"):
        fetch(manifest(serve(endless)), progress=False)
    assert sum(path.stat().st_size for path in files(cache)) <= 1000


def test_an_endless_header_is_cut(serve: Callable[[Answer], str], bounded: Callable[..., Any]) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        try:
            while True:
                handler.wfile.write(b"X-Filler: " + b"x" * 1000 + b"\r\n")
        except OSError:
            pass

    with bounded(seconds=20), pytest.raises(RunError, match="broke off"):
        fetch(manifest(serve(answer)), progress=False)


@pytest.mark.parametrize("length", ["-1", "1e3", "99999999999999999999", "x", "", "１０００"])
def test_a_length_that_is_none(serve: Callable[[Answer], str], cache: Path, length: str) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(f"HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n".encode() + bytes(1000))

    with pytest.raises(RunError):
        fetch(manifest(serve(answer)), progress=False)
    assert not [path for path in files(cache) if path.name == "a.dat"]


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/a", "data:,evil", "gopher://a"])
def test_a_redirect_leads_to_no_file_and_no_other_protocol(
    serve: Callable[[Answer], str], cache: Path, target: str
) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.end_headers()

    with pytest.raises(RunError, match=r"offline.*(redirects|302)"):
        fetch(manifest(serve(answer)), progress=False)
    assert not files(cache)


@pytest.mark.parametrize("target", ["http://example.org/a", "http://127.0.0.1/a", "ftp://a/b", "file:///a"])
def test_https_is_never_left(target: str) -> None:
    request = urllib.request.Request("https://example.org/a")
    with pytest.raises(_Refused, match="redirects from https"):
        _Redirects().redirect_request(request, None, 302, "", {}, target)
    followed = _Redirects().redirect_request(request, None, 302, "", {}, "https://example.com/b")
    assert followed.full_url == "https://example.com/b"


def test_a_circle_of_redirects_ends(serve: Callable[[Answer], str], bounded: Callable[..., Any]) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/a.dat")
        handler.end_headers()

    with bounded(seconds=20), pytest.raises(RunError, match="offline"):
        fetch(manifest(serve(answer)), progress=False)


def test_the_right_size_with_other_content_is_not_kept(serve: Callable[[Answer], str], cache: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"x" * 1000)

    with pytest.raises(RunError, match="wrong hash"):
        fetch(manifest(serve(answer)), progress=False)
    assert not files(cache)


# ---- manifests

BAD_NAMES = [
    "../../x",
    "/etc/x",
    "a/b",
    "..",
    ".",
    "",
    ".hidden",
    "a\nb",
    "a\0b",
    "$(touch x)",
    "-rf",
    "a b",
    "ａ",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(ValidationError):
        FileEntry.model_validate(FILE | {"name": name})
    with pytest.raises(ValidationError):
        Manifest.model_validate(PLAIN | {"name": name})


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "http://example.org/a", "ftp://a/b", "data:,a", "/a", "HTTP://a"]
)
def test_a_url_is_https(url: str) -> None:
    with pytest.raises(ValidationError, match="https"):
        FileEntry.model_validate(FILE | {"urls": [url]})


@pytest.mark.parametrize(
    "source",
    [
        "pypi:a==1 --index-url https://evil!x",
        "pypi:a==1\n--index-url=https://evil!x",
        "pypi:-r==1!x",
        "pypi:a;b==1!x",
        "pypi:a @ https://evil==1!x",
        "pypi:a==1!../../x",
        "pypi:a==1!/etc/passwd",
        "npm:../../a@1!x",
        "npm:a/../../b@1!x",
        "npm:a@1/../../b!x",
        "npm:a@1?x!x",
    ],
)
def test_a_source_adds_no_options_and_no_paths(source: str) -> None:
    plain = {"name": "x", "bytes": 1, "sha256": SHA, "source": source, "package_sha256": SHA}
    with pytest.raises(ValidationError):
        FileEntry.model_validate(plain)


def test_a_manifest_that_somebody_sent_imports_no_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil" / "__init__.py").touch()
    (tmp_path / "evil" / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for command in ("evil.code", "os.path", "sciencevae.builtinx.code", "sciencevae.cli.main"):
        generated = PLAIN | {"files": [{"name": "a", "generate": {"command": command}}]}
        (tmp_path / "evil.yaml").write_text(yaml.safe_dump(generated))
        with pytest.raises(InputError, match="belongs to no domain here"):
            fetch(tmp_path / "evil.yaml", progress=False)
    assert not (tmp_path / "ran").exists()
    ours = PLAIN | {"files": [{"name": "a", "generate": {"command": "sciencevae.builtin.xy.simulate"}}]}
    (tmp_path / "evil.yaml").write_text(yaml.safe_dump(ours))
    assert load_manifest(tmp_path / "evil.yaml").generated


# ---- others in the same cache


def test_links_that_another_put_into_the_cache_are_not_written_through(
    serve: Callable[[Answer], str], cache: Path, tmp_path: Path
) -> None:
    """Lock and partial file have known names: what they would lead to stays as it is."""
    owned = tmp_path / "owned"
    owned.write_text("mine")
    url = serve(endless)
    for name in (".a.dat.lock", ".a.dat.part"):
        (cache / "evil").mkdir(parents=True, exist_ok=True)
        (cache / "evil" / name).symlink_to(owned)
        with pytest.raises((RunError, InputError)):
            fetch(manifest(url), progress=False)
        assert owned.read_text() == "mine"
        (cache / "evil" / name).unlink(missing_ok=True)


def test_a_pipe_in_place_of_the_partial_file(
    serve: Callable[[Answer], str], cache: Path, bounded: Any
) -> None:
    (cache / "evil").mkdir(parents=True)
    os.mkfifo(cache / "evil" / ".a.dat.part")
    with bounded(seconds=15), pytest.raises(RunError, match="a link or a pipe: remove it"):
        fetch(manifest(serve(endless)), progress=False)


def test_unreachable_is_one_line(tmp_path: Path) -> None:
    wanted = Transfer("a\nb", "http://127.0.0.1:1/a", 10, 10)
    with pytest.raises(Unreachable) as error:
        download(wanted, tmp_path / "part", enabled=False)
    assert "\n" not in str(error.value)
