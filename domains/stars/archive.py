"""Stars of a cone from the Gaia archive, or another TAP service with its table: one ADQL query, cached and hashed.

``fetch`` calls ``generate`` for the data set ``gaia``: a query is cached by its text and parameters, and the stars
that came back are kept with their sha256. Note 1: of what a TAP service offers only asynchronous jobs are used.
Synchronous answers of the Gaia archive end after 2,000 rows, and no service has to say so; so the rows are counted
first, and an answer of any other length is an error.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sciencevae.errors import InputError, RunError, ScienceVAEError

from .columns import ALIASES

if TYPE_CHECKING:
    from astropy.io.votable.tree import TableElement
    from pyvo.dal import TAPService

__all__ = ["COLUMNS", "VERSION", "adql", "generate", "query_gaia"]

_ASTROMETRY = ("ra", "dec", "parallax", "pmra", "pmdec")
#: what gaia_source (DR3) has of interest here, by its names there
_GAIA_SOURCE = frozenset(
    (
        *("source_id", "ref_epoch", *_ASTROMETRY, *(f"{name}_error" for name in _ASTROMETRY)),
        *(f"{a}_{b}_corr" for n, a in enumerate(_ASTROMETRY) for b in _ASTROMETRY[n + 1 :]),
        *("ruwe", "astrometric_excess_noise", "astrometric_excess_noise_sig", "astrometric_params_solved"),
        *("nu_eff_used_in_astrometry", "pseudocolour", "ecl_lat", "radial_velocity", "radial_velocity_error"),
        *("phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag", "bp_rp"),
    )
)
#: the columns asked for: those that we can read
COLUMNS = tuple(dict.fromkeys(name for names in ALIASES.values() for name in names if name in _GAIA_SOURCE))
_CELL_BYTES = 64  # of one value in a VOTable, its tags included, at most
_HEADER_BYTES = 1 << 22
_TIMEOUT_S = 60.0  # of one request
_PATIENCE_S = 3600.0  # with one job
_POLL_S = (0.5, 10.0)  # the first pause between two looks at a job, and the longest


def query_gaia(
    position: tuple[float, float],
    radius_deg: float,
    magnitude_max: float | None = None,
    **other: Any,
) -> Path:
    """A Parquet file of the stars within ``radius_deg`` of ``position`` (RA, Dec; degrees, ICRS), not fainter in G.

    other: ``service``, ``table``, ``rows_max`` as in ``data_manifests/gaia.yaml``.

    What was asked before comes from the cache, its hash checked. Raises InputError: a place off the sky, more stars
    than ``rows_max``. RunError: the service can't be reached, refuses, or sends less than it counted.
    """
    from sciencevae.data.fetch import fetch

    ra, dec = position
    cone = {"ra_deg": float(ra), "dec_deg": float(dec), "radius_deg": float(radius_deg)}
    limit = None if magnitude_max is None else float(magnitude_max)
    return fetch("gaia", parameters=cone | {"magnitude_max": limit} | other)["gaia.parquet"]


def adql(parameters: Mapping[str, Any], count: bool = False) -> str:
    """The query: ``COLUMNS`` of the stars in the cone, by source_id; or their number."""
    ra, dec, radius, limit = (
        parameters[name] for name in ("ra_deg", "dec_deg", "radius_deg", "magnitude_max")
    )
    table = str(parameters["table"])
    if not re.fullmatch(r"\w+(\.\w+)*", table):
        raise InputError(f"a table of an archive is a name like gaiadr3.gaia_source, not {table!r}")
    if not (0 <= ra <= 360 and -90 <= dec <= 90):
        raise InputError(f"RA is 0 to 360 and Dec −90 to 90 degrees, not {ra:g} {dec:g}")
    if not 0 < radius <= 90:
        raise InputError(f"radius_deg is more than 0 and at most 90 degrees, not {radius:g}")
    what = "COUNT(*) AS stars" if count else ", ".join(COLUMNS)
    where = f"1 = CONTAINS(POINT('ICRS', ra, dec), CIRCLE('ICRS', {ra!r}, {dec!r}, {radius!r}))"
    bright = "" if limit is None else f" AND phot_g_mean_mag <= {float(limit)!r}"
    order = "" if count else " ORDER BY source_id"
    return f"SELECT {what} FROM {table} WHERE {where}{bright}{order}"


_EXAMPLE = {"ra_deg": 1.0, "dec_deg": 1.0, "radius_deg": 1.0, "magnitude_max": 1.0, "table": "t"}
VERSION: int = int(hashlib.sha256(adql(_EXAMPLE).encode()).hexdigest()[:12], 16)
"""Another one for another text of the query: then what is cached is asked for anew."""


def generate(
    path: Path, parameters: Mapping[str, Any], seed: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write the answer of the service into ``path``: Parquet, of a VOTable that is checked to be whole."""
    query, counting = adql(parameters), adql(parameters, count=True)
    service, most = str(parameters["service"]).rstrip("/"), int(parameters["rows_max"])
    if os.environ.get("SCIENCEVAE_OFFLINE", "0") not in {"", "0"}:
        raise RunError(f"SCIENCEVAE_OFFLINE is set, {_by_hand(service, query)}")
    tap = _service(service)
    with _said(service, query):
        _answer(tap, counting, 1, path, service)
        stars = int(_table(path, service).array["stars"][0])
        if stars > most:
            raise InputError(
                f"{stars:,} stars in this cone, more than rows_max = {most:,}: choose a smaller radius_deg or a "
                "brighter magnitude_max, or raise rows_max as far as the archive allows"
            )
        path.unlink()
        _answer(tap, query, stars, path, service)
    found = _table(path, service)
    if len(found.array) != stars:
        raise RunError(
            f"{service} sent {len(found.array):,} of {stars:,} stars: it limits the rows of an answer. Choose a "
            "smaller radius_deg or a brighter magnitude_max"
        )
    frame = found.to_table().to_pandas().rename(columns=str.lower)
    if missing := [name for name in COLUMNS if name not in frame]:
        raise RunError(f"{service} left out the columns {', '.join(missing)}")
    frame[list(COLUMNS)].to_parquet(path, index=False)  # which is read in blocks, and a VOTable is not


