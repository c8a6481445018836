"""A Gaia archive in this process: what a TAP service answers, and every way in which it may answer less."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io.votable import from_table
from astropy.io.votable.tree import Info
from astropy.table import Table
from sciencevae.builtin.stars import archive
from sciencevae.builtin.stars.archive import adql, query_gaia
from sciencevae.builtin.stars.columns import ALIASES, read_catalogue

from sciencevae.data import fetch as fetching
from sciencevae.data.manifest import load_manifest
from sciencevae.errors import InputError, RunError

pytest.importorskip("pyvo", reason="the extra gaia is not installed")

CONE = (359.9, 1.0), 2.0  # over RA 0


def sky() -> Table:
    """4,000 stars on both sides of RA 0, a tenth without parallax and motion, under the archive's names."""
    rng = np.random.default_rng(6)
    data = {name: rng.normal(0, 0.05 if name.endswith("_corr") else 0.2, 4000) for name in archive.COLUMNS}
    data["source_id"] = rng.permutation(4000) + 4_000_000_000_000_000_001
    data["ra"], data["dec"] = rng.uniform(356, 364, 4000) % 360, rng.uniform(-3, 5, 4000)
    data["phot_g_mean_mag"] = rng.uniform(10, 21, 4000)
    for name in data:
        if name.endswith("_error"):
            data[name] = rng.uniform(0.02, 0.5, 4000)
    unsolved = np.arange(4000) % 10 == 0
    if "astrometric_params_solved" in data:
        data["astrometric_params_solved"] = np.where(unsolved, 3, 31)
    table = Table(data, masked=True)
    for name in ("parallax", "pmra", "pmdec", "parallax_error", "pmra_error", "pmdec_error"):
        table[name].mask = unsolved
    return table


@dataclass
class Archive:
    """A TAP service of one table; the fields say how it misbehaves."""

    stars: Table = field(default_factory=sky)
    url: str = ""
    queries: list[str] = field(default_factory=list)
    deleted: list[int] = field(default_factory=list)
    most: int | None = None  # rows in an answer
    says_so: bool = True
    left_out: str = ""
    error: str = ""  # of the job
    document: bytes | None = None  # in place of an answer
    cut: Callable[[bytes], bytes] = bytes
    status: int = 0  # of HTTP, for every request
    silent: threading.Event | None = None  # no request is answered before this
    stuck: bool = False  # jobs never end
    slow: threading.Event | None = None  # half of the answer, the rest after this

    def within(self, ra: float, dec: float, radius: float, limit: float) -> np.ndarray:
        """By astropy, not by us."""
        place = SkyCoord(self.stars["ra"] * u.deg, self.stars["dec"] * u.deg)
        away = place.separation(SkyCoord(ra * u.deg, dec * u.deg)).deg
        return np.flatnonzero((away <= radius) & (self.stars["phot_g_mean_mag"] <= limit))

    def answer(self, query: str, maxrec: int) -> bytes:
        match = re.fullmatch(
            r"SELECT (?P<what>.+) FROM gaiadr3\.gaia_source WHERE 1 = CONTAINS\(POINT\('ICRS', ra, dec\), "
            r"CIRCLE\('ICRS', ([\d.-]+), ([\d.-]+), ([\d.]+)\)\)( AND phot_g_mean_mag <= (?P<limit>[\d.]+))?"
            r"(?P<order> ORDER BY source_id)?",
            query,
        )
        assert match, query
        rows = self.within(*map(float, match.groups()[1:4]), limit=float(match["limit"] or 99))
        if match["what"] == "COUNT(*) AS stars":
            return document(Table({"stars": np.array([len(rows)])}), "OK")
        chosen = self.stars[rows][[name for name in match["what"].split(", ") if name != self.left_out]]
        assert match["order"]
        chosen.sort("source_id")
        most = min(maxrec, self.most or maxrec)
        over = len(chosen) > most
        return self.cut(document(chosen[:most], "OVERFLOW" if over and self.says_so else "OK"))


