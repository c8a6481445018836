"""Data sets, a web server that misbehaves on demand, and a clean cache, for the tests of ``sciencevae.data``."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import settings

from sciencevae.data.manifest import Citation, FileEntry, Manifest, Splits

settings.register_profile("shared machine", deadline=None, max_examples=50)
settings.load_profile("shared machine")


@pytest.fixture(autouse=True)
def cache(own_cache: Path) -> Path:
    return own_cache


@dataclass
class Server:
    """Serves ``content`` at every path; ``behaviour`` gets the handler and returns True when it has answered."""

    url: str
    content: bytes
    requests: list[str | None] = field(default_factory=list)  # the range each asked for
    paths: list[str] = field(default_factory=list)
    behaviour: Callable[[BaseHTTPRequestHandler], bool] | None = None

    def manifest(self, **changes: object) -> Manifest:
        entry = {
            "name": "stars.dat",
            "bytes": len(self.content),
            "sha256": hashlib.sha256(self.content).hexdigest(),
            "urls": (f"{self.url}/stars.dat",),
        }
        return _manifest(FileEntry.model_validate(entry | changes))


@pytest.fixture
def make_manifest() -> Callable[..., Manifest]:
    """make_manifest(*files): a data set of these files."""
    return _manifest


def _manifest(*files: FileEntry) -> Manifest:
    return Manifest(
        name="toy",
        version="1",
        title="A toy",
        description="for tests",
        license="CC0-1.0",
        citation=Citation(bibtex="@misc{toy}"),
        files=files,
        splits=Splits(group="row"),
    )


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server("", np.random.default_rng(0).bytes(300_000))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            served.requests.append(wanted)
            served.paths.append(self.path)
            content = served.content
            if served.behaviour and served.behaviour(self):
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            self.send_response(206 if wanted else 200)
            if wanted:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:])

        def log_message(self, *_: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    yield served
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture(scope="session")
def table() -> Callable[..., xr.Dataset]:
    """table(n, seed, groups): a prepared table of 4 variables with noise and a condition, in groups."""
    return _table


def _table(n: int = 1000, seed: int = 0, groups: int | None = None) -> xr.Dataset:
    from sciencevae.data.splits import with_splits

    rng = np.random.default_rng(seed)
    x = rng.normal([5, -2, 0, 1e4], [3, 0.1, 1, 20], (n, 4)).astype("f4")
    x[rng.random((n, 4)) < 0.05] = np.nan
    ds = xr.Dataset(
        {
            "x": (("sample", "variable"), x, {"units": "mas", "long_name": "measurements"}),
            "noise": (("sample", "variable"), rng.uniform(0.1, 1, (n, 4)).astype("f4"), {"units": "mas"}),
            "condition": (("sample", "feature"), rng.normal(size=(n, 2)), {"units": "1"}),
            "target": (("sample",), rng.normal(size=n).astype("f4"), {"units": "1"}),
        },
        coords={
            "group": ("sample", rng.integers(0, groups or n // 5, n)),
            "row": ("sample", np.arange(n)),
            "name": ("sample", np.array([f"star {i}" for i in range(n)])),
            "variable": ["a", "b", "c", "d"],
        },
        attrs={"domain": "toy", "dataset": "toy"},
    )
    return with_splits(ds, seed=seed)
