import numpy as np
import pytest
from scipy.signal import fftconvolve

from lightcurver_ops.simulation import expected_flux_errors, roi_stamps, star_stamps


def test_star_stamps_scatter_about_their_model_by_their_noise():
    stamps = star_stamps(3, n_frames=6, n_stars=10, size=24)
    residuals = (stamps.data - stamps.model) / stamps.noise
    assert residuals.std() == pytest.approx(1.0, abs=0.015)
    assert abs(residuals.mean()) < 0.02
    assert not stamps.cosmics.any()
    np.testing.assert_allclose(stamps.flux, stamps.coefficient[:, None] * stamps.star_flux)


def test_cosmics_are_where_the_truth_says():
    stamps = star_stamps(4, cosmics_per_stamp=1.0)
    residuals = (stamps.data - stamps.model) / stamps.noise
    assert np.median(residuals[stamps.cosmics]) > 5
    assert residuals[~stamps.cosmics].std() == pytest.approx(1.0, abs=0.03)


def test_the_same_seed_gives_the_same_stamps():
    first, again, other = (star_stamps(seed, 2, 3) for seed in (5, 5, 6))
    assert np.array_equal(first.data, again.data)
    assert not np.array_equal(first.data, other.data)


def test_a_star_is_its_flux_times_the_psf():
    stamps = star_stamps(7, n_frames=3, n_stars=4, psf_varies=0.0)
    stars = stamps.model.sum(axis=(2, 3)) / stamps.flux
    np.testing.assert_allclose(stars, stamps.psf.sum(axis=(1, 2))[:, None] * np.ones(4), atol=1e-3)


@pytest.mark.parametrize("how", [{"psf_varies": 0.1}, {"pattern": 0.6}], ids=["polynomials", "optics"])
def test_psf_varies_away_from_the_middle_of_the_field(how):
    def peaks(**amount):
        stamps = star_stamps(8, n_frames=1, n_stars=20, **amount)
        return (stamps.model / stamps.flux[:, :, None, None]).max(axis=(2, 3)), stamps

    (constant, _), (varying, stamps) = peaks(), peaks(**how)
    change = np.abs(varying / constant - 1)[0]
    distance = np.hypot(*stamps.field_xy.T)
    assert change.max() > 0.05
    assert change[distance < 0.35].mean() < change[distance > 0.8].mean()


@pytest.mark.parametrize("subsampling", [1, 2, 3])
def test_narrow_psf_gives_the_psf_through_the_gaussian(subsampling):
    stamps = star_stamps(9, n_frames=1, n_stars=1, subsampling=subsampling, seeing=4.5)
    axis = np.arange(-30, 31)
    gaussian = np.exp(-4 * np.log(2) * (axis / 2.0) ** 2)
    kernel = np.outer(gaussian, gaussian) / gaussian.sum() ** 2
    again = fftconvolve(stamps.narrow_psf[0], kernel, mode="same")
    inner = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(again[inner], stamps.psf[0][inner], atol=1e-5 * stamps.psf[0].max())
    assert stamps.narrow_psf[0].max() > stamps.psf[0].max()


def test_roi_is_images_plus_galaxy_and_its_slopes_are_right():
    roi = roi_stamps(2, n_epochs=3)
    images = np.einsum("ej,ejpq->epq", roi.flux, roi.unit_images)
    np.testing.assert_allclose(roi.model, images + roi.galaxy)
    assert ((roi.data - roi.model) / roi.noise).std() == pytest.approx(1, abs=0.04)
    size = roi.data.shape[-1]
    rows, columns = np.indices((size, size)) - (size - 1) / 2
    # Moving a source by dx moves its centroid by dx, up to what leaves the stamp and flows in its far wings.
    assert (roi.gradients[:, :, 0] * columns).sum(axis=(2, 3)) == pytest.approx(1, abs=0.05)
    assert (roi.gradients[:, :, 1] * rows).sum(axis=(2, 3)) == pytest.approx(1, abs=0.05)
    assert roi.high_resolution.sum() == pytest.approx(roi.galaxy.sum(axis=(1, 2)).max(), rel=0.02)


def test_bound_of_one_isolated_image_is_the_optimal_photometry():
    """One image, no galaxy, perfect optics: by symmetry its position costs its flux nothing: 1 / sqrt(sum p^2/s^2)."""
    roi = roi_stamps(
        1,
        n_epochs=2,
        positions=((0.0, 0.0),),
        magnitudes=(19.0,),
        galaxy_magnitude=None,
        translation=0.0,
        aberrated=0.0,
    )
    optimal = 1 / np.sqrt(((roi.unit_images / roi.noise[:, None]) ** 2).sum(axis=(2, 3)))
    np.testing.assert_allclose(expected_flux_errors(roi), optimal, rtol=1e-3)


def test_bound_is_reached_by_fits_and_grows_with_blending():
    """Positions known to first order: one linear step from the truth is the efficient estimator."""
    errors, deviations = [], []
    for seed in range(30, 54):
        roi = roi_stamps(seed, n_epochs=2, size=20, translation=0.3)
        n_epochs, n_images = roi.flux.shape
        moved = roi.flux[:, :, None, None, None] * roi.gradients
        columns = np.zeros((2 * n_epochs * n_images + 2 * n_epochs, *roi.data.shape))
        for e in range(n_epochs):
            columns[e * n_images : (e + 1) * n_images, e] = roi.unit_images[e]
            at = n_epochs * n_images + 2 * e
            columns[at : at + 2, e] = moved[e].sum(axis=0) + roi.galaxy_gradient[e]
        columns[-2 * n_images :] = moved.reshape(n_epochs, -1, *roi.data.shape[1:]).swapaxes(0, 1)
        design = (columns / roi.noise).reshape(len(columns), -1).T
        solution = np.linalg.lstsq(design, ((roi.data - roi.model) / roi.noise).ravel(), rcond=None)[0]
        deviations.append(solution[: n_epochs * n_images].reshape(n_epochs, n_images))
        errors.append(expected_flux_errors(roi))
    pulls = np.array(deviations) / np.array(errors)
    assert pulls.std() == pytest.approx(1.0, abs=0.12)
    wide = roi_stamps(0, n_epochs=2, positions=((-6.0, 6.0), (6.0, 6.0), (6.0, -6.0), (-6.0, -6.0)))
    narrow = roi_stamps(0, n_epochs=2, positions=((-1.0, 1.0), (1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)))
    assert (expected_flux_errors(narrow) > 1.2 * expected_flux_errors(wide)).all()


def test_masked_pixels_carry_no_information():
    roi = roi_stamps(2, n_epochs=2)
    mask = np.ones(roi.data.shape, bool)
    mask[:, 14:16] = False
    assert (expected_flux_errors(roi, mask) > expected_flux_errors(roi)).all()
