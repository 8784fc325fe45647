"""A synthetic observatory: its files are valid, and a second call leaves the raw frames alone."""

from dataclasses import replace

from lightcurver_ops.config import load_lens
from lightcurver_ops.operations.observatory import load_lenses, open_observatory
from lightcurver_ops.simulation.observatory import shifted, simulate_observatory
from tests.seasons import SMALL

LENSES = tuple(replace(SMALL, name=name, n_nights=2, exposures_per_night=1) for name in ("one", "two"))


def frames(directory):
    return {path: path.stat().st_mtime_ns for path in directory.glob("sim/*/raw/*.fits")}


def test_the_files_are_an_observatory(tmp_path):
    truths = simulate_observatory(
        tmp_path, LENSES, settings={"summary": {"time": "10:00"}}, keys={"psf": {"subsampling_factor": 3}}
    )
    observatory = open_observatory(tmp_path / "observatory.yaml")
    assert observatory.config.summary.time == "10:00"
    loaded = load_lenses(observatory.lens_files())
    assert loaded.broken == {}
    assert [one.lens.name for one in loaded.lenses] == list(truths) == ["one", "two"]
    lens = load_lens(tmp_path / "lenses" / "one.yaml")
    assert lens.workdir == tmp_path / "work" / "one"
    assert lens.psf.subsampling_factor == 3
    assert len(frames(tmp_path)) == 4


def test_frames_that_are_there_are_not_written_again(tmp_path):
    simulate_observatory(tmp_path, LENSES, nights={"one": [0]})
    before = frames(tmp_path)
    assert len(before) == 3
    truths = simulate_observatory(tmp_path, LENSES, nights={"one": [0]})
    assert frames(tmp_path) == before
    assert len(truths["two"].frames) == 2
    simulate_observatory(tmp_path, LENSES)  # the night that was missing
    assert len(frames(tmp_path)) == 4
    next(iter(before)).unlink()
    simulate_observatory(tmp_path, LENSES)
    assert len(frames(tmp_path)) == 4


def test_a_season_is_moved_to_end_on_a_day():
    moved = shifted(SMALL, 61000)
    assert moved.day(SMALL.n_nights - 1) == 61000
    assert moved.night_gap_days == SMALL.night_gap_days
