"""The PSF of the simulation against GalSim's own convolution of all its parts, and against what each part does."""

from dataclasses import replace

import galsim
import numpy as np
import pytest

from lightcurver_ops.simulation.psf import ABERRATIONS, Psf

PERFECT = (0.0,) * 8


def moments(image):
    rows, columns = np.indices(image.shape)
    return (image * columns).sum() / image.sum(), (image * rows).sum() / image.sum()


def convolved(psf, size, x, y):
    """A star through everything, by FFT at high accuracy; the telescope's centroid is taken from its image."""
    accurate = galsim.GSParams(folding_threshold=1e-3, maximum_fft_size=16384)
    pupil = galsim.Aperture(
        diam=500e-9 / np.deg2rad(psf.diffraction / 3600),
        lam=500.0,
        obscuration=psf.obscuration,
        pad_factor=2.0,
        gsparams=galsim.GSParams(folding_threshold=5e-3),
    )
    optics = galsim.OpticalPSF(
        lam_over_diam=psf.diffraction,
        aper=pupil,
        aberrations=[0, 0, 0, 0, *psf.aberrations],
        gsparams=galsim.GSParams(folding_threshold=5e-3),
        suppress_warning=True,
    )
    seen = optics.drawImage(nx=201, ny=201, scale=psf.diffraction / 3, method="no_pixel").array
    across, down = ((one - 100) * psf.diffraction / 3 for one in moments(seen))
    parts = [
        galsim.Kolmogorov(fwhm=psf.seeing, gsparams=accurate),
        optics.shift(-across, -down),
        galsim.Gaussian(sigma=psf.jitter, gsparams=accurate),
    ]
    for along in psf.trails:
        length, angle = np.hypot(*along), np.arctan2(along[1], along[0])
        parts.append(galsim.Box(length, 1e-3 * length).rotate(angle * galsim.radians))
    whole = galsim.Convolve(parts, gsparams=accurate).shear(g1=psf.shear[0], g2=psf.shear[1])
    image = galsim.ImageD(4 * size, 4 * size, scale=1.0)
    start = (4 * size - size) // 2
    whole.drawImage(image=image, center=galsim.PositionD(x + start + 1, y + start + 1))
    return image.array[start : start + size, start : start + size]


@pytest.mark.parametrize(
    "psf",
    [
        Psf(3.2, trails=((0.4, 0.2), (0.0, 0.3)), shear=(0.03, -0.02)),
        Psf(1.4, jitter=0.1),
        Psf(6.0, aberrations=PERFECT),
    ],
    ids=["typical", "sharp", "wide"],
)
def test_a_star_is_what_galsim_convolves(psf):
    expected = convolved(psf, 41, 20.3, 19.8)
    star = psf.at().star(41, 20.3, 19.8)
    # What is left is mostly the centroid of the reference, whose far light counts.
    np.testing.assert_allclose(star, expected, atol=6e-3 * expected.max())
    assert star.sum() == pytest.approx(expected.sum(), abs=2e-3)


def test_flux_and_centroid_are_those_asked_for_whatever_the_optics():
    image = np.zeros((401, 401))
    psf = Psf(3.0, aberrations=tuple(2 * one for one in ABERRATIONS), trails=((0.5, -0.3),))
    psf.at().add_to(image, 200.25, 199.6, 50.0, 300)
    assert image.sum() == pytest.approx(50.0, rel=1e-3)
    assert moments(image[170:231, 170:231]) == pytest.approx((30.25, 29.6), abs=5e-3)


def test_wings_are_those_of_kolmogorovs_turbulence():
    """They fall with the power 11/3 of the distance, and hold much more light than a Gaussian's."""
    star = Psf(3.0).at().star(401, 200.0, 200.0)
    assert star[200, 300] / star[200, 380] == pytest.approx((180 / 100) ** (11 / 3), rel=0.02)
    rows, columns = np.indices(star.shape) - 200
    assert star[np.hypot(rows, columns) > 15].sum() == pytest.approx(0.0905 * 5 ** (-5 / 3), rel=0.15)


def test_sources_beyond_the_edge_leave_their_wings():
    psf = Psf(3.0).at()
    whole, cut = np.zeros((80, 80)), np.zeros((30, 40))
    for x, y, flux in ((40.0, 40.0, 1.0), (5.0, 60.0, 2.0)):
        psf.add_to(whole, x, y, flux, 60)
        psf.add_to(cut, x - 40, y - 40, flux, 60)
    psf.add_to(cut, 500.0, 0.0, 9.0, 60)
    # The middle of a star that lies on the edge of an image is drawn as if it lay inside.
    np.testing.assert_allclose(cut, whole[40:70, 40:], atol=2e-6)


