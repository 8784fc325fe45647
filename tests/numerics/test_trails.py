"""Trails in whole frames of known content."""

import numpy as np
import pytest

from lightcurver_ops.numerics.trails import Trail, find_trails, trail_pixels

SHAPE = (300, 320)
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]]


def sky_with_stars(seed, n_stars=50, brightest=4.0):
    """Noise of 1, and stars of 10 to 10^brightest times that at their peaks."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=SHAPE)
    for x, y, peak in zip(
        rng.uniform(0, SHAPE[1], n_stars),
        rng.uniform(0, SHAPE[0], n_stars),
        rng.uniform(1, brightest, n_stars),
    ):
        image += 10**peak * np.exp(-0.5 * ((X - x) ** 2 + (Y - y) ** 2) / 1.6**2)
    return image


def line(angle, offset, peak, sigma):
    """A trail through the frame, `offset` pixels beside its middle."""
    t = np.radians(angle)
    distance = (X - SHAPE[1] / 2) * np.sin(t) - (Y - SHAPE[0] / 2) * np.cos(t) - offset
    return peak * np.exp(-0.5 * (distance / sigma) ** 2)


def found(image):
    return trail_pixels(image, np.ones(SHAPE), 3.8)


@pytest.mark.parametrize(
    ("angle", "offset", "peak", "sigma"),
    [(30, 10, 60, 2.2), (30, 10, 1.0, 2.2), (85, -40, 2, 2), (-50, 30, 5, 4), (0, 20, 5, 3), (90, 5, 5, 3)],
)
def test_a_trail_is_masked_to_where_it_is_faint(angle, offset, peak, sigma):
    trail = line(angle, offset, peak, sigma)
    mask = found(sky_with_stars(1) + trail)
    assert (trail[~mask] > 0.3).sum() < 0.01 * (trail > 0.3).sum()
    assert (mask & (trail < 1e-3 * peak)).mean() < 0.05


def test_two_trails_are_both_found():
    trails = line(20, 0, 30, 2) + line(110, 40, 8, 2)
    assert (trails[~found(sky_with_stars(2) + trails)] > 0.5).mean() < 1e-3


def test_a_trail_may_end_in_the_frame():
    trail = line(25, 0, 20, 2.2) * (X < 200)
    mask = found(sky_with_stars(3) + trail)
    assert (trail[~mask] > 1).sum() < 0.02 * (trail > 1).sum()
    assert not mask[:, 260:].any()


@pytest.mark.parametrize("seed", range(5))
def test_stars_alone_are_no_trail(seed):
    assert not find_trails(sky_with_stars(seed, 20 + 40 * seed), np.ones(SHAPE), 3.8)


def test_galaxies_arcs_spikes_and_bleeding_columns_are_no_trails():
    image = sky_with_stars(4)
    along, across = (X - 100) * 0.8 + (Y - 80) * 0.6, (Y - 80) * 0.8 - (X - 100) * 0.6
    image += 500 * np.exp(-np.hypot(along / 12, across / 2))  # an edge-on galaxy
    radius = np.hypot(X - 200, Y - 200)
    image += 50 * np.exp(-0.5 * ((radius - 8) / 1.5) ** 2) * (X > 200)  # an arc
    distance = np.hypot(X - 240, Y - 90)
    image += 1e5 * (1 + (distance / 3) ** 2) ** -2.5  # a bright star with spikes and a bleeding column
    for across in (X - Y - (240 - 90), X + Y - (240 + 90)):
        image += 400 * np.exp(-0.5 * (across / 2) ** 2 - distance / 12)
    image += 3000.0 * ((np.abs(X - 240) < 1) & (np.abs(Y - 90) < 45))
    assert not find_trails(image, np.sqrt(1 + np.clip(image, 0, None) / 50), 3.8)


def test_a_faint_gradient_and_unknown_pixels_are_no_trail():
    image = sky_with_stars(5) + 0.01 * X
    image[:, 100:104] = np.nan
    assert not find_trails(image, np.ones(SHAPE), 3.8)
    assert not find_trails(np.full(SHAPE, np.nan), np.ones(SHAPE), 3.8)
    assert not find_trails(image[:40], np.ones((40, 320)), 3.8)


def test_the_mask_of_a_trail_is_a_band():
    mask = Trail(10.0, 20.0, 30.0, 20.0, 2.0).mask((40, 60))
    assert mask[18:23, 8:33].all()
    assert mask.sum() == pytest.approx(5 * 25, abs=10)
