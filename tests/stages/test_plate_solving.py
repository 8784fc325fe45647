"""Plate solving as a stage: what is tried in which order, what the bookkeeping keeps, and what no header can spoil."""

import os
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from lightcurver_ops.bookkeeping import attempts, frames, ledger, stars
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.catalogs.motion import positions_at
from lightcurver_ops.errors import ConfigurationError, TemporaryFailure
from lightcurver_ops.simulation import faults, simulate_season
from lightcurver_ops.simulation.lens_file import write_lens_file
from lightcurver_ops.stages.base import RunOptions
from lightcurver_ops.stages.frame_solving import strategies_of
from lightcurver_ops.stages.pipeline import run_pipeline, stage_number
from lightcurver_ops.stages.stamp_extraction import StampExtraction
from lightcurver_ops.stages.star_columns import star_column
from lightcurver_ops.storage import frames as frame_files
from lightcurver_ops.storage.regions import read_regions, regions_path
from tests.seasons import FAST, SMALL, Season

SOLVE = stage_number("plate_solving")
STAMPS = stage_number("stamp_extraction")
# The program knows soonest that it cannot solve a frame.
PROGRAM = {"strategy": "plate_solve", "fallbacks": []}
needs_solve_field = pytest.mark.skipif(
    shutil.which("solve-field") is None, reason="no solve-field (Debian: apt install astrometry.net)"
)


def solved(season, **how):
    """Run up to plate solving: rows and attempts of the frames, by the stem of the raw file."""
    lens = season.lens()
    try:
        run_pipeline(lens, last=SOLVE, **how)
    finally:
        with reading(lens.engine) as connection:
            rows = frames.all_frames(connection, lens.name)
            tried = attempts.attempts_of(connection, [row.id for row in rows])
        lens.close()
    return {Path(row.image_relpath).stem: (row, tried[row.id]) for row in rows}


def with_wcs(tmp_path, nights=1):
    """A season whose raw headers hold the true WCS, and say so."""
    truth = simulate_season(replace(SMALL, with_wcs=True, n_nights=nights), tmp_path / "season")
    season = Season(tmp_path / "season", truth, write_lens_file(truth))
    season.configure(**FAST)
    return season


def edit(path, change):
    """Change the header of a raw frame."""
    with fits.open(path, mode="update", output_verify="ignore") as hdus:
        change(hdus[0].header)


def raw(*cards):
    """Cards as they are, sane or not."""
    return lambda header: [header.append(fits.Card.fromstring(card), end=True) for card in cards]


# What the header gets, and why its WCS is no hint. In every second one there is no pointing either.
TAN = (
    "CTYPE1  = 'RA---TAN'",
    "CTYPE2  = 'DEC--TAN'",
    "CRPIX1  = 100.5",
    "CRPIX2  = 100.5",
    "CRVAL2  = -21.0",
)
HEADERS = [
    (raw(*TAN, "CRVAL1  = 70.5", "CD1_1   = -1E-4", "CD2_2   = 1E-4", "PC1_1   = 1.0", "CDELT1  = 3.0"),
     "both CDi_j and PCi_j"),
    (raw(*TAN, "CRVAL1  = 'NaN     '", "CRVAL1  = 70.5", "CDELT1  = -1E-4", "CDELT2  = 1E-4"), "there 2 times"),
    (raw(*TAN, "CRVAL1  = 'not a number'", "CD1_1   = '-1E-4'", "CD2_2   = 1E-4"), "missing: CRVAL1"),
    (raw(*TAN, "CRVAL1  = 4.7", "CDELT1  = -9.7E-5", "CDELT2  = 9.7E-5"), "deg from the ROI"),
    (raw("CTYPE1  = 'RA---TAN-SIP'", "CTYPE2  = 'DEC--SIN'", *TAN[2:], "CRVAL1  = 70.5", "CD1_1   = -9.7E-5",
         "CD2_2   = 9.7E-5", "A_2_0   = 1E-5"), "lacks A_ORDER"),
    (raw("CRPIX1  = 'middle'"), "no celestial WCS"),
]  # fmt: skip


