"""The catalogues behind a network, asked by the real clients at a service on this machine."""

import logging
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from astropy.table import Table

from lightcurver_ops.catalogs import panstarrs
from lightcurver_ops.catalogs.base import GAIA_UNITS, disk_to_ask
from lightcurver_ops.catalogs.gaia_archive import GaiaArchive
from lightcurver_ops.catalogs.panstarrs import BANDS, Panstarrs
from lightcurver_ops.catalogs.regions import Disk, Polygon
from lightcurver_ops.catalogs.vizier import GAIA_COLUMNS, Vizier
from lightcurver_ops.config.sections import Catalogs
from lightcurver_ops.errors import ConfigurationError, TemporaryFailure
from tests.catalog_server import star_field

DISK = Disk(0.05, 40.0, 0.3)
CONE = {"vizier_protocol": "cone"}
WAYS = {
    "gaia": (GaiaArchive, {}),
    "vizier": (Vizier, {}),
    "vizier cone": (Vizier, CONE),
    "panstarrs": (Panstarrs, {}),
    "panstarrs cone": (Panstarrs, CONE),
    "panstarrs mast": (Panstarrs, {"panstarrs": "mast"}),
}


def at(server, way, **more):
    """A provider that asks the server."""
    kind, keys = WAYS[way]
    settings = server.settings(**keys, **more)
    if keys == CONE:
        settings["vizier_url"] = f"{server.url}/cone"
    return kind(Catalogs(**settings))


def ids_in(field, region, provider, faintest=None):
    """What a complete answer has."""
    inside = region.contains(field["ra"], field["dec"])
    if faintest is not None:
        inside &= np.asarray(field["phot_g_mean_mag"]) <= faintest
    first = 156_000_000_000_000_000 if isinstance(provider, Panstarrs) else 4_300_000_000_000_000_000
    return (np.flatnonzero(inside) + first).tolist()


def refused_by(server, way="gaia", **more):
    """The error of a question."""
    with pytest.raises((ConfigurationError, TemporaryFailure)) as error:
        at(server, way, **more).query(DISK)
    return error.value


# What comes back


@pytest.mark.parametrize("way", ["gaia", "vizier", "vizier cone"])
def test_stars_come_as_they_are_in_the_catalogue(server, field, way):
    catalog = at(server, way)
    table = catalog.query(DISK, max_gmag=18.0)
    expected = field[
        DISK.contains(field["ra"], field["dec"]) & (np.asarray(field["phot_g_mean_mag"]) <= 18.0)
    ]
    assert table.colnames == list(GAIA_UNITS)
    assert 20 < len(table) == len(expected) < len(field)
    for name, unit in GAIA_UNITS.items():
        assert table[name].unit == unit
        unknown = np.ma.getmaskarray(expected[name])
        np.testing.assert_array_equal(np.ma.getmaskarray(table[name]), unknown, err_msg=name)
        np.testing.assert_allclose(
            np.asarray(table[name])[~unknown], np.asarray(expected[name])[~unknown], rtol=1e-12, err_msg=name
        )
    assert table["source_id"].dtype == np.int64


@pytest.mark.parametrize("way", ["panstarrs", "panstarrs cone", "panstarrs mast"])
def test_panstarrs_magnitudes_unknown_ones_masked(server, field, way):
    catalog = at(server, way)
    table = catalog.query(DISK)
    assert table["source_id"].tolist() == ids_in(field, DISK, catalog)
    seen = server.tables["II/349/ps1"][DISK.contains(field["ra"], field["dec"])]
    for band in BANDS:
        np.testing.assert_array_equal(table[f"{band}_mag"].mask, np.ma.getmaskarray(seen[f"{band}mag"]))
        np.testing.assert_allclose(table[f"{band}_mag"].compressed(), seen[f"{band}mag"].compressed())
        np.testing.assert_array_equal(table[f"{band}_mag_error"].mask, table[f"{band}_mag"].mask)
    assert 0 < table["i_mag"].mask.sum() < len(table) / 5