@pytest.mark.parametrize("subsampling", [1, 2, 3])
def test_subsampled_psf_bins_to_the_star(subsampling):
    psf = Psf(2.6, shear=(0.05, 0.02)).at(0.5, -0.3)
    star = psf.star(24, 11.5, 11.5)
    fine = psf.image(24, subsampling)
    binned = fine.reshape(24, subsampling, 24, subsampling).sum(axis=(1, 3))
    np.testing.assert_allclose(binned, star, atol=1e-4 * star.max())
    middle = (24 * subsampling - 1) / 2
    assert moments(fine) == pytest.approx((middle, middle), abs=0.01 * subsampling)


def test_no_moffat_fits():
    """What the numerics start from is not what is simulated: no exponent leaves less than a per cent."""
    from scipy.optimize import least_squares

    fine = Psf(3.2).at().image(32, 2)
    rows, columns = (np.indices(fine.shape) - 31.5) / 2

    def moffat(p):
        radius2 = ((columns - p[2]) ** 2 + p[4] * (rows - p[3]) ** 2 + p[5] * columns * rows) / p[0] ** 2
        return p[6] * (1 + radius2) ** -p[1]

    start = [2.5, 3.0, 0.0, 0.0, 1.0, 0.0, fine.max()]
    best = least_squares(lambda p: (moffat(p) - fine).ravel() / fine.max(), start)
    assert np.abs(moffat(best.x) - fine).sum() > 0.01


def width_and_shape(star):
    """Weighted second moments: their sum, and what tells x from y."""
    rows, columns = np.indices(star.shape) - (np.array(star.shape) // 2)[:, None, None]
    weight = star * np.exp(-(rows**2 + columns**2) / (2 * 3.0**2))
    xx, yy = ((weight * one**2).sum() / weight.sum() for one in (columns, rows))
    return xx + yy, xx - yy


def test_shear_and_trails_elongate_along_their_direction():
    plain = replace(Psf(3.2), aberrations=PERFECT)
    for changed, sign in (
        (replace(plain, shear=(0.05, 0.0)), 1),
        (replace(plain, trails=((0.0, 2.0),)), -1),
        (replace(plain, trails=((2.0, 0.0),)), 1),
    ):
        assert sign * width_and_shape(changed.at().star(33, 16.0, 16.0))[1] > 0.05
    assert abs(width_and_shape(plain.at().star(33, 16.0, 16.0))[1]) < 1e-3


def test_polynomials_widen_and_shear_by_what_they_say():
    psf = Psf(3.2, aberrations=PERFECT, variation=((0.1, 0, 0, 0, 0), (0, 0, 0, 0, 0.05), (0.0,) * 5))
    right = psf.at(0.5, 0.0)
    np.testing.assert_allclose(right.matrix, 1.05 * np.eye(2))
    up = psf.at(0.0, 1.0)
    assert up.matrix[0][0] / up.matrix[1][1] == pytest.approx(1.05 / 0.95)
    assert np.linalg.det(up.matrix) == pytest.approx(1.0)


def test_optical_pattern_grows_with_the_distance_and_points_outwards():
    psf = Psf(2.0, aberrations=PERFECT, pattern=0.4)
    middle, near, right, top = (
        width_and_shape(psf.at(u, v).star(33, 16.0, 16.0)) for u, v in ((0, 0), (0.4, 0), (1, 0), (0, 1))
    )
    assert middle[0] < near[0] < right[0]
    assert right[0] == pytest.approx(top[0], rel=1e-3)
    assert right[1] == pytest.approx(-top[1], rel=0.02)
    assert abs(right[1]) > 0.02
    # At its nodes it is the telescope of that place; between, the parabolas are near it.
    for place, tolerance in (((1.0, 1.0), 1e-3), ((0.5, -0.6), 0.05)):
        there = Psf(2.0, aberrations=psf.aberrations_at(*place)).at().star(33, 16.0, 16.0)
        np.testing.assert_allclose(psf.at(*place).star(33, 16.0, 16.0), there, atol=tolerance * there.max())


def test_aberrations_of_the_pattern_are_radial():
    psf = Psf(3.0, aberrations=PERFECT, pattern=0.2)
    diagonal = psf.aberrations_at(np.sqrt(0.5), np.sqrt(0.5))
    np.testing.assert_allclose(
        diagonal[:5], [0.2, 0.1, 0.0, np.sqrt(0.5) / 10, np.sqrt(0.5) / 10], atol=1e-12
    )
    assert diagonal[5:] == (0.0, 0.0, 0.0)
