import numpy as np
import pytest

from lightcurver_ops.simulation.profiles import Psf, draw_galaxy, draw_points, psf_image, sersic_cells


def moments(image):
    rows, columns = np.indices(image.shape)
    return (image * columns).sum() / image.sum(), (image * rows).sum() / image.sum()


@pytest.mark.parametrize("fwhm", [1.0, 2.0, 4.0])
def test_pixels_hold_the_integral_of_the_profile(fwhm):
    """Against the analytic flux of a circular Moffat within a radius, on pixels much larger than the profile's."""
    beta, x, y = 3.0, 20.31, 19.77
    image = draw_points((41, 41), x, y, 1000.0, Psf(fwhm, beta), loss=1e-5)
    fine = draw_points((41 * 9, 41 * 9), 9 * x + 4, 9 * y + 4, 1000.0, Psf(fwhm, beta).scaled(9), loss=1e-5)
    binned = fine.reshape(41, 9, 41, 9).sum(axis=(1, 3))
    np.testing.assert_allclose(image, binned, atol=1e-4 * image.max())
    rows, columns = np.indices(fine.shape)
    inside = np.hypot(columns - 9 * x - 4, rows - 9 * y - 4) < 9 * 3 * fwhm
    core = fwhm / (2 * np.sqrt(2 ** (1 / beta) - 1))
    expected = 1 - (1 + (3 * fwhm / core) ** 2) ** (1 - beta)
    assert fine[inside].sum() / 1000 == pytest.approx(expected, abs=3e-4)


def test_flux_and_centroid_whatever_the_shape():
    psf = Psf(3.0, 3.0, e1=0.08, e2=-0.05, trefoil=0.15, trefoil_angle=17.0)
    image = draw_points((401, 401), [200.25], [199.6], [50.0], psf, loss=1e-6)
    assert image.sum() == pytest.approx(50.0, rel=2e-4)
    core = image[170:231, 170:231]  # a Moffat has no second moment: far wings make centroids noisy
    assert moments(core) == pytest.approx((30.25, 29.6), abs=3e-3)


def test_ellipticity_is_the_axis_ratio_asked_for():
    fine = psf_image(Psf(20.0, 3.0, e1=0.1), 121)
    row, column = fine[60], fine[:, 60]
    widths = [np.interp(-0.5 * fine.max(), -line[60:], np.arange(61)) for line in (row, column)]
    assert (widths[0] - widths[1]) / (widths[0] + widths[1]) == pytest.approx(0.1, abs=1e-3)


def test_sources_beyond_the_edge_leave_their_wings():
    psf = Psf(3.0)
    whole = draw_points((80, 80), [40.0, 5.0], [40.0, 60.0], [1.0, 2.0], psf)
    cut = draw_points((30, 40), [0.0, -35.0, 500.0], [0.0, 20.0, 0.0], [1.0, 2.0, 9.0], psf)
    np.testing.assert_allclose(cut, whole[40:70, 40:], atol=1e-9)


def test_subsampled_psf_bins_to_the_star():
    psf = Psf(2.6, 2.5, 0.05, 0.02, trefoil=0.1)
    star = draw_points((24, 24), 11.5, 11.5, 1.0, psf, loss=1e-7)
    binned = psf_image(psf, 24, 2).reshape(24, 2, 24, 2).sum(axis=(1, 3))
    np.testing.assert_allclose(binned, star, atol=2e-5 * star.max())
    x, y = moments(psf_image(psf, 24, 3))
    assert (x, y) == pytest.approx((35.5, 35.5), abs=0.01)


def test_galaxy_has_its_flux_place_and_half_light_radius():
    cells = sersic_cells(201, 100.0, 100.0, 12.0, 2.0, 1.0, 0.0)
    rows, columns = np.indices(cells.shape)
    assert cells[np.hypot(rows - 100, columns - 100) < 12.0].sum() == pytest.approx(0.5, abs=0.01)
    galaxy = draw_galaxy((121, 121), 60.3, 59.2, 80.0, 3.0, 4.0, 0.7, 30.0, Psf(3.0))
    assert galaxy.sum() == pytest.approx(80.0, rel=2e-3)
    assert moments(galaxy[29:90, 30:91]) == pytest.approx((30.3, 30.2), abs=0.02)


def test_galaxy_follows_its_centre_below_the_pixel():
    psf = Psf(3.0, trefoil=0.05)
    here = draw_galaxy((61, 61), 30.0, 30.0, 1.0, 2.0, 3.0, 0.8, 20.0, psf)
    shifted = draw_galaxy((61, 61), 30.45, 30.2, 1.0, 2.0, 3.0, 0.8, 20.0, psf)
    moved_psf = draw_points((61, 61), 30.45, 30.2, 1.0, psf)
    centred = draw_points((61, 61), 30.0, 30.0, 1.0, psf)
    # A convolution commutes with translations: both pairs differ by the same one.
    left = np.fft.fft2(shifted) * np.fft.fft2(centred)
    right = np.fft.fft2(here) * np.fft.fft2(moved_psf)
    assert np.abs(left - right).max() < 3e-3 * np.abs(right).max()


def test_wide_galaxy_is_its_own_profile():
    """Far from the centre, and wider than the PSF, the convolution changes little."""
    galaxy = draw_galaxy((101, 101), 50.0, 50.0, 1.0, 12.0, 1.0, 0.6, 90.0, Psf(1.5, 4.0))
    profile = sersic_cells(101, 50.0, 50.0, 12.0, 1.0, 0.6, 90.0)
    assert galaxy[70, 50] / galaxy[50, 70] == pytest.approx(profile[70, 50] / profile[50, 70], rel=0.05)
    assert galaxy[70, 50] > 2 * galaxy[50, 70]  # the major axis is along y
