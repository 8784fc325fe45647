"""Choice of the control stars."""

from dataclasses import replace

import numpy as np
import pytest

from lightcurver_ops.catalogs.controls import control_ranking, lens_magnitude
from lightcurver_ops.catalogs.merit import Candidates


def field(number=40):
    """Sound stars of G 15 to 20, all at one distance from the ROI."""
    angle = np.linspace(0, 2 * np.pi, number, endpoint=False)
    gmag = np.linspace(15.0, 20.0, number)
    return Candidates(
        gmag=gmag,
        colour=np.full(number, 1.0),
        east=100 * np.cos(angle),
        north=100 * np.sin(angle),
        contamination=np.zeros(number),
        excess_noise=np.full(number, 0.1),
        excess_noise_sig=np.full(number, 0.5),
        flux_over_error=1 / np.hypot(4e-4, 1e-3 * 10 ** (0.3 * (gmag - 16))),
    )


def changed(stars, index, **values):
    """The stars, one of them another."""
    columns = {name: getattr(stars, name).copy() for name in values}
    for name, value in values.items():
        columns[name][index] = value
    return replace(stars, **columns)


def nearest(stars, magnitude):
    return int(np.argmin(np.abs(stars.gmag - magnitude)))


def test_the_star_nearest_in_brightness_comes_first():
    stars = field()
    order = control_ranking(stars, 18.1)
    assert order[0] == nearest(stars, 18.1)
    assert sorted(order) == list(range(40))
    difference = np.abs(stars.gmag[order] - 18.1)
    assert np.all(np.diff(difference[:20]) >= 0)


@pytest.mark.parametrize(
    "fault",
    [
        {"contamination": 0.3},
        {"excess_noise": 8.0, "excess_noise_sig": 200.0},
        {"flux_over_error": 20.0},
        {"east": 400.0},
    ],
)
def test_a_star_with_a_fault_makes_way_for_the_next(fault):
    stars = field()
    first, second = control_ranking(stars, 18.1)[:2]
    assert control_ranking(changed(stars, first, **fault), 18.1)[0] == second


def test_a_star_that_frames_may_not_reach_makes_way_unless_it_is_much_better():
    stars = field()
    spread = replace(stars, east=np.linspace(1, 300, 40)[::-1], north=np.zeros(40))
    near = spread.east <= np.percentile(spread.east, 100 / 3)
    assert control_ranking(spread, 16.6)[0] == np.flatnonzero(near)[0]  # of G 18.5
    assert control_ranking(spread, 15.0)[0] == 0


def test_what_the_catalogue_does_not_know_is_held_against_nobody():
    stars = field()
    unknown = np.full(40, np.nan)
    blank = replace(
        stars,
        contamination=unknown,
        excess_noise=unknown,
        excess_noise_sig=unknown,
        flux_over_error=unknown,
        colour=unknown,
    )
    np.testing.assert_array_equal(control_ranking(blank, 18.1), control_ranking(stars, 18.1))


def test_a_star_of_unknown_brightness_is_not_taken():
    stars = changed(field(), 3, gmag=np.nan)
    assert 3 not in control_ranking(stars, 15.4)
    assert len(control_ranking(changed(stars, slice(None), gmag=np.nan), 15.4)) == 0


def test_without_a_lens_in_the_catalogue_the_faintest_sound_stars_are_taken():
    stars = field()
    assert list(control_ranking(stars, None)[:2]) == [39, 38]
    doubtful = changed(stars, slice(36, 40), excess_noise=20.0, excess_noise_sig=100.0)
    assert control_ranking(doubtful, None)[0] == 35


def test_the_order_of_the_rows_does_not_matter():
    stars = field()
    mixed = np.random.default_rng(2).permutation(40)
    shuffled = Candidates(**{name: values[mixed] for name, values in vars(stars).items()})
    np.testing.assert_array_equal(mixed[control_ranking(shuffled, 17.3)], control_ranking(stars, 17.3))


def test_the_lens_is_as_bright_as_the_median_of_its_sources():
    gmag, distance = [18.4, 18.9, 20.3, 14.0, np.nan], [1.0, 1.5, 0.2, 30.0, 0.5]
    assert lens_magnitude(gmag, distance, 5.0) == 18.9
    assert lens_magnitude(gmag, distance, 0.1) is None
    assert lens_magnitude([], [], 5.0) is None
