"""The joint model on simulated scenes of known truth."""

import numpy as np
import pytest

from lightcurver_ops.numerics.roi.fit import fit_roi
from lightcurver_ops.numerics.roi.render import rotate
from lightcurver_ops.numerics.roi.result import RoiOptions
from lightcurver_ops.simulation.galaxies import draw_extended, sersic
from lightcurver_ops.simulation.psf import Psf

K = 2
SKY = 40.0


def scene(seed, epochs, size, positions, flux, galaxy=0.0, noise=True, angles=None, galaxy_at=(0.2, -0.1)):
    """Stamps of point sources (flux [J], varying by 10 %) around a Sersic galaxy, with dithers and seeing."""
    rng = np.random.default_rng(seed)
    positions = np.asarray(positions, dtype=float).reshape(-1, 2)
    fluxes = np.asarray(flux) * (1 + 0.1 * rng.normal(size=(epochs, len(positions))))
    shifts = rng.normal(0, 0.2, (epochs, 2))
    angles = np.zeros(epochs) if angles is None else np.asarray(angles)
    data, sigma, psfs = [], [], []
    for e in range(epochs):
        psf = Psf(rng.uniform(2.8, 4.0), shear=(rng.normal(0, 0.03), 0.0)).at()
        at = rotate(positions, angles[e]) + shifts[e] + (size - 1) / 2
        image = np.zeros((size, size))
        for one, flux_of_one in zip(at, fluxes[e], strict=True):
            image += flux_of_one * psf.star(size, *one)
        if galaxy:
            x, y = rotate(np.array([galaxy_at]), angles[e])[0] + shifts[e] + (size - 1) / 2
            profile = galaxy * sersic(1.5, 2.0, 0.8, 30.0 + np.rad2deg(angles[e]))
            image += draw_extended((size, size), profile, psf.profile(), x, y)
        sigma.append(np.sqrt(image + SKY))
        data.append(image + noise * rng.normal(size=image.shape) * sigma[-1])
        psfs.append(psf.image(2 * size, K))
    good = np.ones((epochs, size, size), dtype=bool)
    return np.array(data), np.array(sigma), good, np.array(psfs), fluxes, shifts


def total_uncertainty(fit):
    """Of a flux against its truth: what scatters, and what all epochs share."""
    return np.hypot(fit.flux_uncertainty, fit.common_flux_uncertainty)


def test_one_star_and_no_background():
    data, sigma, good, psf, flux, shifts = scene(1, 40, 14, [[0.3, -0.2]], [20000.0])
    fit = fit_roi(
        data,
        sigma,
        good,
        psf,
        subsampling=K,
        positions=[[0, 0]],
        optimise_background=False,
        options=RoiOptions(sky_sigma=0.0),
    )
    z = (fit.flux - flux) / fit.flux_uncertainty
    assert fit.converged
    assert z.std() == pytest.approx(1.0, abs=0.3)
    assert abs(z.mean()) < 3 / np.sqrt(40)
    # sqrt(photons + n_eff sky) of an isolated star
    assert np.median(fit.flux_uncertainty / np.sqrt(flux + 30 * SKY)) == pytest.approx(1.0, abs=0.1)
    assert np.mean(fit.chi2) == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(fit.translations + fit.positions[0], shifts + np.array([0.3, -0.2]), atol=0.05)


def test_bad_pixels_may_hold_anything_and_an_unseen_epoch_is_nan():
    data, sigma, good, psf, flux, _ = scene(2, 6, 14, [[0.0, 0.0]], [20000.0])
    good[0, 5:8, 6] = False
    data[0, 5:8, 6] = [np.nan, np.inf, 1e9]
    sigma[0, 6, 6] = 0.0
    good[3] = False
    fit = fit_roi(data, sigma, good, psf, subsampling=K, positions=[[0, 0]], optimise_background=False)
    seen = np.arange(6) != 3
    assert np.isnan(fit.flux[3]).all()
    assert np.isnan(fit.flux_uncertainty[3]).all()
    assert np.all(np.abs(fit.flux - flux)[seen] < 4 * fit.flux_uncertainty[seen])
    assert fit.flux_uncertainty[0] > 1.05 * np.median(fit.flux_uncertainty[seen])
    assert np.isnan(fit.residuals[0, 5:8, 6]).all()
    assert np.isnan(fit.residuals[3]).all()


