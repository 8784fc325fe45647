"""A catalogue service on this machine: TAP (immediate answers and UWS jobs) and simple cone search.

It reads the ADQL and the parameters it is sent and really evaluates region, cuts, TOP and MAXREC on the tables it
serves, by another formula than the package's (haversine). Standards: TAP 1.1, UWS 1.1, SCS 1.03, DALI 1.1 (ivoa.net).

Faults are put into `faults`; each request takes the next one (see `Faults`).
"""

import gzip
import io
import json
import re
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
from astropy import units as u
from astropy.io.votable import from_table
from astropy.io.votable.tree import Info
from astropy.table import MaskedColumn, Table

from lightcurver_ops.catalogs.panstarrs import BANDS
from lightcurver_ops.catalogs.vizier import GAIA_COLUMNS

Faults = Literal[
    "ok",  # no fault
    "404", "429", "500", "503", "503 later",  # a status; `later` with Retry-After: 1
    "slow",  # the answer starts after `slow_s`
    "drip",  # one byte in 50 ms
    "truncated",  # half of the announced bytes
    "half",  # half of the bytes, announced as all
    "html", "empty", "json",  # 200 with something that is no VOTable
    "error",  # 200 with a VOTable of QUERY_STATUS ERROR
    "reset",  # the connection is closed without an answer
    "gzip",  # packed, without saying so
    "fewer",  # a whole answer that lacks its last rows and says nothing
]  # fmt: skip

NUMBER = r"([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)"
SELECT = re.compile(
    r"\s*SELECT\s+(?:TOP\s+(?P<top>\d+)\s+)?(?P<columns>.+?)\s+FROM\s+(?P<table>\"[^\"]+\"|[\w.]+)"
    r"(?:\s+WHERE\s+(?P<where>.+?))?\s*$",
    re.IGNORECASE | re.DOTALL,
)
CONE = re.compile(
    rf"1\s*=\s*CONTAINS\(\s*POINT\(\s*'ICRS'\s*,\s*(\w+)\s*,\s*(\w+)\s*\)\s*,\s*"
    rf"CIRCLE\(\s*'ICRS'\s*,\s*{NUMBER}\s*,\s*{NUMBER}\s*,\s*{NUMBER}\s*\)\s*\)",
    re.IGNORECASE,
)
CUT = re.compile(rf"(\w+)\s*(<=|>=|<|>|=)\s*{NUMBER}")
OPERATORS = {"<=": np.less_equal, ">=": np.greater_equal, "<": np.less, ">": np.greater, "=": np.equal}


class Refused(Exception):
    """A question that the service does not understand."""


def within(table: Table, ra: str, dec: str, ra0: float, dec0: float, radius: float) -> np.ndarray:
    """Rows in a cone, by haversines."""
    a, d = np.radians(np.asarray(table[ra], float)), np.radians(np.asarray(table[dec], float))
    a0, d0 = np.radians(ra0), np.radians(dec0)
    haversine = np.sin((d - d0) / 2) ** 2 + np.cos(d) * np.cos(d0) * np.sin((a - a0) / 2) ** 2
    return 2 * np.degrees(np.arcsin(np.sqrt(np.clip(haversine, 0, 1)))) <= radius


