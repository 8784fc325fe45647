"""A user takes a reference star out: it leaves the PSF and the normalization, and comes back as if nothing had been."""

import pytest

from lightcurver_ops.bookkeeping import photometry, stars
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.frames import all_frames
from lightcurver_ops.stages.calculate_normalization_coefficient import flux_tables
from lightcurver_ops.stages.pipeline import STAGES, pipeline_state, run_pipeline, stage_number
from lightcurver_ops.stages.reference_stars import stars_per_frame

IMPORT, PSF, NORM = (
    stage_number(name) for name in ("read_convert", "psf_modeling", "calculate_normalization")
)
JOINT = {
    "calculate_normalization_coefficient": 1,
    "calculate_absolute_zeropoints": 1,
    "prepare_calibrated_cutouts": 1,
    "model_calibrated_cutouts": 1,
}


@pytest.fixture
def lens(season_copy):
    """The small season, up to date."""
    lens = season_copy().lens()
    run_pipeline(lens, last=IMPORT)
    yield lens
    lens.close()


def names_for(lens, purpose, spare=0):
    """The stars of each frame."""
    with reading(lens.engine) as connection:
        chosen = stars_per_frame(connection, lens.config, purpose, all_frames(connection, lens.name), spare)
    return [[star.name for star in of_frame] for of_frame in chosen.values()]


def star_called(connection, lens, name):
    selection = stars.current_selection(connection, lens.name)
    return next(star for star in stars.stars_of(connection, lens.name, selection) if star.name == name)


def exclude(lens, name):
    with writing(lens.engine) as connection:
        stars.exclude_star(connection, lens.name, star_called(connection, lens, name), "it varies", "ada")


def include(lens, name):
    with writing(lens.engine) as connection:
        return stars.include_star(connection, lens.name, star_called(connection, lens, name).gaia_id)


def outdated(lens):
    return {state.stage: len(state.outdated()) for state in pipeline_state(lens) if state.outdated()}


def plans(lens):
    with reading(lens.engine) as connection:
        return {stage.name: stage(lens).plan(connection) for stage in STAGES}


def test_an_excluded_star_makes_way_for_the_next_and_comes_back(lens):
    before = {purpose: names_for(lens, purpose) for purpose in ("psf", "norm")}
    assert all("a" in names for frames in before.values() for names in frames)
    exclude(lens, "a")
    for purpose, number in (("psf", 5), ("norm", 8)):
        for names in names_for(lens, purpose):
            assert "a" not in names
            assert len(names) == number
    assert include(lens, "a")
    assert {purpose: names_for(lens, purpose) for purpose in ("psf", "norm")} == before
    assert not include(lens, "a")


def test_exactly_what_depends_on_the_star_is_out_of_date(lens):
    assert outdated(lens) == {}
    before = plans(lens)
    exclude(lens, "a")
    assert outdated(lens) == {"psf_modeling": 6, "star_photometry": 6, **JOINT}
    during = plans(lens)
    assert next(name for name in before if during[name] != before[name]) == "psf_modeling"
    include(lens, "a")
    assert plans(lens) == before
    assert outdated(lens) == {}


def test_a_star_of_the_normalization_alone_leaves_the_psf_as_it_is(lens):
    # spare stars may be taken, too
    of_psf = {name for names in names_for(lens, "psf", spare=2) for name in names}
    name = next(name for name in names_for(lens, "norm")[0] if name not in of_psf)
    before = plans(lens)
    exclude(lens, name)
    assert outdated(lens) == JOINT
    include(lens, name)
    assert plans(lens) == before


def test_several_exclusions_in_any_order(lens):
    exclude(lens, "a")
    exclude(lens, "c")
    both = plans(lens)
    include(lens, "a")
    include(lens, "c")
    exclude(lens, "c")
    exclude(lens, "a")
    assert plans(lens) == both
    with reading(lens.engine) as connection:
        rows = stars.exclusions_of(connection, lens.name)
        ids = stars.excluded_ids(connection, lens.name)
        assert stars.exclusions_of(connection, "other") == []
    assert [(row.name, row.comment, row.decided_by) for row in rows] == [
        ("a", "it varies", "ada"),
        ("c", "it varies", "ada"),
    ]
    assert ids == sorted(row.star_gaia_id for row in rows)


def test_the_psf_and_the_normalization_are_made_without_the_star(lens):
    with reading(lens.engine) as connection:
        out = star_called(connection, lens, "a").gaia_id
        before = {name: table.star_ids for name, table in flux_tables(connection, lens).items()}
        selection = stars.current_selection(connection, lens.name)
        coefficients = photometry.coefficients_of(connection, lens.name, selection)
    assert out in before["r"]
    exclude(lens, "a")
    made = run_pipeline(lens, first=PSF, last=NORM)
    assert [result.report.done for result in made] == [6, 6, 1]
    with reading(lens.engine) as connection:
        psfs = photometry.psfs_of(connection, lens.name, selection)
        tables = flux_tables(connection, lens)
        after = photometry.coefficients_of(connection, lens.name, selection)
    assert len(psfs) == 6
    for psf in psfs.values():
        assert "a" not in psf.psf_ref.removeprefix("psf_").split("_")
    assert out not in tables["r"].star_ids
    assert after.keys() == coefficients.keys()
    for frame, one in after.items():
        assert one.coefficient != coefficients[frame].coefficient
        assert one.coefficient == pytest.approx(coefficients[frame].coefficient, rel=0.05)
