"""Which stars a frame's PSF and the normalization use: by merit, unless the user names them."""

import shutil

import numpy as np
import pytest

from lightcurver_ops.bookkeeping import photometry, stars
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.frames import all_frames
from lightcurver_ops.bookkeeping.tables import stars as star_table
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.pipeline import pipeline_state, run_pipeline, stage_number
from lightcurver_ops.stages.psf_modeling import PsfModeling
from lightcurver_ops.stages.reference_stars import DEFAULT_NUMBER, ranking_of_lens, stars_per_frame
from lightcurver_ops.stages.stamps import read_stamps

PSF = stage_number("psf_modeling")


@pytest.fixture
def lens(season_copy):
    lens = season_copy().lens()
    yield lens
    lens.close()


def of(lens, purpose, spare=0):
    """The names of the stars of each frame."""
    with reading(lens.engine) as connection:
        chosen = stars_per_frame(connection, lens.config, purpose, all_frames(connection, lens.name), spare)
    return [[star.name for star in of_frame] for of_frame in chosen.values()]


def with_stars(lens, **keys):
    """The lens with other keys of its group stars."""
    changed = lens.config.model_copy(update={"stars": lens.config.stars.model_copy(update=keys)})
    return type(lens)(changed)


def change(lens, name, **columns):
    with writing(lens.engine) as connection:
        connection.execute(star_table.update().where(star_table.c.name == name).values(**columns))


@pytest.mark.parametrize("purpose", ["psf", "norm"])
def test_a_number_takes_so_many_and_nothing_up_to_the_default(lens, purpose):
    few = of(with_stars(lens, **{f"stars_to_use_{purpose}": 3}), purpose)
    assert {len(names) for names in few} == {3}
    most = of(with_stars(lens, **{f"stars_to_use_{purpose}": None}), purpose)
    present = of(with_stars(lens, **{f"stars_to_use_{purpose}": 1000}), purpose)
    assert [len(names) for names in most] == [min(DEFAULT_NUMBER[purpose], len(names)) for names in present]


@pytest.mark.parametrize("purpose", ["psf", "norm"])
def test_a_list_wins_over_all_merit(lens, purpose):
    change(lens, "b", contamination=5.0, bmag=30.0)
    named = with_stars(lens, **{f"stars_to_use_{purpose}": ["b", "d"]})
    assert all(set(names) <= {"b", "d"} for names in of(named, purpose, spare=5))
    assert any("b" in names for names in of(named, purpose))
    with pytest.raises(ConfigurationError, match="no reference star is called 'nobody'; there are a, b"):
        of(with_stars(lens, **{f"stars_to_use_{purpose}": ["nobody"]}), purpose)


@pytest.mark.parametrize(
    "columns",
    [
        {"contamination": 0.5},
        {"bmag": 25.0},
        {"astrometric_excess_noise": 9.0, "astrometric_excess_noise_sig": 90.0},
    ],
)
def test_a_blended_a_red_and_an_extended_star_are_passed_over(lens, columns):
    first = of(lens, "psf")[0][0]
    change(lens, first, **columns)
    for purpose in ("psf", "norm"):
        assert not any(first in names for names in of(lens, purpose))
    states = {state.stage for state in pipeline_state(lens) if state.outdated()}
    assert {"psf_modeling", "calculate_normalization_coefficient"} <= states


def test_the_choice_of_a_frame_does_not_depend_on_other_frames(lens):
    with reading(lens.engine) as connection:
        rows = all_frames(connection, lens.name)
        together = stars_per_frame(connection, lens.config, "psf", rows)
        for row in rows:
            alone = stars_per_frame(connection, lens.config, "psf", [row])
            assert alone[row.id] == together[row.id]


def test_the_plan_opens_no_image(lens):
    with reading(lens.engine) as connection:
        before = PsfModeling(lens).plan(connection)
        shutil.rmtree(lens.workdir / "regions")
        shutil.rmtree(lens.workdir / "frames")
        assert PsfModeling(lens).plan(connection) == before


def test_neighbours_are_those_of_the_catalogue_also_the_ones_that_the_cuts_removed(lens, reduced_season):
    from astropy.table import Table

    from lightcurver_ops.catalogs.merit import contamination

    table = Table.read(reduced_season.directory / "catalogue.ecsv")
    lowest, highest = lens.config.plate_solving.plate_scale_interval
    stamp = lens.config.cutouts.stamp_size_stars * np.sqrt(lowest * highest)
    expected = contamination(table["ra"], table["dec"], table["phot_g_mean_mag"], stamp)
    by_id = dict(zip(map(str, table["source_id"]), expected, strict=True))
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        known = stars.stars_of(connection, lens.name, selection)
    assert len(known) < len(table)
    for star in known:
        assert star.contamination == pytest.approx(by_id[star.gaia_id])


def test_stars_that_a_frame_shows_saturated_make_way(lens):
    """Without a bright limit the best stars of the catalogue are saturated in every frame."""
    season_lens = with_stars(lens, min_gmag=None)
    run_pipeline(season_lens, last=PSF)
    with reading(season_lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        rows = all_frames(connection, lens.name)
        ranked = {
            star.name: star.gaia_id
            for star in ranking_of_lens(connection, season_lens.config, "psf", selection)
        }
        psfs = photometry.psfs_of(connection, lens.name, selection)
        candidates = stars_per_frame(connection, season_lens.config, "psf", rows, spare=2)
    passed_over = 0
    for row in rows:
        names = psfs[row.id].psf_ref.removeprefix("psf_").split("_")
        assert len(names) >= 4
        best = [star.name for star in candidates[row.id]]
        stack = read_stamps(
            lens.workdir, [row.image_relpath], [[ranked[name] for name in best]], 16, len(best)
        )
        saturated = [not good[7:9, 7:9].all() for good in stack.good[0]]
        passed_over += sum(saturated)
        assert not {name for name, bad in zip(best, saturated, strict=True) if bad} & set(names)
    assert passed_over > 0
