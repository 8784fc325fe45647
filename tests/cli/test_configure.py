"""`lcops init` and `lcops check`."""

import os
import re

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.table import Table

from lightcurver_ops.simulation import faults
from tests.seasons import SMALL


def test_init_writes_what_check_accepts_once_filled_in(lcops, raw_season, tmp_path):
    path = tmp_path / "new" / "lens.yaml"
    done = lcops("init", path)
    assert done.code == 0
    assert f"`lcops check {path}`" in done.out
    assert "FILL_IN" in done.out
    text = path.read_text()
    refused = lcops("check", path)
    assert refused.code == 2
    for key in ("raw.raw_dirs", "roi.ra", "roi.dec", "roi.point_sources"):
        assert key in refused.err
    text = text.replace("raw_dirs: FILL_IN", f"raw_dirs: [{raw_season.directory / 'raw'}]")
    text = text.replace("ra: FILL_IN", "ra: 70.5").replace("dec: FILL_IN", "dec: -21.0")
    path.write_text(
        text.replace("[FILL_IN, FILL_IN]", "[70.5, -21.0]").replace(
            "#strategy: plate_solve", "strategy: alternate_gaia_solve"
        )
    )
    accepted = lcops("check", path)
    assert accepted.code == 0, accepted.err
    assert "lens lens at 70.500000, -21.000000, modelled as A" in accepted.out


def test_init_with_everything_given_leaves_nothing_open(lcops, raw_season, tmp_path):
    path = tmp_path / "lens.yaml"
    done = lcops(
        "init", path, "--name", "J0442", "--ra", 70.5, "--dec", -21.0, "--raw-dir", raw_season.directory / "raw",
        "--workdir", tmp_path / "here",
    )  # fmt: skip
    assert done.code == 0
    assert "FILL_IN" not in done.out
    content = yaml.safe_load(path.read_text())
    assert (content["name"], content["workdir"]) == ("J0442", str(tmp_path / "here"))
    assert content["roi"] == {"ra": 70.5, "dec": -21.0, "point_sources": {"A": [70.5, -21.0]}}


def test_init_never_replaces_a_file_by_itself(lcops, tmp_path):
    path = tmp_path / "lens.yaml"
    path.write_text("precious")
    refused = lcops("init", path)
    assert refused.code == 2
    assert "--force" in refused.err
    assert path.read_text() == "precious"
    assert lcops("init", path, "--force").code == 0
    assert path.read_text() != "precious"


def test_init_in_a_place_that_cannot_be_written(lcops, tmp_path):
    (tmp_path / "file").write_text("")
    result = lcops("init", tmp_path / "file" / "lens.yaml")
    assert result.code == 2
    assert "cannot be written" in result.err


def test_check_compares_the_read_noise_with_the_sky(lcops, season):
    right = SMALL.detector.readnoise
    season.configure(raw={"read_noise": {"constant": right}})
    fine = lcops("check", season.config_path)
    assert f"  read noise {right:g} electrons" in fine.out
    assert "too large" not in fine.out
    season.configure(raw={"read_noise": {"constant": 100 * right}})
    wrong = lcops("check", season.config_path)
    assert wrong.code == 0
    assert f"less than its read noise of {100 * right:.1f} alone: is raw.read_noise too large?" in wrong.out
    season.configure(raw={"read_noise": {"constant": right, "unit": "s"}})
    refused = lcops("check", season.config_path)
    assert refused.code == 2
    assert "header mapping of read_noise: unit 's' cannot be converted to electron" in refused.err
    season.configure(raw={"read_noise": {"keyword": ["RON1", "RON2"]}})
    assert "a list of keywords makes no number: name one" in lcops("check", season.config_path).err


def test_check_says_that_a_header_does_not_solve_its_frame(lcops, season):
    season.configure(plate_solving={"already_plate_solved": True})
    for card, value, said in (
        (None, None, r"the header has no celestial WCS \(missing: CTYPE1"),
        (
            "CTYPE1",
            "RA---XYZ",
            "the header's WCS cannot be used: the library for it does not take these cards: CTYPE1 = 'RA---XYZ'",
        ),
        ("CTYPE1", "RA---TAN", None),
    ):
        if card:
            with fits.open(season.raw[0], mode="update") as hdus:
                hdus[0].header.update(
                    {"CTYPE1": value, "CTYPE2": value.replace("RA-", "DEC"), "CRVAL1": 70.5, "CRVAL2": -21.0,
                     "CRPIX1": 100.0, "CRPIX2": 100.0, "PC1_1": -1e-4, "PC2_2": 1e-4}
                )  # fmt: skip
        result = lcops("check", season.config_path)
        assert result.code == 0
        if said:
            assert re.search(f"note: {season.raw[0]}: {said}", result.out)
        else:
            assert "WCS" not in result.out
        assert "ERROR" not in result.out + result.err


def test_check_explains_a_valid_configuration_and_changes_nothing(lcops, season):
    before = sorted(season.directory.rglob("*"))
    result = lcops("check", season.config_path)
    assert (result.code, result.err) == (0, "")
    for words in (
        "is valid",
        "modelled as A, B and a background",
        "solved with alternate_gaia_solve",
        "6 raw frames found",
        "200 x 200 px",
        "1.5 electron/ADU, filter r",
        "catalogue stars",
        "GB free",
        "simulated telescope",
        "Nothing stands in the way",
    ):
        assert words in result.out
    assert sorted(season.directory.rglob("*")) == before


