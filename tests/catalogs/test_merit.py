"""Merit of reference stars: neighbours, qualities, and the order of choice."""

from dataclasses import fields, replace

import numpy as np
import pytest

from lightcurver_ops.catalogs.merit import Candidates, contamination, offsets, qualities, ranking

STAMP = 8.0


def stars(n=12, radius=100.0, **columns):
    """Stars of one brightness on a circle around the ROI, about which the catalogue says nothing bad."""
    angle = 2 * np.pi * np.arange(n) / n
    usual = {
        "gmag": np.full(n, 17.0),
        "colour": np.full(n, 1.0),
        "east": radius * np.cos(angle),
        "north": radius * np.sin(angle),
        "contamination": np.zeros(n),
        "excess_noise": np.full(n, 0.1),
        "excess_noise_sig": np.full(n, 0.5),
        "flux_over_error": np.full(n, 1000.0),
    }
    made = {name: values.copy() for name, values in usual.items()}
    for name, changes in columns.items():
        for index, value in changes.items():
            made[name][index] = value
    return Candidates(**made)


def arcsec_apart(*places):
    """ra, dec of places (east, north) in arcsec, across RA 0."""
    east, north = np.array(places, dtype=float).T
    return (east / 3600 / np.cos(np.radians(40.0))) % 360, 40.0 + north / 3600


def test_neighbours_count_by_flux_and_nearness():
    ra, dec = arcsec_apart((0, 0), (2, 0), (60, 0), (62, 0), (-60, 0), (-60, 5.9))
    g = [17.0, 17.0, 17.0, 19.5, 17.0, 10.0]
    found = contamination(ra, dec, g, STAMP)
    near = np.exp(-0.5)  # 2 arcsec are a quarter of the stamp
    np.testing.assert_allclose(found[:4], [near, near, 0.1 * near, 10 * near], rtol=1e-3)
    np.testing.assert_array_equal(found[4:], 0.0)  # beyond the corner of the stamp, however bright


def test_neighbours_of_unknown_brightness():
    ra, dec = arcsec_apart((0, 0), (2, 0))
    np.testing.assert_array_equal(contamination(ra, dec, [17.0, np.nan], STAMP), [0.0, np.nan])
    assert contamination([], [], [], STAMP).shape == (0,)


def test_offsets_are_arcsec_on_the_sky():
    ra, dec = arcsec_apart((100, 0), (-100, 0), (0, 50), (0, 0))
    east, north = offsets(ra, dec, 0.0, 40.0)
    np.testing.assert_allclose(east, [100, -100, 0, 0], atol=0.01)
    np.testing.assert_allclose(north, [0, 0, 50, 0], atol=0.05)
    east, north = offsets([90.0], [89.99], 270.0, 89.99)  # across the pole
    assert np.hypot(east, north) == pytest.approx(0.02 * 3600, rel=1e-6)


WORSE = {
    "faint": {"gmag": {3: 19.0}},
    "of unknown brightness": {"gmag": {3: np.nan, 7: 20.0}},
    "close bright neighbour": {"contamination": {3: 0.5}},
    "red": {"colour": {3: 3.5}},
    "galaxy": {"excess_noise": {3: 5.0}, "excess_noise_sig": {3: 100.0}},
    "far": {"east": {3: 900.0}},
}


@pytest.mark.parametrize("purpose", ["psf", "norm"])
@pytest.mark.parametrize("worse", WORSE.values(), ids=WORSE)
def test_a_worse_star_is_passed_over(purpose, worse):
    quality = qualities(stars(**worse), 5, purpose)
    others = np.delete(quality, [3, 7])
    assert quality[3] < 0.6 * others.min()
    assert 3 not in ranking(stars(**worse), 5, purpose)[:10]


def test_a_variable_star_is_worse_for_the_normalization_alone():
    variable = stars(flux_over_error={3: 100.0})
    assert qualities(variable, 5, "norm")[3] < 0.1 * qualities(variable, 5, "norm")[4]
    assert qualities(variable, 5, "psf")[3] == qualities(variable, 5, "psf")[4]