def test_blended_pair_uncertainties_are_those_of_the_normal_equations():
    """Without noise the truth is found; with fixed geometry the covariance is the inverse Fisher matrix."""
    data, sigma, good, psf, flux, shifts = scene(
        3, 3, 14, [[-1.0, 0.0], [1.0, 0.3]], [9000.0, 5000.0], noise=False
    )
    fit = fit_roi(
        data,
        sigma,
        good,
        psf,
        subsampling=K,
        positions=[[-1.0, 0.0], [1.0, 0.3]],
        translations=shifts,
        fix_astrometry=True,
        optimise_background=False,
        options=RoiOptions(translation_sigma=0.0, sky_sigma=0.0),
    )
    np.testing.assert_allclose(fit.flux, flux, rtol=2e-3)
    assert not np.any(fit.positions_uncertainty)
    for e in range(3):
        images = [
            fit_roi(
                data[e : e + 1] * 0 + 1,
                sigma[e : e + 1],
                good[e : e + 1],
                psf[e : e + 1],
                subsampling=K,
                positions=[p],
                translations=shifts[e : e + 1],
                fix_astrometry=True,
                optimise_background=False,
                options=RoiOptions(translation_sigma=0.0, sky_sigma=0.0),
            )
            for p in fit.positions
        ]
        unit = np.array([(i.model[0] / i.flux[0, 0] / sigma[e]).ravel() for i in images])
        np.testing.assert_allclose(fit.flux_covariance[e], np.linalg.inv(unit @ unit.T), rtol=1e-4)


@pytest.fixture(scope="module")
def lens():
    """Two images of a lens around its galaxy, some epochs turned by half a turn and a little."""
    angles = [0.0, 0.0, np.pi + 0.004, np.pi + 0.004, 0.0, 0.002]
    truth = np.array([[-2.6, 0.8], [2.4, -0.9]])
    data, sigma, good, psf, flux, shifts = scene(
        4, 6, 16, truth, [40000.0, 20000.0], galaxy=30000.0, angles=angles
    )
    good[1, 3:5, 8] = False
    data[1, 3:5, 8] = np.nan
    start = truth + np.array([[0.1, -0.1], [-0.1, 0.15]])
    fit = fit_roi(data, sigma, good, psf, subsampling=K, positions=start, rotation=angles)
    return fit, truth, flux, data, shifts


def test_lens_is_converged_and_fits(lens):
    fit, _, _, data, _ = lens
    assert fit.converged
    assert "converged" in fit.status
    assert fit.loss_history[-1] == pytest.approx(fit.loss, abs=0.5)
    assert np.all(np.abs(fit.chi2 - 1) < 0.35)
    assert fit.model.shape == data.shape
    np.testing.assert_allclose(fit.background.sum(), 30000.0, rtol=0.1)


def test_lens_fluxes_are_unbiased_within_their_uncertainty(lens):
    fit, _, flux, _, _ = lens
    z = (fit.flux - flux) / total_uncertainty(fit)
    assert np.all(np.abs(z) < 3.5)
    assert np.sqrt(np.mean(z**2)) < 1.7
    assert np.all(np.abs(np.mean(fit.flux / flux - 1, axis=0)) < 0.03)
    # A few per cent at most: an uncertainty that allows anything would pass the above.
    assert np.all(total_uncertainty(fit) / flux < 0.06)


def test_lens_positions_and_translations(lens):
    fit, truth, _, _, shifts = lens
    separation = fit.positions[1] - fit.positions[0]
    # An image two pixels from a galaxy as bright: what the background may be blurs positions beyond photon noise.
    np.testing.assert_allclose(separation, truth[1] - truth[0], atol=0.06)
    # The scene as a whole may sit anywhere within what is known of the translations.
    assert np.ptp(fit.translations[[0, 1, 4]] - shifts[[0, 1, 4]], axis=0).max() < 0.05
    assert np.all(fit.positions_uncertainty > 0)


def test_galaxy_alone():
    data, sigma, good, psf, _, _ = scene(5, 3, 12, np.zeros((0, 2)), np.zeros(0), galaxy=30000.0)
    fit = fit_roi(data, sigma, good, psf, subsampling=K, positions=np.zeros((0, 2)))
    assert fit.flux.shape == (3, 0)
    assert np.all(np.abs(fit.chi2 - 1) < 0.3)
    assert fit.background.min() > -1e-3 * fit.background.max()


def test_background_of_nothing_leaves_a_star_alone():
    data, sigma, good, psf, flux, _ = scene(6, 4, 12, [[0.1, 0.0]], [20000.0])
    fit = fit_roi(data, sigma, good, psf, subsampling=K, positions=[[0, 0]])
    assert fit.converged
    assert np.all(np.abs(fit.flux - flux) < 4 * fit.flux_uncertainty)
    assert np.all(np.abs(fit.flux / flux - 1) < 0.05)


def test_given_background_and_given_positions_are_kept():
    truth = [[-1.5, 0.5], [1.5, 0.0]]
    data, sigma, good, psf, flux, shifts = scene(7, 3, 12, truth, [20000.0, 10000.0])
    h = np.full((24, 24), 3.0)
    from lightcurver_ops.numerics.roi.render import BackgroundView, Light

    for e in range(3):
        data[e] += BackgroundView(psf[e], shifts[e], 12, K).images(Light.of(h, 0.0, psf.shape[1]))[0]
    arguments = {"subsampling": K, "positions": truth, "translations": shifts, "background": h}
    fit = fit_roi(data, sigma, good, psf, optimise_background=False, fix_astrometry=True, **arguments)
    np.testing.assert_array_equal(fit.background, h)
    np.testing.assert_array_equal(fit.positions, truth)
    assert np.all(np.abs(fit.flux - flux) < 4 * fit.flux_uncertainty)
    improved = fit_roi(data, sigma, good, psf, fix_astrometry=True, **arguments)
    assert np.all(np.abs(improved.flux - flux) < 4 * improved.flux_uncertainty)
    assert np.all(improved.flux_uncertainty > 0.99 * fit.flux_uncertainty)


