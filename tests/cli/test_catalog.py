"""`lcops catalog`: fetch, import, list, and what `lcops check` says offline."""

import re
import socket

import pytest
from astropy.table import Table

from lightcurver_ops.config import load_lens
from lightcurver_ops.stages.catalogs import matching_radius_deg


@pytest.fixture
def online(season, serve):
    """The small season, its stars at a service, and that service."""
    server = serve(Table.read(season.directory / "catalogue.ecsv"))
    season.configure(
        stars={"gaia_provider": "gaia", "gaia_catalog_file": None},
        catalogs=server.settings(),
        zero_points={"photometric_band": "r_panstarrs"},
    )
    return season, server


def test_fetch_keeps_what_the_stages_need_and_asks_once(lcops, online):
    season, server = online
    config = load_lens(season.config_path)
    result = lcops("catalog", "fetch", season.config_path)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["plate solving", "zero points", "reference stars"]
    radius = matching_radius_deg(config, 200 * 2**0.5)
    assert f"of gaia:gaiadr3.gaia_source, {radius:.4f} degrees around ra" in lines[0]
    assert "of vizier:II/349/ps1" in lines[1]
    assert "(kept since" in lines[2]  # the first answer is wider and deeper
    asked = len(server.asked)
    again = lcops("catalog", "fetch", season.config_path)
    assert again.out.count("(kept since") == 3
    assert len(server.asked) == asked
    assert lcops("catalog", "fetch", season.config_path, "--refresh").out.count("(kept since") == 1
    assert len(server.asked) == 2 * asked

    listed = lcops("catalog", "list", season.config_path)
    header, *rows = listed.out.splitlines()
    assert header.split() == ["release", "ra", "dec", "radius", "G", "to", "stars", "made", "from"]
    assert sorted(row.split()[0] for row in rows) == ["gaia:gaiadr3.gaia_source", "vizier:II/349/ps1"]
    assert all(row.endswith(f"{server.url}/tap") for row in rows)


def test_fetch_asks_also_for_a_lens_that_is_offline_and_check_says_what_is_missing(lcops, online):
    season, server = online
    season.configure(catalogs={"offline": True})
    missing = lcops("check", season.config_path)
    assert missing.code == 2
    assert "problem: catalogs: offline is true, and the cache" in missing.err
    assert "lcops catalog fetch LENS" in missing.err
    assert lcops("catalog", "fetch", season.config_path).code == 0
    asked = len(server.asked)
    assert "catalogue stars within" in lcops("check", season.config_path).out
    assert len(server.asked) == asked


def test_fetch_without_network_or_without_need(lcops, online):
    season, _ = online
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{listener.getsockname()[1]}/tap"
    season.configure(catalogs={"gaia_url": closed, "retries": 0})
    failed = lcops("catalog", "fetch", season.config_path)
    assert failed.code == 4
    assert f"the Gaia archive at {closed} did not answer" in failed.err
    season.configure(
        stars={"gaia_provider": "file", "gaia_catalog_file": str(season.directory / "catalogue.ecsv")},
        zero_points={"photometric_band": "r_sdss"},
    )
    assert "there is nothing to fetch" in lcops("catalog", "fetch", season.config_path).out


def test_a_lens_without_frames_needs_a_radius(lcops, online):
    season, _ = online
    for path in season.raw:
        path.unlink()
    result = lcops("catalog", "fetch", season.config_path)
    assert result.code == 2
    assert "nobody knows how large its field is" in result.err
    assert "--radius DEGREES" in result.err
    given = lcops("catalog", "fetch", season.config_path, "--radius", "0.15")
    assert "plate solving: " in given.out
    assert "0.1500 degrees" in given.out


def test_import_and_list(lcops, online, tmp_path):
    season, _ = online
    download = season.directory / "catalogue.ecsv"
    result = lcops("catalog", "import", download, "--lens", season.config_path)
    assert (result.code, result.err) == (0, "")
    assert re.match(r"\d+ stars of gaia:gaiadr3.gaia_source, complete within 0\.0\d+ degrees", result.out)
    listed = lcops("catalog", "list", season.config_path).out
    assert listed.rstrip().endswith(str(download))
    shared = tmp_path / "shared"
    stated = lcops(
        "catalog", "import", download, "--cache", shared, "--catalog", "vizier", "--max-gmag", "all",
        "--ra", load_lens(season.config_path).roi.ra, "--dec", load_lens(season.config_path).roi.dec, "--radius", 0.01,
    )  # fmt: skip
    assert "vizier:I/355/gaiadr3, complete within 0.0100 degrees" in stated.out
    assert "all magnitudes" in stated.out
    (path,) = shared.iterdir()
    path.write_bytes(path.read_bytes()[:6000])
    broken = lcops("catalog", "list", "--cache", shared)
    assert "nothing is kept in" in broken.out
    assert f"broken: {path} (" in broken.err
    assert "delete it and fetch or import again" in broken.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list"], "say which cache: name a lens's YAML file, or a directory with --cache"),
        (["import", "x.csv", "--cache", "c", "--ra", "1"], "--ra and --dec go together"),
        (
            ["import", "x.csv", "--cache", "c", "--max-gmag", "deep"],
            "--max-gmag deep: write a magnitude, or all",
        ),
        (["import", "x.csv", "--cache", "c", "--catalog", "usno"], "there is no catalogue 'usno'"),
        (["import", "x.csv", "--cache", "c"], "the catalogue x.csv does not exist"),
    ],
)
def test_mistakes_are_explained(lcops, arguments, message):
    result = lcops("catalog", *arguments)
    assert result.code == 2
    assert message in result.err


def test_import_for_a_lens_with_a_local_file_asks_whose_stars_they_are(lcops, season):
    result = lcops("catalog", "import", season.directory / "catalogue.ecsv", "--lens", season.config_path)
    assert result.code == 2
    assert "say with --catalog whose stars these are" in result.err