def test_no_header_does_harm(season):
    season.configure(raw={"trim_vertical": 2, "trim_horizontal": 4})  # moves CRPIX, whatever it is
    for number, (path, (change, _)) in enumerate(zip(season.raw, HEADERS, strict=True)):
        edit(path, change)
        if number % 2:
            edit(path, lambda header: [header.remove(card) for card in ("RA", "DEC")])
        content = path.read_bytes()  # astropy itself would not write this
        path.write_bytes(content.replace(b"CRVAL1  = 'not a number'", b"CRVAL1  = NaN".ljust(24)))
    found = solved(season)
    for number, ((stem, (row, tried)), (_, reason)) in enumerate(
        zip(sorted(found.items()), HEADERS, strict=True)
    ):
        assert row.plate_solved, stem
        assert row.pixel_scale == pytest.approx(SMALL.plate_scale, rel=2e-3)
        pointing = [("header", "solved")]
        nothing = [("header", "not tried"), ("ROI", "solved")]
        assert [(one.hint, one.outcome) for one in tried] == (nothing if number % 2 else pointing)
        assert row.plate_solve_hint == tried[-1].hint
        assert re.search(reason, tried[0].reason), tried[0].reason
        # What later stages read is the solution alone.
        header = frame_files.read_header(season.work / row.image_relpath)
        assert not [c for c in header if re.match(r"PC\d|CDELT|[AB]_", c)] or "CD1_1" not in header
        assert all(header.count(card) == 1 for card in ("CRVAL1", "CRPIX1", "CTYPE1"))


def test_a_verified_solution_is_recorded_with_its_residuals(reduced_season):
    lens = reduced_season.lens()
    with reading(lens.engine) as connection:
        rows = frames.all_frames(connection, lens.name)
        tried = attempts.attempts_of(connection, [row.id for row in rows])
    lens.close()
    for row in rows:
        assert row.plate_solve_n_catalogue >= row.plate_solve_n_matched > 20
        assert row.plate_solve_rms_pixels < 0.3
        assert row.plate_solve_rms_arcsec == pytest.approx(
            row.plate_solve_rms_pixels * row.pixel_scale, rel=1e-3
        )
        (one,) = [one for one in tried[row.id] if one.outcome == "solved"]
        assert one.rms_pixels == row.plate_solve_rms_pixels
        assert one.log10_chance < -20


@needs_solve_field
def test_a_hopeless_frame_is_eliminated_with_every_reason_and_the_others_serve_as_last_solution(season):
    faults.other_field(season.raw[0], season.directory / "raw" / "elsewhere.fits")
    season.configure(plate_solving={**PROGRAM, "min_success_fraction": 0.5})
    found = solved(season)
    row, tried = found.pop("elsewhere")
    assert all(other.plate_solved for other, _ in found.values())
    assert (row.plate_solved, row.eliminated, row.eliminated_by) == (False, True, "plate_solving")
    assert row.comment.startswith(
        "not plate solved: frames/elsewhere.fits: no trustworthy solution. (1) plate_solve "
    )
    assert [(one.number, one.strategy, one.hint, one.outcome) for one in tried] == [
        (1, "plate_solve", "header", "failed"),
        (2, "plate_solve", "ROI", "failed"),
        (3, "plate_solve", "last solution", "failed"),
    ]
    for one in tried:
        assert "solve-field found no solution for" in one.reason
        assert one.seconds > 0
    assert row.plate_solve_rms_pixels is None
    lens = season.lens()
    with reading(lens.engine) as connection:
        product = ledger.products_of(connection, lens.name, "plate_solving")[row.image_relpath]
    assert product.status == ledger.QUARANTINED
    assert (
        run_pipeline(lens, last=SOLVE)[-1].report is None
    )  # nothing to do: it is not tried again every night
    lens.close()


