import galsim
import numpy as np
import pytest

from lightcurver_ops.numerics.psf.wings import (
    EXPECTED,
    Wings,
    extended_with_wings,
    joined_with_wings,
    measure_wings,
)

SEEING = 1.0  # arcsec
SCALE = 0.22  # arcsec/px
NOISE = 0.3
SKY = 0.08  # left around every star


def turbulence(seeing=SEEING):
    return galsim.Kolmogorov(fwhm=seeing, gsparams=galsim.GSParams(folding_threshold=2e-4))


def field_of_stars(seed=1, fluxes=(9e4, 6e4, 5e4, 3e4, 2e4, 1e4), side=360, seeing=SEEING):
    """A frame, its noise, and x, y and flux of its stars."""
    rng = np.random.default_rng(seed)
    places = [(60, 60), (180, 70), (300, 60), (70, 190), (190, 200), (290, 290)]
    image = galsim.ImageD(side, side, scale=SCALE)
    stars = []
    for place, flux in zip(places, fluxes):
        x, y = np.array(place) + rng.uniform(-0.5, 0.5, 2)
        stamp = galsim.ImageD(galsim.BoundsI(1, side, 1, side), scale=SCALE)
        turbulence(seeing).withFlux(flux).drawImage(stamp, center=galsim.PositionD(x + 1, y + 1))
        image += stamp
        stars.append((x, y, flux))
    noise = np.sqrt(NOISE**2 + np.maximum(image.array, 0) / 300.0)
    return image.array + SKY + noise * rng.standard_normal(noise.shape), noise, np.array(stars)


def enclosed(side, seeing=SEEING):
    """Fraction of a star's light in a square of so many pixels, at the middle of which it is."""
    stamp = galsim.ImageD(side, side, scale=SCALE)
    turbulence(seeing).drawImage(stamp)
    return float(stamp.array.sum())


@pytest.mark.parametrize("seeing", [0.8, 1.0, 1.4])
def test_the_flux_outside_the_stamp_is_that_of_turbulence(seeing):
    image, noise, stars = field_of_stars(seeing=seeing)
    wings = measure_wings(
        image, noise, np.ones(image.shape, dtype=bool), stars[:, :2], stars, seeing / SCALE * 1.05
    )
    assert wings.n_stars == len(stars)
    outside = wings.beyond_square(24) / wings.total
    assert abs(outside - (1 - enclosed(24, seeing))) < 0.002
    # The sky is found where a stamp of 24 px would not tell it from the wings.
    np.testing.assert_allclose(wings.sky, SKY, atol=4 * NOISE / 40)


def test_neighbours_and_bad_cores_are_left_out():
    image, noise, stars = field_of_stars()
    good = np.ones(image.shape, dtype=bool)
    alone = measure_wings(image, noise, good, stars[:, :2], stars, 4.6)
    rng = np.random.default_rng(5)
    others = []
    for x, y, _ in stars:
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(20, 30)
        other = np.array([x + distance * np.cos(angle), y + distance * np.sin(angle), 1e3])
        stamp = galsim.ImageD(*image.shape, scale=SCALE)
        turbulence().withFlux(other[2]).drawImage(stamp, center=galsim.PositionD(*(other[:2] + 1)))
        image = image + stamp.array
        others.append(other)
    column, row = np.rint(stars[0, :2]).astype(int)
    good[row, column] = False
    crowded = measure_wings(image, noise, good, stars[:, :2], np.vstack([stars, others]), 4.6)
    assert np.isnan(crowded.sky[0])
    assert crowded.n_stars == len(stars) - 1
    sides = 24
    assert abs(crowded.beyond_square(sides) - alone.beyond_square(sides)) < 0.003


def test_without_stars_the_wings_are_those_expected():
    image, noise, _ = field_of_stars()
    nothing = np.array([[np.nan, np.nan]])
    wings = measure_wings(image, noise, np.ones(image.shape, dtype=bool), nothing, np.zeros((0, 3)), 4.6)
    assert wings.n_stars == 0
    np.testing.assert_allclose(wings.coefficients, EXPECTED)


def test_the_law_adds_up():
    wings = Wings(8.0, np.array([6e-3, 9e-3]), np.zeros(2), np.zeros(0), 1)
    radius = np.linspace(8.0, 4000.0, 400_000)
    numerically = np.trapezoid(2 * np.pi * radius * wings.profile(radius), radius)
    assert float(wings.beyond(np.array(8.0))) == pytest.approx(numerically, rel=1e-3)
    axis = np.arange(-600, 601)
    far = np.maximum(np.abs(axis)[:, None], np.abs(axis)) > 12
    flux = wings.profile(np.maximum(np.hypot(axis[:, None], axis), 1))[far].sum()
    assert wings.beyond_square(25.0) == pytest.approx(flux + float(wings.beyond(np.array(675.0))), rel=0.01)


def test_a_psf_goes_on_where_its_stamp_ends():
    k, size = 2, 24
    psf = turbulence()
    fine = galsim.ImageD(96 * k, 96 * k, scale=SCALE / k)
    psf.drawImage(fine, method="no_pixel")
    truth = fine.array
    part = slice((96 - size) // 2 * k, (96 + size) // 2 * k)
    image, noise, stars = field_of_stars()
    wings = measure_wings(image, noise, np.ones(image.shape, dtype=bool), stars[:, :2], stars, 4.6)
    joined, outside, wing = joined_with_wings(truth[part, part], wings, k)
    total = joined.sum() + outside
    assert total == pytest.approx(1.0, abs=0.003)
    larger = extended_with_wings(joined[None] / total, wing[None], 60 * k, k)[0]
    whole = truth[(96 - 60) // 2 * k : (96 + 60) // 2 * k, (96 - 60) // 2 * k : (96 + 60) // 2 * k]
    assert larger.shape == whole.shape
    ring = np.hypot(*(np.indices(whole.shape) - 59.5)) / k
    for low, high in ((12, 16), (16, 22), (22, 28)):
        there = (ring > low) & (ring < high)
        assert larger[there].sum() == pytest.approx(whole[there].sum(), rel=0.15)


def test_a_psf_without_wings_ends_where_it_does():
    psf = np.full((1, 4, 4), 1 / 16)
    larger = extended_with_wings(psf, np.zeros((1, 3)), 8, 2)
    assert larger.sum() == pytest.approx(1.0)
    assert larger.shape == (1, 8, 8)
    assert extended_with_wings(psf, np.zeros((1, 3)), 4, 2) is psf