class CatalogServer(ThreadingHTTPServer):
    """Serves `tables`: name -> table. Everything that tests set is an attribute."""

    daemon_threads = True

    def __init__(self, tables: dict[str, Table]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.tables = tables
        self.cone_columns = {"I/355/gaiadr3": ("RA_ICRS", "DE_ICRS"), "II/349/ps1": ("RAJ2000", "DEJ2000")}
        self.faults: deque[Faults] = deque()
        self.fault_paths = ""  # regular expression: where they happen
        self.hard_limit: int | None = None  # rows of an answer
        self.says_overflow = True
        self.largest_cone: float | None = (
            None  # degrees: wider ones are refused (TAP) or narrowed (cone search)
        )
        self.slow_s = 1.0
        self.job_s = 0.0  # how long a job runs
        self.job_fails = ""  # with this message
        self.deletes_jobs = True
        self.asked: list[tuple[str, str]] = []  # path, ADQL or parameters
        self.jobs: dict[str, dict] = {}
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_port}"

    def settings(self, **more: object) -> dict:
        """Keys of the group `catalogs` that lead here."""
        return {
            "gaia_url": f"{self.url}/tap",
            "vizier_url": f"{self.url}/tap",
            "mast_url": f"{self.url}/tap",
            "timeout_seconds": 10,
            "retries": 2,
            "retry_delay_seconds": 0.01,
            **more,
        }

    def next_fault(self, path: str) -> Faults:
        """The fault of this request."""
        with self.lock:
            if self.faults and re.search(self.fault_paths, path):
                return self.faults.popleft()
        return "ok"

    def evaluate(self, adql: str, maxrec: int | None) -> tuple[Table, bool]:
        """The answer to a query, and whether it is cut."""
        query = SELECT.match(adql)
        if query is None:
            raise Refused(f"syntax error in: {adql[:60]}")
        name = query["table"].strip('"')
        if name not in self.tables:
            raise Refused(f"unknown table {name}")
        table = self.tables[name]
        rows = np.ones(len(table), bool)
        where = query["where"] or ""

        def cone(match: re.Match) -> str:
            ra, dec = (self._column(table, match[k]) for k in (1, 2))
            numbers = [float(match[k]) for k in (3, 4, 5)]
            if self.largest_cone is not None and numbers[2] > self.largest_cone:
                raise Refused(f"cones are limited to {self.largest_cone} degrees")
            rows[:] &= within(table, ra, dec, *numbers)
            return ""

        def cut(match: re.Match) -> str:
            values = table[self._column(table, match[1])]
            known = ~np.ma.getmaskarray(values)
            rows[:] &= known & OPERATORS[match[2]](np.asarray(values), float(match[3]))
            return ""

        rest = CUT.sub(cut, CONE.sub(cone, where))
        if rest.replace("AND", "").strip():
            raise Refused(f"cannot evaluate: {rest.strip()}")
        if count := re.fullmatch(r"COUNT\(\*\)(?:\s+AS\s+(\w+))?", query["columns"], re.IGNORECASE):
            return Table({count[1] or "count": [int(rows.sum())]}), False
        names = [self._column(table, one.strip().strip('"')) for one in query["columns"].split(",")]
        answer = table[names][rows]
        answer = answer if query["top"] is None else answer[: int(query["top"])]
        return self._limited(answer, maxrec)

    def cone(self, name: str, parameters: dict[str, str]) -> tuple[Table, bool]:
        """The answer to a cone search, and whether it is cut."""
        if name not in self.tables:
            raise Refused(f"there is no catalogue {name}")
        ra, dec, radius = (float(parameters[key]) for key in ("RA", "DEC", "SR"))
        radius = min(radius, self.largest_cone or 180.0)
        table = self.tables[name]
        answer = table[within(table, *self.cone_columns[name], ra, dec, radius)]
        if int(parameters.get("VERB", 2)) < 3:
            answer = answer[answer.colnames[:6]]
        limit = parameters.get("MAXREC")
        return self._limited(answer, int(limit) if limit else None)

    def _column(self, table: Table, name: str) -> str:
        for own in table.colnames:
            if own.lower() == name.lower():
                return own
        raise Refused(f"unknown column {name}")

    def _limited(self, answer: Table, maxrec: int | None) -> tuple[Table, bool]:
        limits = [limit for limit in (maxrec, self.hard_limit) if limit is not None]
        if limits and len(answer) > min(limits):
            return answer[: min(limits)], self.says_overflow
        return answer, False


def votable(table: Table, overflow: bool = False) -> bytes:
    """A VOTable of a TAP answer, as binary2 as the archives send it."""
    document = from_table(table)
    infos = document.resources[0].infos
    document.resources[0].type = "results"
    infos.append(Info(name="QUERY_STATUS", value="OVERFLOW" if overflow else "OK"))
    buffer = io.BytesIO()
    document.to_xml(buffer, tabledata_format="binary2" if len(table) else "tabledata")
    return buffer.getvalue()


def error_document(message: str) -> bytes:
    """A VOTable that says what went wrong."""
    return (
        '<?xml version="1.0"?><VOTABLE version="1.3" xmlns="http://www.ivoa.net/xml/VOTable/v1.3">'
        f'<RESOURCE type="results"><INFO name="QUERY_STATUS" value="ERROR">{message}</INFO></RESOURCE></VOTABLE>'
    ).encode()