def document(table: Table, status: str) -> bytes:
    made = from_table(table)
    made.resources[0].infos.append(Info(name="QUERY_STATUS", value=status))
    text = io.BytesIO()
    made.to_xml(text, tabledata_format="binary2")
    return text.getvalue()


JOB = """<?xml version="1.0"?>
<uws:job xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1">
<uws:jobId>{number}</uws:jobId><uws:phase>{phase}</uws:phase><uws:quote/><uws:executionDuration>0</uws:executionDuration>
<uws:destruction/><uws:results>{result}</uws:results>{error}</uws:job>"""
RESULT = '<uws:result id="result" xlink:href="{url}/async/{number}/results/result"/>'
ERROR = '<uws:errorSummary type="fatal"><uws:message>{text}</uws:message></uws:errorSummary>'


def handler(served: Archive) -> type[BaseHTTPRequestHandler]:
    jobs: dict[int, dict[str, str]] = {}

    class Handler(BaseHTTPRequestHandler):
        def say(self, body: bytes, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def refused(self) -> bool:
            if served.silent:
                served.silent.wait(30)
            if served.status:
                self.say(b"down for maintenance", served.status)
            return bool(served.status or served.silent)

        def do_POST(self) -> None:
            said = {
                k: v[0]
                for k, v in parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).items()
            }
            if self.refused():
                return
            _, _, number, *_ = f"{self.path.removeprefix('/tap')}//".split("/")
            if number and said.get("ACTION") == "DELETE":
                served.deleted.append(int(number))
                self.say(b"")
                return
            if number:
                assert said == {"PHASE": "RUN"}
                jobs[int(number)]["phase"] = (
                    "EXECUTING" if served.stuck else "ERROR" if served.error else "COMPLETED"
                )
            else:
                assert self.path == "/tap/async"
                assert (said["REQUEST"], said["LANG"]) == ("doQuery", "ADQL")
                served.queries.append(said["QUERY"])
                number = str(len(served.queries))
                jobs[int(number)] = {**said, "phase": "PENDING"}
            self.say(b"", 303, Location=f"{served.url}/async/{number}")

        def do_DELETE(self) -> None:
            served.deleted.append(int(self.path.rpartition("/")[2]))
            self.say(b"")

        def do_GET(self) -> None:
            if self.refused():
                return
            number = int(self.path.partition("async/")[2].partition("/")[0])
            job = jobs[number]
            if self.path.endswith("/result"):
                body = served.document or served.answer(job["QUERY"], int(job["MAXREC"]))
                if served.slow and "COUNT" not in job["QUERY"]:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body[: len(body) // 2])
                    self.wfile.flush()
                    served.slow.wait(60)
                    return
                self.say(body)
                return
            error = ERROR.format(text=served.error) if served.error else ""
            result = RESULT.format(url=served.url, number=number) if job["phase"] == "COMPLETED" else ""
            self.say(JOB.format(number=number, phase=job["phase"], result=result, error=error).encode())

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SCIENCEVAE_MIRROR", "SCIENCEVAE_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SCIENCEVAE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("sciencevae.data.download._PAUSE_S", 0.01)
    monkeypatch.setattr(archive, "_POLL_S", (0.01, 0.05))
    return tmp_path / "cache"


@pytest.fixture
def service(cache: Path) -> Iterator[Archive]:
    served = Archive()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler(served))
    threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
    served.url = f"http://127.0.0.1:{httpd.server_address[1]}/tap"
    yield served
    for event in (served.slow, served.silent):
        if event:
            event.set()
    httpd.shutdown()
    httpd.server_close()


def asked(served: Archive, **other: object) -> Path:
    return query_gaia(*CONE, service=served.url, **other)


def left(cache: Path) -> list[str]:
    """What lies in the cache, but for the locks."""
    return sorted(
        path.name for path in cache.rglob("*") if path.is_file() and not path.name.endswith(".lock")
    )


