from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.stats import sigma_clipped_stats

from lightcurver_ops.simulation import SeasonOptions, StarOptions, faults, simulate_season


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    options = SeasonOptions(
        name="good", seed=5, n_nights=1, exposures_per_night=1, shape=(160, 160), with_wcs=True
    )
    stars = StarOptions(
        number=12.0, magnitudes=(16.5, 18.5), separation_arcsec=8.0, companions=0.0, galaxies=0.0
    )
    options = replace(options, stars=stars, detector=replace(options.detector, bad_column=None))
    truth = simulate_season(options, tmp_path_factory.mktemp("good"))
    return truth.directory / "raw" / truth.frames["file"][0]


def cards(header):
    return {key: value for key, value in header.items() if key not in ("EXTEND", "COMMENT")}


def noise(path):
    """Of one pixel, from the differences of rows: trails lie along the rows."""
    differences = np.diff(fits.getdata(path).astype(float), axis=0)
    return sigma_clipped_stats(differences)[2] / np.sqrt(2)


def star_light(path):
    data = fits.getdata(path).astype(float)
    return data - sigma_clipped_stats(data)[1]


def widths(path):
    """Second moments along x and y of the autocorrelation's core: the mean shape of the stars."""
    light = star_light(path)
    light[light < 5 * sigma_clipped_stats(light)[2]] = 0
    spectrum = np.abs(np.fft.fft2(light)) ** 2
    core = np.fft.fftshift(np.fft.ifft2(spectrum).real)[70:91, 70:91]
    rows, columns = np.indices(core.shape) - 10
    return np.sqrt((core * columns**2).sum() / core.sum()), np.sqrt((core * rows**2).sum() / core.sum())


def test_the_good_frame_stays_as_it_was(raw, tmp_path):
    before = raw.read_bytes()
    for name in (
        "truncated",
        "not_fits",
        "without_exposure_time",
        "all_nan",
        "duplicate",
        "saturated",
        "trailed",
    ):
        assert getattr(faults, name)(raw, tmp_path / f"{name}.fits") == tmp_path / f"{name}.fits"
    assert raw.read_bytes() == before


def test_truncated_has_a_header_but_not_its_pixels(raw, tmp_path):
    path = faults.truncated(raw, tmp_path / "a.fits")
    assert b"OBJECT  = 'good" in path.read_bytes()
    with pytest.warns(UserWarning, match="truncated"), pytest.raises((OSError, TypeError, ValueError)):
        fits.getdata(path).sum()


def test_not_fits_cannot_be_opened(raw, tmp_path):
    with pytest.raises(OSError, match="SIMPLE"):
        fits.open(faults.not_fits(raw, tmp_path / "a.fits"))


def test_keyword_is_gone_and_only_that(raw, tmp_path):
    header = fits.getheader(faults.without_exposure_time(raw, tmp_path / "a.fits"))
    assert cards(fits.getheader(raw)).keys() - cards(header).keys() == {"EXPTIME"}


def test_all_nan(raw, tmp_path):
    assert np.isnan(fits.getdata(faults.all_nan(raw, tmp_path / "a.fits"))).all()


def test_other_shape_shows_the_same_sky(raw, tmp_path):
    path = faults.other_shape(raw, tmp_path / "a.fits")
    assert fits.getdata(path).shape == (80, 80)
    np.testing.assert_array_equal(fits.getdata(path), fits.getdata(raw)[40:120, 40:120])
    assert fits.getheader(path)["CRPIX1"] == fits.getheader(raw)["CRPIX1"] - 40


def test_duplicate_has_the_same_pixels_but_not_the_same_bytes(raw, tmp_path):
    path = faults.duplicate(raw, tmp_path / "a.fits")
    np.testing.assert_array_equal(fits.getdata(path), fits.getdata(raw))
    assert path.read_bytes() != raw.read_bytes()


def test_other_pixels_under_the_same_header(raw, tmp_path):
    path = faults.other_pixels(raw, tmp_path / "a.fits")
    assert cards(fits.getheader(path)) == cards(fits.getheader(raw))
    assert not np.array_equal(fits.getdata(path), fits.getdata(raw))


def test_other_field_shares_no_stars(raw, tmp_path):
    path = faults.other_field(raw, tmp_path / "a.fits")
    assert sigma_clipped_stats(fits.getdata(path))[1] == pytest.approx(
        sigma_clipped_stats(fits.getdata(raw))[1], rel=0.02
    )
    assert (star_light(path) > 500).sum() > 50
    assert np.corrcoef(star_light(path).ravel(), star_light(raw).ravel())[0, 1] < 0.3
    assert abs(fits.getheader(path)["CRVAL2"] - fits.getheader(raw)["CRVAL2"]) > 1


def test_constant_and_saturated(raw, tmp_path):
    assert np.ptp(fits.getdata(faults.constant(raw, tmp_path / "a.fits"))) == 0
    assert (fits.getdata(faults.saturated(raw, tmp_path / "b.fits")) == fits.getheader(raw)["SATURATE"]).all()


@pytest.mark.parametrize("double", [False, True])
def test_trailed_is_long_along_x_and_as_noisy(raw, tmp_path, double):
    path = faults.trailed(raw, tmp_path / "a.fits", double=double)
    good, bad = widths(raw), widths(path)
    assert bad[0] > 1.25 * good[0]
    assert bad[1] == pytest.approx(good[1], rel=0.1)
    assert noise(path) == pytest.approx(noise(raw), rel=0.1)


def test_clouds_dim_the_stars_not_the_noise(raw, tmp_path):
    path = faults.clouded(raw, tmp_path / "a.fits", transparency=0.05)
    bright = star_light(raw) > 2000
    assert bright.sum() > 20
    assert (star_light(path)[bright] / star_light(raw)[bright]).mean() == pytest.approx(0.05, abs=0.01)
    assert noise(path) == pytest.approx(noise(raw), rel=0.1)
