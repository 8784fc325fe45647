"""The catalogues behind a network: what is asked, and that nothing is imported or contacted before that."""

import io
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs

import numpy as np
import pytest
from astropy.table import Table

from lightcurver_ops.catalogs import panstarrs
from lightcurver_ops.catalogs.base import GAIA_UNITS, disk_to_ask
from lightcurver_ops.catalogs.gaia_archive import GaiaArchive, count_adql, stars_adql
from lightcurver_ops.catalogs.regions import Disk
from lightcurver_ops.catalogs.remote import ROW_LIMIT
from lightcurver_ops.catalogs.vizier import (
    GAIA_COLUMNS,
    Vizier,
    ask_vizier,
    magnitude_filter,
    vizier_arguments,
)
from lightcurver_ops.errors import ConfigurationError, TemporaryFailure

DISK = Disk(0.05, 40.0, 0.3)
CONE = (
    "FROM gaiadr3.gaia_source WHERE 1 = CONTAINS(POINT('ICRS', ra, dec), "
    "CIRCLE('ICRS', 0.0500000000, 40.0000000000, 0.3000000000))"
)


def test_adql():
    assert count_adql(DISK, None) == f"SELECT COUNT(*) AS n {CONE}"
    assert stars_adql(DISK, 18.5) == f"SELECT {', '.join(GAIA_UNITS)} {CONE} AND phot_g_mean_mag <= 18.500000"


def test_the_disk_asked_for_allows_for_the_fastest_star():
    assert disk_to_ask(DISK, None) == DISK
    wide = disk_to_ask(DISK, 51544.5 + 26 * 365.25)
    assert wide.radius_deg == pytest.approx(0.3 + 104 / 3600)


def test_vizier_arguments_are_what_astroquery_sends():
    from astropy.coordinates import SkyCoord
    from astroquery.vizier import VizierClass

    arguments = vizier_arguments(GAIA_COLUMNS, magnitude_filter(18.0), "vizier.example.org")
    vizier = VizierClass(**arguments)
    sent = vizier.query_region(
        SkyCoord(10.0, -20.0, unit="deg"), radius="6m", catalog="I/355/gaiadr3", get_query_payload=True
    )
    lines = sent.splitlines() if isinstance(sent, str) else [f"{k}={v}" for k, v in sent.items()]
    text = "\n".join(lines)
    assert "I/355/gaiadr3" in text
    assert f"-out.max={ROW_LIMIT + 1}" in text
    assert "<=18.000000" in text
    assert all(column in text for column in GAIA_COLUMNS)
    assert vizier.VIZIER_SERVER == "vizier.example.org"
    assert magnitude_filter(None) == {}


def test_vizier_names_cover_gaias():
    assert {*GAIA_COLUMNS.values()} == {*GAIA_UNITS} - {"ref_epoch"}


