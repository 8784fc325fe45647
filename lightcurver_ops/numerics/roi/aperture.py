"""The flux of a single star in an aperture, in the form of the joint model."""

import numpy as np

from lightcurver_ops.numerics.aperture import aperture_fluxes, star_images
from lightcurver_ops.numerics.photometry import fit_star_fluxes
from lightcurver_ops.numerics.roi.render import rotate
from lightcurver_ops.numerics.roi.result import RoiFit, RoiOptions


def fit_in_aperture(
    data: np.ndarray,
    noise: np.ndarray,
    good: np.ndarray,
    full_psf: np.ndarray,
    radius: np.ndarray,
    *,
    subsampling: int,
    expected: np.ndarray,
    rotation: np.ndarray,
    uniform_background: bool,
) -> RoiFit:
    """Measure an isolated star as `numerics.aperture` does the reference stars, at the places that its PSF finds.

    Args:
        data, noise, good: [E, n, n].
        full_psf: [E, N, N], of a stamp of any even side.
        radius: [E], pixels.
        subsampling: small pixels of the PSF per pixel.
        expected: [E, 2], x, y of the star from the stamp's centre, pixels, by the WCS.
        rotation: [E], of the scene, radians.
        uniform_background: fit a constant sky to each stamp too.

    Returns:
        Without background; the position is the median offset from the expected places. What the PSF leaves of the
        stamp is in residuals and chi2, as in the joint model, and says nothing of the aperture.
    """
    size = data.shape[-1]
    fine = size * subsampling
    side = min(size, full_psf.shape[-1] // subsampling)
    inner = _middle(size, side)
    psf = full_psf[:, *_middle(full_psf.shape[-1], side * subsampling)]
    stamps = [array[:, None, *inner] for array in (data, noise, good)]
    fit = fit_star_fluxes(
        stamps[0], stamps[1], stamps[2], psf, subsampling=subsampling, uniform_background=uniform_background
    )
    sky = np.nan_to_num(fit.background[:, 0])
    images = star_images(psf, fit.x, fit.y, subsampling)
    found = aperture_fluxes(
        stamps[0] - sky[:, None, None, None], stamps[1], stamps[2], images, fit.x, fit.y, radius
    )
    seen = np.column_stack([fit.x[:, 0], fit.y[:, 0]])
    offsets = rotate((seen - expected)[:, None], -rotation)[:, 0]
    known = np.isfinite(offsets).all(axis=1)
    position = np.median(offsets[known], axis=0) if known.any() else np.zeros(2)
    scatter = np.std(offsets[known], axis=0) / np.sqrt(max(known.sum(), 1)) if known.any() else np.zeros(2)
    turned = rotate(position[None], rotation)[:, 0]
    model = np.zeros(data.shape)
    model[:, *inner] = np.nan_to_num(found.flux[:, 0])[:, None, None] * np.nan_to_num(images[:, 0])
    model += sky[:, None, None]
    residuals = np.where(good, (data - model) / noise, np.nan)
    used = np.zeros(good.shape, dtype=bool)
    used[:, *inner] = good[:, *inner]
    squares = np.where(used, np.nan_to_num(residuals) ** 2, 0.0).sum(axis=(1, 2))
    loss = 0.5 * float(squares.sum())
    return RoiFit(
        flux=found.flux,
        flux_uncertainty=found.flux_uncertainty,
        flux_covariance=found.flux_uncertainty[:, :, None] ** 2,
        common_flux_covariance=np.zeros((1, 1)),  # nothing is fitted to all epochs together
        positions=position[None],
        positions_uncertainty=scatter[None],
        translations=np.where(known[:, None], seen - turned, expected),
        sky=sky,
        background=np.zeros((fine, fine)),
        model=model,
        background_model=np.zeros(data.shape),
        residuals=residuals,
        chi2=squares / np.maximum(used.sum(axis=(1, 2)), 1),
        loss=loss,
        loss_history=np.array([loss]),
        converged=bool(fit.converged.all()),
        n_iter=1,
        status="in an aperture",
        translation_sigma=np.full(len(data), RoiOptions().translation_sigma),
    )


def _middle(side: int, inner: int) -> tuple[slice, slice]:
    """The middle of a square of even side, of even side itself."""
    edge = (side - inner) // 2
    return slice(edge, edge + inner), slice(edge, edge + inner)