def test_the_cone_comes_whole_and_reads_as_a_catalogue(service: Archive) -> None:
    path = asked(service, magnitude_max=18.5)
    (frame,) = read_catalogue(path)
    chosen = service.stars[service.within(*CONE[0], CONE[1], 18.5)]
    chosen.sort("source_id")
    assert len(frame) == len(chosen) > 500
    assert (frame["source_id"].to_numpy() == chosen["source_id"]).all()
    np.testing.assert_array_equal(frame["pmra_mas_yr"], chosen["pmra"].filled(np.nan))
    np.testing.assert_array_equal(frame["parallax_pmra_corr"], chosen["parallax_pmra_corr"])
    assert frame["parallax_mas"].isna().sum() == chosen["parallax"].mask.sum() > 0
    assert (frame["status"] == "").all()
    assert service.deleted == [1, 2]  # nothing stays on the archive
    recipe = json.loads((path.parent / "recipe.json").read_text())
    assert recipe["version"] == archive.VERSION
    assert recipe["parameters"]["magnitude_max"] == 18.5


def test_every_column_that_is_read_is_asked_for() -> None:
    assert [name for name, known in ALIASES.items() if not set(known) & set(archive.COLUMNS)] == []
    assert set(archive.COLUMNS) <= {variable.name for variable in load_manifest("gaia").variables}


def test_the_second_time_it_comes_from_the_cache_and_another_cone_does_not(service: Archive) -> None:
    path = asked(service)
    before = len(service.queries)
    assert asked(service) == path
    assert len(service.queries) == before
    assert asked(service, magnitude_max=15) != path
    assert len(service.queries) == before + 2


@pytest.mark.parametrize("damage", [lambda b: b[:-100], lambda b: b[:300] + b"X" + b[301:], lambda b: b""])
def test_a_damaged_cache_is_noticed_and_asked_for_again(
    service: Archive, damage: Callable[[bytes], bytes]
) -> None:
    path = asked(service)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    before = len(service.queries)
    assert asked(service).read_bytes() == whole
    assert len(service.queries) == before + 2


