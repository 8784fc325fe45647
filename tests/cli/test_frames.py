"""`lcops frames`: list, why, eliminate, restore."""

import csv
import io

import pytest

from lightcurver_ops.simulation import faults


@pytest.fixture
def imported(lcops, season):
    """Six frames imported, one raw file that could not be."""
    faults.not_fits(season.raw[0], season.directory / "raw" / "bad.fits")
    assert lcops("run", "-q", season.config_path, "--to", "plate").code == 0
    return season


def test_list_of_a_reduced_season(lcops, reduced_season):
    result = lcops("frames", "list", reduced_season.config_path)
    header, *rows = result.out.splitlines()
    assert header.split()[:4] == ["id", "frame", "mjd", "filter"]
    frames = [row.split() for row in rows[:6]]
    assert [frame[1] for frame in frames] == [path.name for path in reduced_season.raw]
    assert {frame[7] for frame in frames} == {"yes"}
    assert all(1.0 < float(frame[4]) < 2.0 for frame in frames)  # seeing
    assert "6 frames, 6 used, 0 not; 0 raw files could not be imported" in result.out
    unused = lcops("frames", "list", reduced_season.config_path, "--unused")
    assert unused.out == "6 frames, 6 used, 0 not; 0 raw files could not be imported\n"


def test_list_before_any_run(lcops, season):
    result = lcops("frames", "list", season.config_path)
    assert (result.code, result.out) == (0, "0 frames, 0 used, 0 not; 0 raw files could not be imported\n")
    assert len(list(csv.reader(io.StringIO(lcops("frames", "list", season.config_path, "--csv").out)))) == 1


def test_list_tells_of_raw_files_that_were_not_imported(lcops, imported):
    result = lcops("frames", "list", imported.config_path)
    assert "1 raw file could not be imported\n" in result.out
    assert "bad.fits" in result.out.splitlines()[-1]


def test_csv_reads_back(lcops, imported):
    lcops("frames", "eliminate", imported.config_path, "2", "--comment", 'clouds, "thick"')
    rows = list(csv.DictReader(io.StringIO(lcops("frames", "list", imported.config_path, "--csv").out)))
    assert [row["original_image_path"] for row in rows] == [str(path) for path in imported.raw]
    assert float(rows[0]["exptime"]) == 300
    assert rows[1]["comment"] == 'clouds, "thick"'
    assert rows[1]["reason_not_used"].endswith('clouds, "thick"')
    assert len({tuple(row) for row in rows}) == 1
    unused = lcops("frames", "list", imported.config_path, "--csv", "--unused")
    assert len(list(csv.DictReader(io.StringIO(unused.out)))) == 6  # without cutouts none is used yet


def test_why(lcops, imported, reduced_season):
    first, second = (path.name for path in imported.raw[:2])
    assert (
        lcops("frames", "why", imported.config_path, first).out == f"frames/{first}: cutouts not made yet\n"
    )
    both = lcops("frames", "why", imported.config_path, first, "2", "bad.fits")
    assert [line.split(":")[0].rsplit("/", 1)[-1] for line in both.out.splitlines()] == [
        first,
        second,
        "bad.fits",
    ]
    assert lcops("frames", "why", reduced_season.config_path, "3").out.endswith(": used\n")


def test_eliminate_and_restore(lcops, imported):
    config = imported.config_path
    name = imported.raw[1].name
    done = lcops("frames", "eliminate", config, name, "--comment", "satellite")
    assert done.out == f"1 frame eliminated; `lcops run {config}` updates the light curve\n"
    why = lcops("frames", "why", config, name).out
    assert "eliminated by user " in why
    assert why.endswith(": satellite\n")
    # A frame that a user took out stays out: nothing brings it back but restore.
    assert lcops("run", "-q", config, "--to", "plate", "--redo", "plate").code == 0
    assert lcops("frames", "why", config, name).out == why
    assert lcops("frames", "restore", config, "*").out.startswith("1 frame restored; ")
    assert "cutouts not made yet" in lcops("frames", "why", config, name).out
    assert (
        lcops("frames", "restore", config, name).out == "nothing to restore: no such frame was eliminated\n"
    )


def test_patterns_choose_many(lcops, imported):
    done = lcops("frames", "eliminate", imported.config_path, "*_001", "1", "--comment", "twilight")
    assert done.out.startswith("3 frames eliminated; ")


@pytest.mark.parametrize("command", [["why"], ["eliminate", "--comment", "x"], ["restore"]])
def test_one_wrong_name_is_refused_and_nothing_is_done(lcops, imported, command):
    action, *options = command
    before = lcops("frames", "list", imported.config_path, "--csv").out
    result = lcops("frames", action, imported.config_path, "1", "nosuch", "99", *options)
    assert (result.code, result.out) == (2, "")
    assert f"no frame matches nosuch, 99; `lcops frames list {imported.config_path}` lists them" in result.err
    assert lcops("frames", "list", imported.config_path, "--csv").out == before