@needs_solve_field
def test_the_first_frame_has_no_last_solution(season):
    for path in season.raw[1:]:
        path.unlink()
    faults.other_field(season.raw[0], season.raw[0])
    season.configure(plate_solving={**PROGRAM, "min_success_fraction": 0})
    ((_, tried),) = solved(season).values()
    assert (tried[-1].outcome, tried[-1].reason) == ("not tried", "no frame of this size is solved yet")


def test_a_wrong_wcs_in_a_solved_frame_is_found_and_the_frame_solved(tmp_path):
    season = with_wcs(tmp_path, nights=2)
    shifted, mirrored, broken, good = season.raw
    edit(shifted, lambda header: header.update(CRPIX1=header["CRPIX1"] + 8))
    edit(mirrored, lambda header: header.update(CDELT1=-header["CDELT1"]))
    edit(broken, lambda header: header.update(CRVAL1="??"))
    true = {path: WCS(fits.getheader(good)) for path in (good,)}
    found = solved(season)
    reasons = {shifted: r"off by up to [78]\.\d px|no more than chance", mirrored: "no more than chance",
               broken: "CRVAL1 is '..', expected a number"}  # fmt: skip
    for path, reason in reasons.items():
        row, tried = found[path.stem]
        assert row.plate_solve_method == "alternate_gaia_solve"
        assert re.search(reason, tried[0].reason), tried[0].reason
        assert (tried[0].strategy, tried[0].outcome) == ("already_plate_solved", "failed")
        assert tried[-1].outcome == "solved"
        assert row.plate_solve_rms_pixels < 0.5
    row, tried = found[good.stem]
    assert row.plate_solve_method == "already_plate_solved"
    own = WCS(frame_files.read_header(season.work / row.image_relpath))
    assert own.wcs.crval == pytest.approx(true[good].wcs.crval, abs=1e-9)
    # A second look reads the raw header's cards again, not those that took their place.
    season.configure(plate_solving={"frames": "all_not_eliminated"})
    again = solved(season)
    assert [len(tried) for _, tried in again.values()] == [len(tried) for _, tried in found.values()]


def test_distortion_is_used_wherever_pixels_meet_the_sky(tmp_path):
    season = with_wcs(tmp_path)

    def distort(header):
        header.update(
            CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", A_ORDER=2, B_ORDER=2, A_2_0=1.2e-4, B_0_2=-1e-4
        )

    for path in season.raw:
        edit(path, distort)  # up to 1.2 px at the edges, which the verification tolerates
    lens = season.lens()
    run_pipeline(lens, last=STAMPS)
    with reading(lens.engine) as connection:
        rows = frames.usable_frames(connection, lens.name)
        selection = stars.current_selection(connection, lens.name)
        chosen = {star.gaia_id: star for star in stars.stars_of(connection, lens.name, selection)}
        inside = {row.id: stars.stars_in_frame(connection, row.id, selection) for row in rows}
        assert ledger.done_hashes(connection, lens.name, StampExtraction.name)
    lens.close()
    assert len(rows) == 2
    for row in rows:
        assert row.plate_solve_method == "already_plate_solved"
        wcs = WCS(frame_files.read_header(season.work / row.image_relpath))
        assert wcs.sip.a[2, 0] == 1.2e-4
        names = list(inside[row.id])
        x, y = np.array([inside[row.id][name] for name in names]).T
        columns = ("ra", "dec", "pmra", "pmdec", "ref_epoch")
        ra, dec = positions_at(*(star_column([chosen[n] for n in names], c) for c in columns), row.mjd)
        bent = np.array(wcs.all_world2pix(ra, dec, 0))
        straight = np.array(wcs.wcs_world2pix(ra, dec, 0))
        assert np.hypot(*(bent - [x, y])).max() < 1e-3
        assert np.hypot(*(straight - [x, y])).max() > 0.3
        regions = read_regions(regions_path(season.work, Path(row.image_relpath).stem), [names[0]])
        cutout = WCS(regions.wcs[0])
        assert cutout.sip.a[2, 0] == 1.2e-4
        at = cutout.all_world2pix(ra[:1], dec[:1], 0)
        assert np.hypot(*(np.ravel(at) - 7.5)) < 0.8  # the stamp's centre