def test_mast_leaves_out_what_was_seen_once(server, field):
    server.tables["dbo.MeanObjectView"]["nDetections"][::2] = 1
    catalog = at(server, "panstarrs mast")
    assert catalog.query(DISK)["source_id"].tolist() == [
        star for star in ids_in(field, DISK, catalog) if star % 2
    ]


def test_the_regions_of_footprints_and_moving_stars(server, field):
    polygon = Polygon([(359.9, 39.8), (0.3, 39.9), (0.1, 40.2)])
    catalog = at(server, "gaia")
    assert catalog.query(polygon)["source_id"].tolist() == ids_in(field, polygon, catalog)
    # A star that lies outside at the catalogue's epoch and inside 24 years later.
    server.tables["gaiadr3.gaia_source"]["dec"][0], server.tables["gaiadr3.gaia_source"]["ra"][0] = (
        40.302,
        0.05,
    )
    for name, value in (("pmra", 0.0), ("pmdec", -1000.0)):
        server.tables["gaiadr3.gaia_source"][name][0] = value
    star = field["source_id"][0]
    assert star not in catalog.query(DISK)["source_id"]
    assert star in catalog.query(DISK, epoch_mjd=51544.5 + 40 * 365.25)["source_id"]


def test_the_disk_asked_for_allows_for_the_fastest_star():
    assert disk_to_ask(DISK, None) == DISK
    wide = disk_to_ask(DISK, 51544.5 + 26 * 365.25)
    assert wide.radius_deg == pytest.approx(0.3 + 104 / 3600)


def test_vizier_names_cover_gaias():
    assert {*GAIA_COLUMNS.values()} == {*GAIA_UNITS} - {"ref_epoch"}


@pytest.mark.parametrize("way", ["gaia", "vizier cone", "panstarrs mast"])
def test_a_region_without_stars_is_empty_not_an_error(server, way):
    table = at(server, way).query(Disk(180.0, 20.0, 0.1))
    assert len(table) == 0
    assert "source_id" in table.colnames


def test_large_answers_come_through_a_job_that_is_deleted(serve):
    server = serve(star_field(2100))
    server.job_s = 0.3
    catalog = at(server, "gaia")
    everything = Disk(0.05, 40.0, 1.0)
    assert catalog.query(everything)["source_id"].tolist() == ids_in(
        server.tables["gaiadr3.gaia_source"], everything, catalog
    )
    assert any(path.endswith("/results/result") for path, _ in server.asked)
    assert server.jobs == {}


@pytest.mark.parametrize("form", ["votable", "json"])
@pytest.mark.parametrize("launch", ["launch_job", "launch_job_async"])
def test_the_service_answers_astroquery_the_same(server, field, form, launch):
    """Another real client sees what ours sees: immediate answers and jobs, VOTable and JSON."""
    from astroquery.utils.tap.core import TapPlus

    adql = (
        "SELECT source_id, ra, dec, pmra FROM gaiadr3.gaia_source WHERE "
        "1 = CONTAINS(POINT('ICRS', ra, dec), CIRCLE('ICRS', 0.05, 40.0, 0.3)) AND phot_g_mean_mag <= 18"
    )
    tap = TapPlus(url=f"{server.url}/tap")
    table = getattr(tap, launch)(adql, output_format=form).get_results()
    catalog = at(server, "gaia")
    assert list(table["source_id"]) == catalog.query(DISK, max_gmag=18.0)["source_id"].tolist()


# Row limits


@pytest.mark.parametrize(
    ("way", "limit"),
    [("gaia", "our own"), ("gaia", "announced"), ("gaia", "silent"),
     ("vizier cone", "announced"), ("panstarrs mast", "silent")],
)  # fmt: skip
def test_an_answer_is_never_cut(server, field, way, limit):
    """Limits of rows below the number of stars: the region comes in parts."""
    more = {"rows_per_answer": 60} if limit == "our own" else {}
    if limit != "our own":
        server.hard_limit, server.says_overflow = 60, limit == "announced"
    catalog = at(server, way, **more)
    wanted = ids_in(field, DISK, catalog)
    assert len(wanted) > 80
    assert catalog.query(DISK)["source_id"].tolist() == wanted
    assert len(server.asked) > 7