def test_another_query_text_is_another_entry(service: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    path = asked(service)
    monkeypatch.setattr(archive, "VERSION", archive.VERSION + 1)
    assert asked(service) != path


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"most": 500}, r"cut its answer off after 500 rows \(OVERFLOW\): choose a smaller radius_deg"),
        ({"most": 500, "says_so": False}, r"sent 500 of [\d,]+ stars: it limits the rows of an answer"),
        ({"cut": lambda b: b[: len(b) // 2] if len(b) > 5000 else b}, "a VOTable that is cut off or broken"),
        ({"left_out": "pmra_error"}, "left out the columns pmra_error"),
        (
            {"error": "Column pmra is unknown"},
            "refused the query: .*Column pmra is unknown.* The query: SELECT",
        ),
        ({"document": b"<html><body>Sorry</body></html>"}, "a VOTable that is cut off or broken"),
        ({"status": 503}, r"can't be reached \(.*503.*--input: SELECT source_id, ra"),
        ({"status": 404}, r"can't be reached \(.*404"),
    ],
)
def test_anything_less_is_an_error_and_nothing_is_kept(
    service: Archive, cache: Path, wrong: dict[str, object], message: str
) -> None:
    for name, value in wrong.items():
        setattr(service, name, value)
    with pytest.raises(RunError, match=message):
        asked(service)
    assert left(cache) == []
    for name in wrong:
        setattr(service, name, getattr(Archive(Table()), name))
    assert asked(service).is_file()


def test_an_error_document_says_why(service: Archive, cache: Path) -> None:
    service.document = (
        b'<VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE type="results">'
        b'<INFO name="QUERY_STATUS" value="ERROR">Disk quota exceeded</INFO><TABLE/></RESOURCE></VOTABLE>'
    )
    with pytest.raises(RunError, match="answered with an error: Disk quota exceeded"):
        asked(service)
    assert left(cache) == []


def test_a_service_that_is_no_tap_service(service: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "JOB", "<html><body>Welcome</body></html>")
    with pytest.raises(RunError, match="does not answer as a TAP service does"):
        asked(service)


def test_no_service_there(cache: Path) -> None:
    with pytest.raises(
        RunError, match=r"127.0.0.1:9/tap can't be reached .* and the cache has no answer to this query"
    ):
        query_gaia(*CONE, service="http://127.0.0.1:9/tap")


def test_a_service_that_says_nothing_and_a_job_that_never_ends(
    service: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "_TIMEOUT_S", 0.2)
    service.silent = threading.Event()
    with pytest.raises(RunError, match=r"can't be reached \(.*timed out"):
        asked(service)
    service.silent.set()
    service.silent, service.stuck = None, True
    monkeypatch.setattr(archive, "_PATIENCE_S", 0.3)
    with pytest.raises(RunError, match=r"has not answered within 0.3 s \(its job is executing\): try again"):
        asked(service)
    assert service.deleted[-1] == len(service.queries)


def test_too_many_stars_are_not_fetched(service: Archive) -> None:
    with pytest.raises(
        InputError, match=r"stars in this cone, more than rows_max = 100: choose a smaller radius_deg"
    ):
        asked(service, rows_max=100)
    assert ["COUNT" in query for query in service.queries] == [True]


def test_killed_in_the_middle_leaves_nothing_that_counts(service: Archive, cache: Path) -> None:
    service.slow = threading.Event()
    code = (
        "from sciencevae.builtin.stars.archive import query_gaia\n"
        f"query_gaia({CONE[0]}, {CONE[1]}, service={service.url!r})"
    )
    process = subprocess.Popen([sys.executable, "-P", "-c", code], env=os.environ, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60

    def half() -> bool:
        return len(service.queries) == 2 and any(path.stat().st_size > 1000 for path in cache.rglob(".tmp-*"))

    while not half() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert half()
    process.send_signal(signal.SIGKILL)
    process.wait()
    service.slow.set()
    service.slow = None
    assert not list(cache.rglob("recipe.json"))
    asked(service)
    assert left(cache) == ["gaia.parquet", "recipe.json"]


def test_offline_what_is_cached_is_there_and_what_is_not_says_how_to_get_it(
    service: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = asked(service)
    monkeypatch.setenv("SCIENCEVAE_OFFLINE", "1")
    assert asked(service) == path
    with pytest.raises(
        RunError, match=r"SCIENCEVAE_OFFLINE is set, .* give the result as a file of your own"
    ):
        asked(service, magnitude_max=12)


def test_without_pyvo_the_error_names_the_extra(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyvo.dal", None)
    with pytest.raises(InputError, match=r"pip install 'sciencevae\[gaia\]'"):
        query_gaia(*CONE, service="http://127.0.0.1:9/tap")


@pytest.mark.parametrize(
    ("position", "radius", "other", "message"),
    [
        ((400, 1), 2, {}, "RA is 0 to 360 and Dec −90 to 90 degrees, not 400 1"),
        ((1, -91), 2, {}, "not 1 -91"),
        ((float("nan"), 1), 2, {}, "plain numbers"),
        ((1, 1), 0, {}, "radius_deg is more than 0 and at most 90 degrees, not 0"),
        ((1, 1), 2, {"table": "t; DROP TABLE t"}, "a table of an archive is a name like gaiadr3.gaia_source"),
        ((1, 1), 2, {"tabel": "t"}, "no parameter 'tabel'; did you mean 'table'"),
    ],
)
def test_bad_questions(
    cache: Path, position: tuple[float, float], radius: float, other: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        query_gaia(position, radius, **other)


def test_a_mirror_of_everything_leaves_queries_out(
    service: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "list_manifests", lambda: ["gaia"])
    assert fetching.mirror(tmp_path / "mirror", progress=False) == []
    assert adql({**load_manifest("gaia").files[0].generate.parameters}).endswith("<= 18.0 ORDER BY source_id")