def test_faint_stars_are_not_called_variable_for_their_noise():
    g = np.linspace(14.0, 20.0, 60)
    field = stars(60)
    field = replace(field, gmag=g, flux_over_error=5000 * 10 ** (-0.3 * (g - 14.0)))
    unknown = replace(field, flux_over_error=np.full(60, np.nan))
    np.testing.assert_allclose(qualities(field, 20, "norm"), qualities(unknown, 20, "norm"), rtol=0.05)


def test_distance_counts_more_for_the_psf():
    far = stars(east={3: 300.0})
    loss = {
        purpose: 1 - qualities(far, 5, purpose)[3] / qualities(far, 5, purpose)[4]
        for purpose in ("psf", "norm")
    }
    assert loss["psf"] > loss["norm"] > 0


@pytest.mark.parametrize(
    "column", [field.name for field in fields(Candidates) if field.name not in ("east", "north")]
)
def test_what_is_unknown_of_all_stars_counts_for_nobody(column):
    field = stars()
    if column == "excess_noise_sig":  # noise of unknown significance counts as it is
        field = replace(field, excess_noise=np.zeros(12))
    unknown = replace(field, **{column: np.full(12, np.nan)})
    known, found = qualities(field, 5, "norm"), qualities(unknown, 5, "norm")
    np.testing.assert_allclose(found / found[0], known / known[0])
    assert sorted(ranking(unknown, 5, "norm")) == list(range(12))


def test_brightness_beyond_what_is_needed_gains_little():
    """Three very bright stars, one of them blended, among many that suffice."""
    field = stars(20, gmag={0: 13.0, 1: 13.0, 2: 13.0}, contamination={0: 0.1})
    quality = qualities(field, 8, "psf")
    assert quality[1] < 2.1 * quality[5]
    assert quality[0] < quality[5]


def test_choice_goes_around_the_roi():
    """Ten good stars to the east, four not quite as bright to the west."""
    field = stars(14)
    angle = np.concatenate([np.linspace(-0.5, 0.5, 10), np.pi + np.linspace(-0.5, 0.5, 4)])
    field = replace(
        field, east=100 * np.cos(angle), north=100 * np.sin(angle), gmag=np.repeat([17.0, 17.3], [10, 4])
    )
    chosen = ranking(field, 6, "psf")[:6]
    assert np.sum(chosen >= 10) in (2, 3)
    # but no bad star for the sake of it
    assert not np.any(ranking(replace(field, gmag=np.repeat([17.0, 20.0], [10, 4])), 6, "psf")[:6] >= 10)


def test_order_of_the_catalogue_does_not_matter():
    rng = np.random.default_rng(3)
    field = stars(40)
    field = replace(field, **{name: rng.uniform(1, 20, 40) for name in ("gmag", "colour", "east", "north")})
    shuffle = rng.permutation(40)
    shuffled = Candidates(
        **{column.name: getattr(field, column.name)[shuffle] for column in fields(Candidates)}
    )
    np.testing.assert_array_equal(shuffle[ranking(shuffled, 10, "psf")], ranking(field, 10, "psf"))


def test_a_star_that_is_taken_out_changes_nothing_for_the_better_ones():
    rng = np.random.default_rng(3)
    field = stars(40)
    field = replace(field, **{name: rng.uniform(1, 20, 40) for name in ("gmag", "colour", "east", "north")})
    order = ranking(field, 10, "psf")
    allowed = np.ones(40, dtype=bool)
    allowed[order[20]] = False
    without = ranking(field, 10, "psf", allowed)
    np.testing.assert_array_equal(without[:20], order[:20])
    assert sorted(without) == sorted(np.delete(order, 20))


def test_no_star_and_one_star():
    none = Candidates(*[np.zeros(0)] * 8)
    assert ranking(none, 5, "psf").shape == (0,)
    alone = Candidates(*[np.array([np.nan])] * 2, np.zeros(1), np.zeros(1), *[np.array([np.nan])] * 4)
    np.testing.assert_array_equal(ranking(alone, 5, "norm"), [0])