def test_a_cone_search_that_narrows_the_cone_is_found_out(server, field):
    server.largest_cone = 0.2
    catalog = at(server, "vizier cone")
    assert catalog.query(DISK)["source_id"].tolist() == ids_in(field, DISK, catalog)


def test_mast_is_asked_for_cones_that_it_admits(server, field):
    server.largest_cone = 0.2499
    catalog = at(server, "panstarrs mast")
    assert catalog.query(DISK)["source_id"].tolist() == ids_in(field, DISK, catalog)


@pytest.mark.parametrize(("way", "count"), [("gaia", r"\d\d\d"), ("vizier cone", "(more than )?\\d+")])
def test_too_many_stars_are_refused_with_their_number(server, way, count):
    with pytest.raises(ConfigurationError, match=rf"has {count} stars within 0\.3.*max_rows = 50.*ROI_disk"):
        at(server, way, max_rows=50, rows_per_answer=40).query(DISK)


def test_a_service_that_loses_stars_is_not_believed(server):
    server.faults.extend(["ok", "fewer"])
    server.fault_paths = "sync"
    with pytest.raises(TemporaryFailure, match=r"counted \d+ stars but sent \d+; try again later"):
        at(server, "gaia").query(Disk(0.05, 40.0, 0.1))


def test_a_service_that_never_gives_all_is_refused(server):
    server.hard_limit, server.says_overflow = 0, True
    error = refused_by(server, "vizier cone")
    assert isinstance(error, ConfigurationError)
    assert "does not give all of its stars near ra 0.05" in str(error)
    assert "vizier_url" in str(error)


# Faults

PASSING = ["503", "429", "500", "truncated", "half", "html", "empty", "json", "error", "reset"]


@pytest.mark.parametrize(
    ("way", "fault"),
    [*(("gaia", fault) for fault in [*PASSING, "gzip"]), ("vizier cone", "reset"), ("vizier cone", "truncated"),
     ("panstarrs mast", "503")],
)  # fmt: skip
def test_a_passing_fault_is_survived(server, field, way, fault):
    server.faults.extend([fault, "ok", fault])
    catalog = at(server, way)
    assert catalog.query(DISK)["source_id"].tolist() == ids_in(field, DISK, catalog)
    assert not server.faults


@pytest.mark.parametrize("fault", ["503", "half", "html", "error", "reset"])
def test_a_lasting_fault_is_temporary_and_says_what_to_do(server, fault):
    server.faults.extend([fault] * 3)
    error = refused_by(server)
    assert isinstance(error, TemporaryFailure)
    assert f"the Gaia archive at {server.url}/tap did not answer as expected: " in str(error)
    assert "(after 2 repetitions)" in str(error)
    assert "lcops catalog fetch" in str(error)
    assert len(server.asked) == 3
    if fault == "error":
        assert "the database is overloaded" in str(error)


@pytest.mark.parametrize(("fault", "where"), [("truncated", "results"), ("html", r"async/\d+"), ("503", "async$"),
                                              ("error", "results"), ("reset", r"phase$")])  # fmt: skip
def test_faults_of_a_job(serve, fault, where):
    server = serve(star_field(2100))
    server.fault_paths = where
    server.faults.append(fault)
    assert len(at(server, "gaia").query(Disk(0.05, 40.0, 1.0))) == 2100
    assert not server.faults


def test_a_service_that_keeps_its_jobs_is_asked_again_all_the_same(serve):
    server = serve(star_field(2100))
    server.deletes_jobs, server.fault_paths = False, "results"
    server.faults.append("truncated")
    assert len(at(server, "gaia").query(Disk(0.05, 40.0, 1.0))) == 2100
    assert len(server.jobs) == 2


def test_a_job_that_fails_or_never_ends(serve):
    server = serve(star_field(2100))
    everything = Disk(0.05, 40.0, 1.0)
    server.job_fails = "out of temporary space"
    with pytest.raises(TemporaryFailure, match="out of temporary space"):
        at(server, "gaia", retries=0).query(everything)
    server.job_fails, server.job_s = "", 1e9
    with pytest.raises(TemporaryFailure, match=r"was EXECUTING after catalogs: job_timeout_seconds = 0\.2"):
        at(server, "gaia", job_timeout_seconds=0.2).query(everything)
    assert server.jobs == {}