def test_prior_of_positions():
    data, sigma, good, psf, _, _ = scene(8, 3, 12, [[0.5, 0.0], [-3.0, 0.0]], [3000.0, 3000.0])
    start = [[0.0, 0.0], [-3.0, 0.0]]
    common = {"subsampling": K, "positions": start, "optimise_background": False}
    loose = fit_roi(data, sigma, good, psf, fix_astrometry=False, **common)
    tight = fit_roi(data, sigma, good, psf, fix_astrometry=1e-4, **common)
    assert np.diff(loose.positions[:, 0])[0] == pytest.approx(-3.5, abs=0.1)
    np.testing.assert_allclose(tight.positions, start, atol=1e-3)
    np.testing.assert_allclose(tight.positions_uncertainty, 1e-4, rtol=0.01)


def test_sky_per_epoch():
    data, sigma, good, psf, flux, _ = scene(9, 4, 14, [[0.0, 0.0]], [20000.0])
    sky = np.array([3.0, -2.0, 0.0, 5.0])
    fit = fit_roi(
        data + sky[:, None, None],
        sigma,
        good,
        psf,
        subsampling=K,
        positions=[[0, 0]],
        optimise_background=False,
        options=RoiOptions(sky_sigma=1.0),
    )
    np.testing.assert_allclose(fit.sky, sky, atol=2.5)
    assert np.all(np.abs(fit.flux - flux) < 4 * fit.flux_uncertainty)


def test_images_have_the_psf_of_their_place():
    """A pair in a PSF that widens along x: without its slope the fluxes are wrong by several sigma."""
    size, epochs, slope = 20, 8, 0.008  # relative change of the FWHM per pixel
    positions, flux = np.array([[-4.0, 0.0], [4.0, 0.5]]), np.array([60000.0, 40000.0])
    rng = np.random.default_rng(5)
    data, sigma, psfs, slopes = [], [], [], []
    for seeing in rng.uniform(2.8, 4.0, epochs):
        # Over a field of 2 pixels, so that u is x.
        psf = Psf(seeing, variation=((slope, 0.0, 0.0, 0.0, 0.0), (0.0,) * 5, (0.0,) * 5))
        image = sum(
            one * psf.at(*at).star(size, *((size - 1) / 2 + at))
            for at, one in zip(positions, flux, strict=True)
        )
        sigma.append(np.sqrt(image + SKY))
        data.append(image + rng.normal(size=image.shape) * sigma[-1])
        left, centre, right = (psf.at(x).image(2 * size, K) for x in (-4.0, 0.0, 4.0))
        psfs.append(centre)
        slopes.append([(right - left) / 8, np.zeros_like(centre)])
    arguments = (np.array(data), np.array(sigma), np.ones((epochs, size, size), dtype=bool), np.array(psfs))
    common = {"subsampling": K, "positions": positions, "optimise_background": False}
    with_slope = fit_roi(*arguments, psf_slope=np.array(slopes), **common)
    without = fit_roi(*arguments, **common)
    significance = [
        np.abs((fit.flux / flux - 1).mean(axis=0)) / (fit.flux_uncertainty / flux).mean() * np.sqrt(epochs)
        for fit in (with_slope, without)
    ]
    assert significance[0].max() < 3
    assert significance[1].min() > 5
    assert with_slope.chi2.mean() < without.chi2.mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": np.zeros((2, 8, 8))}, "no positive noise"),
        ({"psf": np.ones((3, 8, 8))}, "psf must be"),
        ({"psf_slope": np.ones((2, 8, 8))}, "psf_slope must be"),
        ({"psf_slope": np.full((2, 2, 8, 8), np.nan)}, "psf_slope must be finite"),
        ({"good": np.ones((2, 8, 9), dtype=bool)}, "must all be"),
        ({"translations": np.zeros((2, 3))}, "translations must be"),
        ({"background": np.zeros((8, 8))}, "background must be"),
        ({"fix_astrometry": -1.0}, "positive sigma"),
        ({"solver": "guess"}, "solver"),
    ],
)
def test_wrong_arguments(change, message):
    arguments = {
        "data": np.zeros((2, 8, 8)),
        "noise": np.ones((2, 8, 8)),
        "good": np.ones((2, 8, 8), dtype=bool),
        "psf": np.ones((2, 8, 8)),
        "subsampling": 2,
        "positions": [[0, 0]],
    } | change
    with pytest.raises(ValueError, match=message):
        fit_roi(**arguments)