def fake_solve_field(directory, script, monkeypatch):
    (directory / "bin").mkdir()
    program = directory / "bin" / "solve-field"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    temporary = directory / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    return temporary


@needs_solve_field
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("sleep 600 & echo $! > {pid}; wait", "did not end within 1 s"),
        ("echo $$ > {pid}; kill -9 $$", "was killed"),
    ],
)
def test_a_solve_field_that_hangs_or_is_killed(season, tmp_path, monkeypatch, script, reason):
    for path in season.raw[1:]:
        path.unlink()
    pid = tmp_path / "pid"
    temporary = fake_solve_field(tmp_path, script.format(pid=pid), monkeypatch)
    settings = {"strategy": "plate_solve", "solve_field_timeout": 1}
    season.configure(plate_solving={**settings, "fallbacks": []})
    started = time.monotonic()
    with pytest.raises(TemporaryFailure, match=reason):
        solved(season)
    lens = season.lens()
    with reading(lens.engine) as connection:
        (row,) = frames.all_frames(connection, lens.name)
        kept = attempts.attempts_of(connection, [row.id])[row.id]
        product = ledger.products_of(connection, lens.name, "plate_solving")[row.image_relpath]
    lens.close()
    assert [reason in one.reason for one in kept if one.outcome == "failed"] == [True, True]
    assert (product.status, row.eliminated) == (ledger.FAILED, False)  # the next run tries again
    assert time.monotonic() - started < 30
    assert (
        not Path(f"/proc/{pid.read_text().strip()}").exists()
        or "Z" in Path(f"/proc/{pid.read_text().strip()}/stat").read_text().rsplit(")", 1)[1].split()[0]
    )
    assert not list(temporary.iterdir())
    # With a fallback the frame is solved all the same, and the reason is kept.
    season.configure(plate_solving={**settings, "fallbacks": ["alternate_gaia_solve"]})
    ((row, tried),) = solved(season).values()
    assert (row.plate_solve_method, row.plate_solved) == ("alternate_gaia_solve", True)
    assert {one.strategy for one in tried if reason in (one.reason or "")} == {"plate_solve"}


def test_the_programs_are_needed_by_the_strategy_that_was_chosen_only(season, monkeypatch, tmp_path):
    for path in season.raw[1:]:
        path.unlink()
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    # Too few stars to solve with, which does not take long.
    season.configure(plate_solving={"alternate_plate_solve_gaia_radius": 12, "min_success_fraction": 0})
    ((_, tried),) = solved(season).values()
    missing = [one for one in tried if one.strategy == "plate_solve"]
    assert missing
    assert all(one.outcome == "not tried" and "apt install astrometry.net" in one.reason for one in missing)
    season.configure(plate_solving={"strategy": "plate_solve"})
    with pytest.raises(ConfigurationError, match=r"apt install astrometry\.net"):
        solved(season, options=RunOptions(frames=(season.raw[0].name,)))


@pytest.mark.parametrize(
    ("settings", "order"),
    [
        ({}, ["alternate_gaia_solve", "plate_solve"]),
        ({"strategy": "plate_solve"}, ["plate_solve", "alternate_gaia_solve"]),
        ({"already_plate_solved": True}, ["already_plate_solved", "alternate_gaia_solve", "plate_solve"]),
        ({"fallbacks": []}, ["alternate_gaia_solve"]),
        ({"fallbacks": ["plate_solve", "alternate_gaia_solve"]}, ["alternate_gaia_solve", "plate_solve"]),
        ({"strategy": "adapt_wcs_from_reference", "fallbacks": ["plate_solve"]},
         ["adapt_wcs_from_reference", "plate_solve"]),
    ],
)  # fmt: skip
def test_the_order_of_strategies(season, settings, order):
    season.configure(plate_solving=settings)
    lens = season.lens()
    assert strategies_of(lens.config) == order
    lens.close()