def _service(url: str) -> TAPService:
    try:
        from pyvo.dal import TAPService
        from requests import Session
    except ImportError as error:
        raise InputError(
            f"to query an archive, pyvo is needed ({error}): pip install 'sciencevae[gaia]'"
        ) from error

    class Patient(Session):
        """pyvo states no time limit for most requests."""

        def request(self, *args: Any, **options: Any) -> Any:
            return super().request(*args, **{"timeout": _TIMEOUT_S, **options})

    return TAPService(url, session=Patient())


@contextmanager
def _said(service: str, query: str) -> Iterator[None]:
    """What pyvo raises, in a line with what to do."""
    from pyvo.dal import DALQueryError, DALServiceError
    from requests import RequestException

    from sciencevae.data.download import Unreachable

    try:
        yield
    except DALQueryError as error:
        raise RunError(f"{service} refused the query: {_line(error)}. The query: {query}") from error
    except (DALServiceError, RequestException, Unreachable) as error:
        raise RunError(f"{service} can't be reached ({_line(error)}), {_by_hand(service, query)}") from error
    except ScienceVAEError:
        raise
    except Exception as error:  # what pyvo's parsers stumble over in an answer that is no UWS job
        raise RunError(f"{service} does not answer as a TAP service does: {_line(error)}") from error


def _by_hand(service: str, query: str) -> str:
    return (
        "and the cache has no answer to this query. Where there is a network, ask it with the same cache, or give "
        f"the result as a file of your own with --input: {query} (at {service})"
    )


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _answer(tap: TAPService, query: str, rows: int, path: Path, service: str) -> None:
    """The result of one asynchronous job, as a file."""
    from sciencevae.data.download import Transfer, download

    with tap.submit_job(query, maxrec=rows + 1) as job:  # one more: a full answer must not look cut
        job.run()
        end, pause = time.monotonic() + _PATIENCE_S, _POLL_S[0]
        while (phase := job.phase) not in {"COMPLETED", "ERROR", "ABORTED"}:
            if not phase:
                raise RunError(f"{service} does not answer as a TAP service does: its job is in no phase")
            if time.monotonic() > end:
                raise RunError(
                    f"{service} has not answered within {_PATIENCE_S:g} s (its job is {phase.lower()}): try again "
                    "later, or choose a smaller radius_deg or a brighter magnitude_max"
                )
            time.sleep(pause)
            pause = min(1.5 * pause, _POLL_S[1])
        job.raise_if_error()
        if not job.result_uri:
            raise RunError(f"{service}: the job ended as {phase.lower()}, without a result: try again later")
        limit = _HEADER_BYTES + rows * len(COLUMNS) * _CELL_BYTES
        download(Transfer("the answer of the archive", job.result_uri, None, limit), path, False)


def _table(path: Path, service: str) -> TableElement:
    """The table of an answer; RunError where it is an error document, cut off, or no VOTable."""
    import warnings

    from astropy.io.votable import parse

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # archives' VOTables are not to the letter
            document = parse(path)
            table = document.get_first_table()
    except Exception as error:  # whatever the parser stumbles over
        raise RunError(f"{service} sent a VOTable that is cut off or broken: {_line(error)}") from error
    infos = [info for place in (document, *document.resources, table) for info in place.infos]
    status = [info for info in infos if info.name.upper() == "QUERY_STATUS"]
    if any(info.value.upper() == "OVERFLOW" for info in status):
        raise RunError(
            f"{service} cut its answer off after {len(table.array):,} rows (OVERFLOW): choose a smaller radius_deg "
            "or a brighter magnitude_max"
        )
    if wrong := next((info for info in status if info.value.upper() == "ERROR"), None):
        raise RunError(f"{service} answered with an error: {' '.join((wrong.content or '').split())[:300]}")
    return table