@pytest.mark.parametrize("fault", ["slow", "drip"])
def test_a_slow_answer_has_a_time_limit(server, fault):
    server.faults.extend([fault] * 9)
    start = time.monotonic()
    error = refused_by(server, timeout_seconds=0.3, retries=1)
    assert isinstance(error, TemporaryFailure)
    assert time.monotonic() - start < 5
    server.slow_s = 0.1
    server.faults.clear()
    server.faults.append("slow")
    assert len(at(server, "gaia", timeout_seconds=5).query(DISK)) > 50


def test_the_pause_grows_and_obeys_the_service(server, caplog):
    server.faults.extend(["503", "503", "503 later"])
    with caplog.at_level(logging.WARNING, logger="lightcurver_ops"):
        at(server, "gaia", retries=3, retry_delay_seconds=0.04).query(DISK)
    pauses = [float(text.split("again in ")[1].split()[0]) for text in caplog.messages]
    assert len(pauses) == 3
    assert pauses[0] <= pauses[1] < 0.2
    assert pauses[2] == 1.0


def test_a_refusal_is_not_repeated(server):
    for more, reason in (
        ({"gaia_table": "gaiadr9.gaia_source"}, "unknown table gaiadr9.gaia_source"),
        ({"gaia_url": f"{server.url}/nothing"}, "404"),
    ):
        server.asked.clear()
        with pytest.raises(ConfigurationError) as error:
            GaiaArchive(Catalogs(**server.settings() | more)).query(DISK)
        assert reason in str(error.value)
        assert "Check catalogs: gaia_url, gaia_table" in str(error.value)
        assert len(server.asked) == 1


def test_a_mirror_without_the_columns(server):
    server.tables["gaiadr3.gaia_source"].remove_column("pmra")
    assert "unknown column pmra" in str(refused_by(server))
    server.tables["I/355/gaiadr3"].rename_column("Source", "ID")
    error = refused_by(server, "vizier cone")
    assert isinstance(error, ConfigurationError)
    assert "answers without the column Source of I/355/gaiadr3" in str(error)


def test_no_network_is_temporary(server):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}"
    keys = {"gaia_url": closed, "vizier_url": closed, "mast_url": closed, "retries": 0}
    for way, (kind, more) in WAYS.items():
        with pytest.raises(TemporaryFailure, match="gaia_provider: file"):
            kind(Catalogs(**server.settings() | keys | more)).query(DISK)
        assert way


def test_nothing_is_imported_or_contacted_unless_chosen(tmp_path, field):
    """A process whose sockets are forbidden uses a local file, opens the others, and never loads a client."""
    field.write(tmp_path / "stars.ecsv", format="ascii.ecsv")
    program = f"""
import socket, sys
def forbidden(*arguments, **keywords):
    raise AssertionError("the network was touched")
socket.socket.connect = socket.getaddrinfo = forbidden
from lightcurver_ops.catalogs import providers, local_file, selection
from lightcurver_ops.catalogs.regions import Disk
from lightcurver_ops.config.sections import Catalogs
catalogs = [providers.open_remote(name, Catalogs(), {str(tmp_path)!r}) for name in providers.REMOTE]
identities = [catalog.identity() for catalog in catalogs]
stars = local_file.LocalFile({str(tmp_path / "stars.ecsv")!r}).query(Disk(0.05, 40.0, 0.3))
selection.select_reference_stars(stars, 0.05, 40.0, selection.Cuts())
assert len(set(identities)) == 3 and len(stars) > 10
loaded = [name for name in sys.modules if name.split(".")[0] in ("astroquery", "pyvo", "requests")]
assert not loaded, loaded
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


# Pan-STARRS


def test_panstarrs_refuses_the_far_south_and_a_limit_in_g():
    with pytest.raises(ConfigurationError, match=r"-30\.5"):
        Panstarrs().query(Disk(10.0, -45.0, 0.1))
    with pytest.raises(ConfigurationError, match="max_gmag"):
        Panstarrs().query(DISK, max_gmag=18.0)


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
