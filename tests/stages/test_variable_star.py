"""A reference star that varies is named, marked and hardly counts."""

import re

import numpy as np
import pytest

from lightcurver_ops.bookkeeping import photometry, stars
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.tables import star_flux_in_frame
from lightcurver_ops.numerics.normalization import normalization_coefficients, variable_stars
from lightcurver_ops.stages.calculate_normalization_coefficient import FluxTable, _variation
from lightcurver_ops.stages.pipeline import run_pipeline, stage_number

NORM = stage_number("calculate_normalization_coefficient")


@pytest.fixture
def lens(season_copy):
    lens = season_copy().lens()
    yield lens
    lens.close()


def normalized(lens):
    """The note of a new normalization, and by gaia id what it says of the stars."""
    (result,) = run_pipeline(lens, first=NORM, last=NORM, redo=NORM)
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        rows = photometry.star_normalizations_of(connection, lens.name, selection)
        coefficients = photometry.coefficients_of(connection, lens.name, selection)
    assert result.report is not None
    return (
        result.report.summary(),
        {row.star_gaia_id: row for row in rows},
        {frame: row.coefficient for frame, row in coefficients.items()},
    )


def test_it_is_named_and_does_not_pull(lens):
    note, before, quiet = normalized(lens)
    assert "varies" not in note
    assert not any(row.variable for row in before.values())
    assert all(row.excess is not None and row.chi2 is not None for row in before.values())
    with writing(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        star = next(one for one in stars.stars_of(connection, lens.name, selection) if one.gaia_id in before)
        flux = star_flux_in_frame
        for number, frame in enumerate(quiet):
            connection.execute(
                flux.update()
                .where(flux.c.frame_id == frame, flux.c.star_gaia_id == star.gaia_id)
                .values(flux=flux.c.flux * (1.3 if number % 2 else 0.7))
            )
    note, after, coefficients = normalized(lens)
    assert [gaia_id for gaia_id, row in after.items() if row.variable] == [star.gaia_id]
    assert f"star {star.name} varies by " in note
    assert "consider `lcops stars exclude`" in note
    assert after[star.gaia_id].excess > 0.1
    assert after[star.gaia_id].weight < 0.3 * before[star.gaia_id].weight + 0.01
    for frame, coefficient in coefficients.items():
        assert coefficient == pytest.approx(quiet[frame], rel=0.01)


def test_one_that_is_disturbed_in_some_frames_is_told_apart_from_a_variable_one():
    """A blemish, an eclipse: not a star that varies all the time, but one that is wrong now and then."""
    rng = np.random.default_rng(5)
    truth = np.exp(rng.normal(8, 1, (10, 1))) * rng.uniform(0.7, 1.1, 60)
    uncertainty = 0.005 * truth
    flux = rng.normal(truth, uncertainty)
    flux[3, ::10] *= 3
    flux[7] *= 1 + 0.1 * np.sin(np.arange(60))
    table = FluxTable([], list("abcdefghij"), flux, uncertainty)
    result = normalization_coefficients(flux, uncertainty)
    assert list(np.flatnonzero(variable_stars(flux, uncertainty, result))) == [3, 7]
    assert _variation(table, result, 3) == "is far off in 6 of 60 frames"
    assert re.fullmatch(r"varies by [5-9]\.\d %", _variation(table, result, 7))
