"""Frames of another scale, binned or mirrored ones never meet the others in one model: left out, with the numbers."""

import dataclasses
import re
from pathlib import Path

import pytest

from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.simulation import faults
from lightcurver_ops.simulation.exposures import night_exposures
from lightcurver_ops.simulation.field import make_contaminants, make_sources
from lightcurver_ops.simulation.season import raw_frame
from lightcurver_ops.stages.pipeline import run_pipeline
from lightcurver_ops.stages.same_camera import odd_frames
from lightcurver_ops.stages.usage import usage, usage_up_to_photometry

MIRRORED = "the frame is mirrored against the others of its filter"
SCALE = r"the plate scale is {}\d+ arcsec/px, that of the others {}\d+: more than 0\.5 % off \(roi_model\.max_scale"


def reasons(lens, function=usage):
    with reading(lens.engine) as connection:
        return {
            Path(item.frame.image_relpath).stem: item.reason for item in function(connection, lens.config)
        }


def other_camera(season, target, plate_scale):
    """The exposure of the season's first frame, as a camera of another scale saw it."""
    options = dataclasses.replace(season.truth.options, plate_scale=plate_scale)
    exposure = night_exposures(options, 0)[0]
    exposure = dataclasses.replace(exposure, mjd_start=exposure.mjd_start + 0.2)
    sources = make_sources(season.truth.options)
    contaminants = make_contaminants(season.truth.options, sources)
    raw_frame(options, sources, exposure, contaminants).writeto(target)


@pytest.fixture(scope="module")
def mixed(reduced_season, tmp_path_factory):
    from tests.seasons import copied

    season = copied(reduced_season, tmp_path_factory.mktemp("mixed") / "season")
    raw = season.directory / "raw"
    good = [path.stem for path in season.raw]
    faults.mirrored(season.raw[0], raw / "z_mirrored.fits")
    faults.binned(season.raw[1], raw / "z_binned.fits")
    other_camera(season, raw / "z_camera.fits", 0.365)
    season.configure(plate_solving={"plate_scale_interval": [0.3, 0.8]}, roi_model={"do_ROI_model": False})
    lens = season.lens()
    run_pipeline(lens)
    lens.close()
    return season, good


def test_they_take_no_part_and_say_why(mixed):
    season, good = mixed
    lens = season.lens()
    for function in (usage, usage_up_to_photometry):
        found = reasons(lens, function)
        assert [found[name] for name in good] == [None] * len(good)
        assert found["z_mirrored"] == MIRRORED
        assert re.match(SCALE.format(r"0\.[67]", r"0\.3"), found["z_binned"] or ""), found["z_binned"]
        assert re.match(SCALE.format(r"0\.36", r"0\.35|0\.34"), found["z_camera"] or ""), found["z_camera"]
    lens.close()


def test_a_constraint_on_the_scale_chooses_the_camera(mixed):
    season, good = mixed
    before = season.config_path.read_text()
    season.configure(roi_model={"constraints_on_frame_columns": {"pixel_scale": [0.36, 0.37]}})
    lens = season.lens()
    found = reasons(lens, usage_up_to_photometry)
    lens.close()
    season.config_path.write_text(before)
    assert found["z_camera"] is None
    assert all("the plate scale is" in found[name] for name in good)


def test_more_frames_of_a_new_camera_do_not_turn_out_the_first_ones(mixed):
    season, good = mixed
    lens = season.lens()
    with reading(lens.engine) as connection:
        items = {Path(one.frame.image_relpath).stem: one.frame for one in usage(connection, lens.config)}
        old, new = [items[name] for name in good], items["z_camera"]
        frames = [*old * 20, *[new] * 500]
        odd = odd_frames(connection, lens.config, frames, frames)
    lens.close()
    assert odd.keys() == {new.id}


def test_where_no_frame_is_typical_nothing_is_odd(mixed):
    season, _ = mixed
    lens = season.lens()
    with reading(lens.engine) as connection:
        rows = [one.frame for one in usage(connection, lens.config)]
        assert odd_frames(connection, lens.config, rows, []) == {}
    lens.close()