class Archive(BaseHTTPRequestHandler):
    """Just enough of TAP for synchronous queries on one table."""

    def do_POST(self):
        adql = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())["QUERY"][0]
        self.server.asked.append(adql)
        table = self.server.table
        if "COUNT(*)" in adql:
            answer = Table({"n": [len(table) if self.server.count is None else self.server.count]})
        else:
            answer = table[list(GAIA_UNITS)]
        buffer = io.BytesIO()
        answer.write(buffer, format="votable")
        body = self.server.garbage or buffer.getvalue()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Keep quiet."""


@pytest.fixture
def archive(field):
    server = HTTPServer(("127.0.0.1", 0), Archive)
    server.table, server.asked, server.count, server.status, server.garbage = field, [], None, 200, b""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def served_by(server):
    return GaiaArchive(f"http://127.0.0.1:{server.server_port}/tap-server/tap")


def test_gaia_archive_answers_in_gaia_columns(archive, field):
    table = served_by(archive).query(DISK, max_gmag=18.0)
    assert table.colnames == list(GAIA_UNITS)
    expected = DISK.contains(field["ra"], field["dec"]) & (np.asarray(field["phot_g_mean_mag"]) <= 18.0)
    assert list(table["source_id"]) == list(field["source_id"][expected])
    np.testing.assert_array_equal(
        np.ma.getmaskarray(table["pmra"]), np.ma.getmaskarray(field["pmra"])[expected]
    )
    assert ["COUNT(*)" in adql for adql in archive.asked] == [True, False]


def test_an_answer_that_is_too_large_is_refused_with_its_count(archive):
    archive.count = 1_234_567
    with pytest.raises(ConfigurationError, match=r"1234567 stars within 0\.3000 degrees"):
        served_by(archive).query(DISK)
    assert len(archive.asked) == 1


def test_an_answer_cut_short_is_a_failure(archive):
    archive.count = 400
    with pytest.raises(TemporaryFailure, match="counted 400 stars but sent 300"):
        served_by(archive).query(DISK)


@pytest.mark.parametrize(
    ("status", "garbage"), [(500, b""), (503, b"down"), (200, b"<html>maintenance</html>")]
)
def test_a_failing_server_is_temporary(archive, status, garbage):
    archive.status, archive.garbage = status, garbage
    with pytest.raises(TemporaryFailure, match="the Gaia archive did not answer as expected"):
        served_by(archive).query(DISK)


@pytest.fixture
def closed_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_no_network_is_temporary(closed_port):
    with pytest.raises(TemporaryFailure, match="gaia_provider: file"):
        GaiaArchive(f"http://127.0.0.1:{closed_port}/tap-server/tap").query(DISK)
    with pytest.raises(TemporaryFailure, match="VizieR"):
        Vizier(server=f"127.0.0.1:{closed_port}").query(DISK)
    with pytest.raises(TemporaryFailure, match="II/349"):
        ask_vizier("II/349/ps1", panstarrs.COLUMNS, DISK, server=f"127.0.0.1:{closed_port}")


def test_nothing_is_imported_or_contacted_unless_chosen(tmp_path, field):
    """A process whose sockets are forbidden uses a local file, opens the others, and never loads astroquery."""
    field.write(tmp_path / "stars.ecsv", format="ascii.ecsv")
    program = f"""
import socket, sys
def forbidden(*arguments, **keywords):
    raise AssertionError("the network was touched")
socket.socket.connect = socket.getaddrinfo = forbidden
from lightcurver_ops.catalogs import cache, gaia_archive, local_file, panstarrs, providers, selection, vizier
from lightcurver_ops.catalogs.regions import Disk
remote = (gaia_archive.GaiaArchive, vizier.Vizier, panstarrs.Panstarrs)
catalogs = [cache.Cached(kind(), {str(tmp_path)!r}) for kind in remote]
identities = [catalog.identity() for catalog in catalogs]
stars = local_file.LocalFile({str(tmp_path / "stars.ecsv")!r}).query(Disk(0.05, 40.0, 0.3))
selection.select_reference_stars(stars, 0.05, 40.0, selection.Cuts())
assert len(set(identities)) == 3 and len(stars) > 10
loaded = [name for name in sys.modules if name.split(".")[0] in ("astroquery", "pyvo", "requests")]
assert not loaded, loaded
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_panstarrs_refuses_the_far_south_and_a_limit_in_g():
    with pytest.raises(ConfigurationError, match=r"-30\.5"):
        panstarrs.Panstarrs().query(Disk(10.0, -45.0, 0.1))
    with pytest.raises(ConfigurationError, match="max_gmag"):
        panstarrs.Panstarrs().query(DISK, max_gmag=18.0)


def test_panstarrs_matches_by_position():
    """One source near the first star, none near the second, two near the third, one without i near the fourth."""
    table = Table(
        {"source_id": [1, 2, 3, 4], "ra": [0.0, 359.9, 359.9, 20.0], "dec": [10.0, 10.0, 10.0, 10.0]}
    )
    table["dec"] += np.array([0.3, 0.2, -0.4, 0.0]) / 3600
    for k, band in enumerate(panstarrs.BANDS):
        table[f"{band}_mag"] = np.arange(4) + 15.0 + k
    table["i_mag"][3] = np.nan
    found = panstarrs.match(table, [360.0, 50.0, 359.9, 20.0], [10.0] * 4)
    np.testing.assert_array_equal(found["g"], [15.0, np.nan, np.nan, 18.0])
    np.testing.assert_array_equal(found["i"], [17.0, np.nan, np.nan, np.nan])
    assert all(np.isnan(v).all() for v in panstarrs.match(table[:0], [0.0], [10.0]).values())
