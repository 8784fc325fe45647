"""Fluxes of stars in circular apertures: the sum of pixels over the share of the PSF that they hold."""

from dataclasses import dataclass

import numpy as np
from photutils.geometry import circular_overlap_grid

from lightcurver_ops.numerics.normalization import normalization_coefficients
from lightcurver_ops.numerics.psf.operators import narrow_from_full, star_operator

MULTIPLES = (0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
"""Radii that are tried, in FWHM."""
LEAST_SHARE = 0.3
"""Of a star's light in the good pixels of its aperture: with less it is the PSF that would be measured."""


@dataclass(frozen=True)
class ApertureFluxes:
    """Fluxes of S stars in F frames; NaN where a star has no position, or too little of its light in good pixels.

    Attributes:
        flux: [F, S], total flux in the unit of the data.
        flux_uncertainty: [F, S], 1 sigma, of the noise of the pixels.
        share: [F, S], of the PSF in the good pixels of the aperture.
    """

    flux: np.ndarray
    flux_uncertainty: np.ndarray
    share: np.ndarray


def star_images(psf: np.ndarray, x: np.ndarray, y: np.ndarray, subsampling: int) -> np.ndarray:
    """Images [F, S, n, n] of stars of unit total flux.

    Args:
        psf: [F, N, N] or [F, S, N, N], full PSFs, N = n * subsampling.
        x, y: [F, S], offsets from the stamp's centre (n - 1)/2, pixels; not finite: no image.
    """
    size = psf.shape[-1] // subsampling
    narrow = narrow_from_full(psf)
    narrow = narrow[:, None] if narrow.ndim == 3 else narrow
    across, down = (
        star_operator(np.nan_to_num(offset), size, subsampling, derivatives=0)[0] for offset in (x, y)
    )
    images = subsampling**2 * (down @ narrow @ across.swapaxes(-1, -2))
    return np.where((np.isfinite(x) & np.isfinite(y))[..., None, None], images, np.nan)


def aperture_fluxes(
    data: np.ndarray,
    noise: np.ndarray,
    good: np.ndarray,
    images: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    radius: np.ndarray,
) -> ApertureFluxes:
    """`f = sum_p a_p d_p / sum_p a_p P_p` over good pixels, a the part of a pixel inside the circle.

    The divisor is what an aperture loses, which differs with the place of the star in its pixel where it is narrow and
    with the pixels that are masked. What the PSF is wrong in, it is wrong by for all stars of a frame alike: the
    frame's coefficient takes it out.

    Args:
        data, noise: [F, S, n, n], the sky subtracted. good: [F, S, n, n] bool.
        images: [F, S, n, n], see `star_images`.
        x, y: [F, S], offsets of the stars from the stamp's centre, pixels.
        radius: [F], pixels.
    """
    n_frames, n_stars, size = data.shape[:3]
    weight = np.zeros(data.shape)
    for f in range(n_frames):
        for s in range(n_stars):
            if np.isfinite(x[f, s]) and np.isfinite(y[f, s]):
                left, low = -size / 2 - x[f, s], -size / 2 - y[f, s]
                weight[f, s] = circular_overlap_grid(
                    left, left + size, low, low + size, size, size, radius[f], 1, 1
                )
    weight = np.where(good, weight, 0.0)
    share = (weight * np.nan_to_num(images)).sum(axis=(2, 3))
    light = (weight * np.where(good, data, 0.0)).sum(axis=(2, 3))
    variance = (weight**2 * np.where(good, noise, 0.0) ** 2).sum(axis=(2, 3))
    held = np.where(share >= LEAST_SHARE, share, np.nan)
    return ApertureFluxes(light / held, np.sqrt(variance) / held, share)


def scatter_of_stars(flux: np.ndarray, uncertainty: np.ndarray) -> float:
    """How much constant stars scatter around the coefficients of their frames: the median over the brighter half.

    Args:
        flux, uncertainty: [S, E], NaN where a star was not measured.

    Returns:
        Relative, robust (1.48 MAD); infinite where there is nothing to compare.
    """
    measured = np.isfinite(flux).sum(axis=1) > 1
    if measured.sum() < 2:
        return np.inf
    flux, uncertainty = flux[measured], uncertainty[measured]
    result = normalization_coefficients(flux, uncertainty)
    brightness = np.nanmedian(flux / uncertainty, axis=1)
    bright = brightness >= np.median(brightness)
    return float(np.median(result.star_scatter[bright]))