def without_exposure_time(season):
    faults.without_exposure_time(season.raw[0], season.directory / "raw" / "a_first.fits")
    return {}


def workdir_below_a_file(season):
    (season.directory / "file").write_text("")
    return {"workdir": str(season.directory / "file" / "work")}


def catalogue_in_hours(season):
    path = season.directory / "catalogue.ecsv"
    table = Table.read(path)
    table["ra"] = np.asarray(table["ra"]) / 15
    table["ra"].unit = None
    table.write(path, overwrite=True)
    return {}


def catalogue_of_another_field(season):
    path = season.directory / "catalogue.ecsv"
    table = Table.read(path)
    table["dec"] = -np.asarray(table["dec"])
    table.write(path, overwrite=True)
    return {}


NO_CATALOGUE = {"stars": {"gaia_catalog_file": "/nonexistent/stars.ecsv"}}
NO_RAW = {"raw": {"raw_dirs": ["/nonexistent/raw"]}}
BAND_OF_G = {"zero_points": {"photometric_band": {"g": "g_sdss"}}}

PROBLEMS = {
    "missing raw directory": (lambda _: NO_RAW, "/nonexistent/raw"),
    "no keyword in the first frame": (without_exposure_time, "EXPTIME"),
    "missing catalogue": (lambda _: NO_CATALOGUE, "/nonexistent/stars.ecsv"),
    "filter without band": (lambda _: BAND_OF_G, "no entry for the filter r"),
    "catalogue in hours": (catalogue_in_hours, "its right ascensions are hours: write degrees"),
    "catalogue of another field": (catalogue_of_another_field, "arcsec of the ROI: check roi.ra and roi.dec"),
    "workdir below a file": (workdir_below_a_file, "is not a directory"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_check_finds_a_problem_before_a_run_does(lcops, season, problem):
    change, message = PROBLEMS[problem]
    season.configure(**change(season))
    result = lcops("check", season.config_path)
    assert result.code == 2
    assert "Nothing stands in the way" not in result.out
    problems = [line for line in result.err.splitlines() if line.startswith("problem: ")]
    assert len(problems) == 1
    assert message in problems[0]
    assert "1 problem to be put right" in result.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_check_finds_a_workdir_without_rights(lcops, season):
    locked = season.directory / "locked"
    locked.mkdir(mode=0o500)
    season.configure(workdir=str(locked / "work"))
    result = lcops("check", season.config_path)
    assert result.code == 2
    assert "cannot be written by this user" in result.err


def test_check_needs_the_plate_solver_that_is_chosen(lcops, season, monkeypatch):
    season.configure(plate_solving={"strategy": "plate_solve"})
    monkeypatch.setenv("PATH", str(season.directory))
    result = lcops("check", season.config_path)
    assert result.code == 2
    assert "apt install astrometry.net" in result.err


def test_all_problems_are_shown_at_once(lcops, season):
    season.configure(**NO_RAW, **NO_CATALOGUE)
    assert "2 problems to be put right" in lcops("check", season.config_path).err


def test_a_misspelt_key_is_told_with_line_and_nearest_key(lcops, season):
    season.configure(psf={"subsampling_facter": 2})
    result = lcops("check", season.config_path)
    assert result.code == 2
    assert "line " in result.err
    assert "subsampling_factor" in result.err


def test_check_of_a_flat_configuration_prints_what_became_of_its_keys(lcops, raw_season, tmp_path):
    parser = tmp_path / "work" / "header_parser" / "parse_header.py"
    parser.parent.mkdir(parents=True)
    parser.write_text(
        "def parse_header(header):\n"
        "    return {'mjd': 60281.2, 'gain': header['GAIN'], 'exptime': header['EXPTIME'], 'filter': 'r'}\n"
    )
    path = tmp_path / "flat.yaml"
    path.write_text(
        f"workdir: {tmp_path / 'work'}\nraw_dirs: [{raw_season.directory / 'raw'}]\n"
        "ROI:\n  J0442:\n    coordinates: [70.5, -21.0]\n"
        "point_sources:\n  A: [70.5, -21.0]\nphotometric_band: r_sdss\nalready_plate_solved: 1\nstar_min_gmag: 16.0\n"
        "redo_psf: false\n"
    )
    result = lcops("check", path)
    assert result.code == 0, result.err
    notes = [line for line in result.out.splitlines() if line.startswith("note: ")]
    assert any("flat configuration" in note for note in notes)
    assert any("star_min_gmag" in note and "stars.min_gmag" in note for note in notes)
    assert any("redo_psf" in note for note in notes)
    assert "lens J0442 at" in result.out


def test_check_reads_a_frame_in_object_storage(lcops, season, s3):
    s3.put("small/a.fits", season.raw[0].read_bytes())
    season.configure(raw={"raw_dirs": [s3.url("small")], "s3_endpoint_url": s3.endpoint})
    result = lcops("check", season.config_path)
    assert result.code == 0
    assert f"1 raw frames found; reading the first: {s3.url('small/a.fits')}" in result.out
    season.configure(raw={"raw_dirs": ["s3://nosuch/small"]})
    result = lcops("check", season.config_path)
    assert result.code != 0
    assert "there is no bucket nosuch" in result.out + result.err