def as_json(table: Table) -> bytes:
    """The form in which the Gaia archive sends JSON."""
    types = {"i": "long", "f": "double"}
    fields = [
        {"name": name, "datatype": types[table[name].dtype.kind], "unit": "", "description": ""}
        for name in table.colnames
    ]
    rows = [[None if v is np.ma.masked else v.item() for v in row] for row in table.iterrows()]
    return json.dumps({"metadata": fields, "data": rows}).encode()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: CatalogServer
    protocol_version = "HTTP/1.0"

    def log_message(self, *_):
        """Keep quiet."""

    def do_GET(self):
        self._serve({})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        kind = self.headers.get("Content-Type", "")
        if "multipart" in kind:
            boundary = re.search(r"boundary=(\S+)", kind)[1].encode()
            found = re.findall(
                rb'name="(\w+)"\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--' + boundary, body, re.DOTALL
            )
            self._serve({name.decode(): value.decode() for name, value in found})
        else:
            self._serve({key: value[-1] for key, value in parse_qs(body.decode()).items()})

    def do_DELETE(self):
        if not self.server.deletes_jobs:
            self._send(b"jobs stay", status=405, kind="text/plain")
            return
        self.server.jobs.pop(urlsplit(self.path).path.split("/")[3], None)
        self._send(b"", location=f"{self.server.url}/tap/async", status=303)

    def _serve(self, form: dict[str, str]) -> None:
        url = urlsplit(self.path)
        given = {key: value[-1] for key, value in parse_qs(url.query).items()} | form
        parameters = {key.upper(): value for key, value in given.items()}
        path = unquote(url.path)
        self.server.asked.append((path, parameters.get("QUERY") or url.query))
        fault = self.server.next_fault(path)
        if fault == "reset":
            self.connection.close()
            return
        if fault == "slow":
            time.sleep(self.server.slow_s)
        if re.match(r"\d", fault):
            status, *later = fault.split()
            more = {"Retry-After": "1"} if later else {}
            self._send(b"the service rests", status=int(status), kind="text/plain", **more)
            return
        whole = {"html": b"<html><body>maintenance</body></html>", "empty": b"", "json": b'{"data": []}',
                 "error": error_document("the database is overloaded")}  # fmt: skip
        if fault in whole:
            self._send(whole[fault])
            return
        try:
            self._answer(path, parameters, fault)
        except Refused as error:
            self._send(error_document(str(error)), status=400)

    def _answer(self, path: str, parameters: dict[str, str], fault: str) -> None:
        if path == "/tap/sync":
            self._table(*self._run(parameters), parameters, fault)
        elif path.startswith("/cone/"):
            self._table(*self.server.cone(path.removeprefix("/cone/"), parameters), parameters, fault)
        elif path == "/tap/async":
            job = str(len(self.server.jobs) + 1)
            runs = parameters.get("PHASE") == "RUN"
            self.server.jobs[job] = {
                "parameters": parameters,
                "phase": "PENDING",
                "started": time.monotonic(),
            }
            if runs:
                self.server.jobs[job]["phase"] = "EXECUTING"
            self._send(b"", location=f"{self.server.url}/tap/async/{job}", status=303)
        elif match := re.fullmatch(r"/tap/async/(\d+)(/.*)?", path):
            self._job(match[1], match[2] or "", parameters, fault)
        else:
            self._send(b"no such page", status=404, kind="text/plain")

    def _run(self, parameters: dict[str, str]) -> tuple[Table, bool]:
        limit = parameters.get("MAXREC")
        return self.server.evaluate(parameters["QUERY"], int(limit) if limit else None)

    def _job(self, number: str, what: str, parameters: dict[str, str], fault: str) -> None:
        job = self.server.jobs.get(number)
        if job is None:
            self._send(b"no such job", status=404, kind="text/plain")
            return
        if what == "/phase" and parameters.get("PHASE") == "RUN":
            job |= {"phase": "EXECUTING", "started": time.monotonic()}
            self._send(b"", location=f"{self.server.url}/tap/async/{number}", status=303)
            return
        if job["phase"] == "EXECUTING" and time.monotonic() - job["started"] >= self.server.job_s:
            job["phase"] = "ERROR" if self.server.job_fails else "COMPLETED"
        if what == "/results/result":
            self._table(*self._run(job["parameters"]), job["parameters"], fault)
        elif what == "/phase":
            self._send(job["phase"].encode(), kind="text/plain")
        else:
            self._send(self._summary(number, job), fault=fault)

    def _summary(self, number: str, job: dict) -> bytes:
        done = job["phase"] == "COMPLETED"
        result = f'<uws:result id="result" xlink:href="{self.server.url}/tap/async/{number}/results/result"/>'
        failure = (
            f'<uws:errorSummary type="transient" hasDetail="false"><uws:message>{self.server.job_fails}'
            "</uws:message></uws:errorSummary>"
        )
        return (
            '<?xml version="1.0"?><uws:job xmlns:uws="http://www.ivoa.net/xml/UWS/v1.0" '
            'xmlns:xlink="http://www.w3.org/1999/xlink" version="1.1">'
            f"<uws:jobId>{number}</uws:jobId><uws:phase>{job['phase']}</uws:phase>"
            f"<uws:results>{result if done else ''}</uws:results>{failure if job['phase'] == 'ERROR' else ''}"
            "</uws:job>"
        ).encode()

    def _table(self, table: Table, overflow: bool, parameters: dict[str, str], fault: str) -> None:
        if fault == "fewer":
            table = table[: len(table) - 3]
        form = (parameters.get("RESPONSEFORMAT") or parameters.get("FORMAT") or "votable").lower()
        if "json" in form:
            self._send(as_json(table), kind="application/json", fault=fault)
        else:
            self._send(votable(table, overflow), fault=fault)

    def _send(
        self, body: bytes, *, status: int = 200, kind: str = "application/x-votable+xml", fault: str = "ok",
        location: str | None = None, **headers: str,
    ) -> None:  # fmt: skip
        if fault == "gzip":
            body = gzip.compress(body)
        if fault == "half":
            body = body[: len(body) // 2]
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if location:
            self.send_header("Location", location)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            if fault == "drip":
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.05)
            else:
                self.wfile.write(body[: len(body) // 2] if fault == "truncated" else body)
        except OSError:
            pass  # the client had enough


def star_field(n: int) -> Table:
    """Stars within about half a degree of ra 0.05, dec 40; some values masked."""
    rng = np.random.default_rng(11)
    g = rng.uniform(10, 20, n)
    table = Table(masked=True)
    table["source_id"] = np.arange(n) + 4_300_000_000_000_000_000
    table["ra"] = (0.05 + rng.uniform(-0.6, 0.6, n)) % 360 * u.deg
    table["dec"] = (40 + rng.uniform(-0.45, 0.45, n)) * u.deg
    table["ref_epoch"] = np.full(n, 2016.0) * u.yr
    table["pmra"] = MaskedColumn(rng.normal(0, 30, n), mask=rng.random(n) < 0.1, unit=u.mas / u.yr)
    table["pmdec"] = MaskedColumn(rng.normal(0, 30, n), mask=table["pmra"].mask, unit=u.mas / u.yr)
    table["phot_g_mean_mag"] = MaskedColumn(g, unit=u.mag)
    table["phot_bp_mean_mag"] = MaskedColumn(g + 0.4, mask=rng.random(n) < 0.05, unit=u.mag)
    table["phot_rp_mean_mag"] = MaskedColumn(g - 0.5, unit=u.mag)
    table["astrometric_excess_noise"] = MaskedColumn(
        rng.exponential(0.5, n), mask=rng.random(n) < 0.1, unit=u.mas
    )
    table["astrometric_excess_noise_sig"] = MaskedColumn(rng.exponential(1.0, n))
    table["phot_g_mean_flux_over_error"] = MaskedColumn(rng.uniform(50, 5000, n))
    return table


def at_vizier(gaia: Table) -> Table:
    """A table with Gaia's column names as VizieR has it."""
    names = {ours: theirs for theirs, ours in GAIA_COLUMNS.items() if ours in gaia.colnames}
    table = gaia[list(names)]
    table.rename_columns(list(names), list(names.values()))
    return table


def panstarrs_of(gaia: Table) -> Table:
    """What Pan-STARRS could have seen of Gaia's stars: G and colour made into magnitudes by simple rules; every tenth
    star has no i; VizieR's names."""
    g = np.asarray(gaia["phot_g_mean_mag"], float)
    table = Table({"objID": np.arange(len(gaia)) + 156_000_000_000_000_000})
    table["RAJ2000"], table["DEJ2000"] = np.asarray(gaia["ra"]), np.asarray(gaia["dec"])
    table["nDetections"] = 20
    for k, band in enumerate(BANDS):
        unknown = (np.arange(len(gaia)) % 10 == 9) & (band == "i")
        table[f"{band}mag"] = MaskedColumn(g + 0.3 - 0.2 * k, mask=unknown, unit="mag")
        table[f"e_{band}mag"] = MaskedColumn(np.full(len(gaia), 0.01), mask=unknown, unit="mag")
    return table


def at_mast(panstarrs: Table) -> Table:
    """Pan-STARRS as MAST has it: -999 for unknown."""
    table = Table(
        {"objID": panstarrs["objID"], "raMean": panstarrs["RAJ2000"], "decMean": panstarrs["DEJ2000"]}
    )
    table["nDetections"] = panstarrs["nDetections"]
    for band in BANDS:
        table[f"{band}MeanPSFMag"] = panstarrs[f"{band}mag"].filled(-999.0)
        table[f"{band}MeanPSFMagErr"] = panstarrs[f"e_{band}mag"].filled(-999.0)
    return table


def serving(gaia: Table) -> CatalogServer:
    """A running server of one star field, as all the services have it."""
    panstarrs = panstarrs_of(gaia)
    server = CatalogServer(
        {
            "gaiadr3.gaia_source": gaia,
            "I/355/gaiadr3": at_vizier(gaia),
            "II/349/ps1": panstarrs,
            "dbo.MeanObjectView": at_mast(panstarrs),
        }
    )
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server


@pytest.fixture
def serve():
    """Starts servers of star fields and stops them."""
    servers = []

    def start(gaia: Table) -> CatalogServer:
        servers.append(serving(gaia))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
