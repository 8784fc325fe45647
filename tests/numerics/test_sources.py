import numpy as np
import pytest
import sep

from lightcurver_ops.errors import BadFrame
from lightcurver_ops.numerics.sources import detect, extract_sources

EXPTIME, SKY = 100.0, 10.0
RMS = np.sqrt(SKY * EXPTIME) / EXPTIME


def field(positions, fluxes, fwhm=4.0, shape=(300, 400), stretch=1.0, seed=0):
    """Elongated Gaussians with photon noise, e-/s, sky subtracted."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.zeros(shape)
    for (cx, cy), flux, ratio in zip(positions, fluxes, np.broadcast_to(stretch, len(fluxes)), strict=True):
        sigma = fwhm / 2.3548
        profile = np.exp(-0.5 * (((x - cx) / (ratio * sigma)) ** 2 + ((y - cy) / sigma) ** 2))
        image += flux * profile / (2 * np.pi * ratio * sigma**2)
    rng = np.random.default_rng(seed)
    return rng.poisson((image + SKY) * EXPTIME) / EXPTIME - SKY


def grid():
    return [(x + 0.3, y - 0.4) for x in range(30, 400, 50) for y in range(30, 300, 60)]


def test_positions_fluxes_and_widths():
    positions = grid()
    fluxes = np.geomspace(2000, 200, len(positions))
    found = extract_sources(field(positions, fluxes), RMS, EXPTIME, 3.0, 5)
    # Of many equal shapes, the cut at 3 standard deviations takes one or two with it.
    assert len(positions) - 2 <= len(found) <= len(positions)
    assert np.all(np.diff(found.flux) <= 0)
    for x, y, flux in zip(found.x, found.y, found.flux, strict=True):
        separation = [np.hypot(x - cx, y - cy) for cx, cy in positions]
        assert np.min(separation) < 0.1
        np.testing.assert_allclose(flux, fluxes[np.argmin(separation)], rtol=0.1)
    # Second moments above a threshold fall short of those of the whole profile.
    np.testing.assert_allclose(np.median(found.fwhm), 4.0, rtol=0.08)
    assert np.median(found.ellipticity) < 0.1


def test_the_elongated_one_is_dropped():
    positions = grid()
    stretch = np.ones(len(positions))
    stretch[7] = 4.0
    found = extract_sources(
        field(positions, np.full(len(positions), 2000.0), stretch=stretch), RMS, EXPTIME, 3.0, 5
    )
    cx, cy = positions[7]
    assert np.hypot(found.x - cx, found.y - cy).min() > 20
    assert len(found) >= len(positions) - 3


def test_masked_and_non_finite_pixels_give_no_sources():
    image = field([(100, 100), (200, 200), (300, 100)], [5000.0] * 3)
    image[95:106, 95:106] = np.nan
    good = np.ones(image.shape, dtype=bool)
    good[185:216, 185:216] = False
    found = extract_sources(image, RMS, EXPTIME, 5.0, 5, good)
    near_third = np.hypot(found.x - 300, found.y - 100) < 2
    assert near_third.sum() == 1
    assert not (np.hypot(found.x - 200, found.y - 200) < 12).any()


def test_an_empty_sky_has_no_sources():
    found = extract_sources(field([], []), RMS, EXPTIME, 6.0, 5)
    assert len(found) == 0
    assert found.fwhm.shape == (0,)


def test_crowded_frames_overflow_no_buffer(monkeypatch):
    positions = grid()
    image = field(positions, np.full(len(positions), 2000.0))
    expected = extract_sources(image, RMS, EXPTIME, 2.0, 5)
    sep.set_extract_pixstack(1000)
    try:
        np.testing.assert_array_equal(extract_sources(image, RMS, EXPTIME, 2.0, 5).x, expected.x)
        assert sep.get_extract_pixstack() == 1000
    finally:
        sep.set_extract_pixstack(300_000)


def test_many_blended_objects_overflow_no_buffer():
    rng = np.random.default_rng(5)
    image = np.full((160, 160), 50.0)
    image[2::4, 2::4] += rng.uniform(500, 1000, (40, 40))
    with pytest.raises(Exception, match="deblending"):
        sep.extract(image, 10.0, minarea=1, filter_kernel=None, deblend_cont=1e-9, clean=False)
    found = detect(image, 10.0, minarea=1, filter_kernel=None, deblend_cont=1e-9, clean=False)
    assert len(found) > 1024


@pytest.mark.parametrize(("rms", "exptime"), [(0.0, 1.0), (np.nan, 1.0), (1.0, 0.0)])
def test_impossible_noise_is_refused(rms, exptime):
    with pytest.raises(BadFrame, match="positive"):
        extract_sources(np.zeros((50, 50)), rms, exptime, 3.0, 5)
