"""What a fit of PSFs returns."""

from dataclasses import dataclass

import numpy as np

from lightcurver_ops.numerics.psf.variation import Variation


@dataclass(frozen=True)
class PsfFits:
    """PSFs of F frames from S stars each; N = n * subsampling. A failed frame holds NaN, and says why in `status`.

    A star of total flux f at offset (x, y) from its stamp's centre (n - 1)/2 is seen as
    `f * bin_sum(full_psf moved by (k x, k y))`, exactly `f k^2 A(y) narrow A(x)^T` with `operators.star_operator`.
    Both PSFs are centred on the middle of their grid, (N - 1)/2, between pixels where N is even (as in STARRED).

    Attributes:
        narrow_psf: [F, N, N], deconvolved to a Gaussian of FWHM 2 small pixels; in the normalisation of `full_psf`.
        full_psf: [F, N, N], `G narrow G^T` with the centred Gaussian G. Normalised to unit TOTAL flux: its sum is
            `enclosed_fraction`, the rest are the wings beyond the stamp: the measured ones, else those of turbulence.
        enclosed_fraction: [F].
        amplitude: [F, S], total flux in the unit of the data; 0 where the star was not used.
        background: [F, S], local sky per pixel, unit of the data: what remained of the sky, or lies under the star; 0
            where the star was not used, and everywhere unless asked for.
        x, y: [F, S], offset of the star from the stamp's centre, pixels; NaN where not used.
        chi2: [F], sum of squared residuals over number of good pixels of the used stars.
        chi2_stars: [F, S], the same per star; NaN where not used.
        used: [F, S] bool, stars that took part to the end.
        good: [F, S, n, n] bool, pixels that took part (of unused stars: those that would have).
        residuals: [F, S, n, n], (data - background - model)/noise; 0 in bad pixels and unused stars.
        fwhm_moffat_pixels: [F], geometric mean over the axes of the FWHM of the Moffat seen through the Gaussian,
            pixels of the data. The narrow Moffat's own is in `moffat`.
        moffat: [F, 6], of the narrow PSF: FWHM along the major and minor axis (pixels), angle of the major axis from
            +x towards +y (radians), beta, height C (stamps normalised), share of the pixel grid in the flux.
        ellipticity: [F], 1 - b/a of the full PSF, from adaptive moments.
        elongation: [F], a/b of the full PSF. Trailed frames stand out from the others of their season.
        doubleness: [F], height of the second peak above the saddle between the two, relative to the first peak.
        relative_loss_differential: [F], relative change of the objective over the last 10 % of the iterations.
        loss: [F], objective at the end, `chi2 sum / 2 + penalty`, with the priors on backgrounds and distortion.
        loss_history: [F, I], objective by iteration, padded with its last value.
        converged: [F] bool.
        n_iter: [F], iterations of the pixel grid.
        status: F strings: "ok", or why the frame has no PSF, or "not converged".
        distortion: [F, 15], see `distortion.distort`; zeros where the PSF does not vary over the field.
        variation: F, how the PSF varies, and how sure that is.
        wing: [F, N_WING], the wings beyond the stamp, see `wings.extended_with_wings`; zeros for a frame without a PSF.
        grid: [F, N, N], h, in the stamps' normalisation; with `normalisation` [F] and `moffat` it restates the fit in
            STARRED's parameters.
        normalisation: [F], what the stamps were divided by.
    """

    narrow_psf: np.ndarray
    full_psf: np.ndarray
    enclosed_fraction: np.ndarray
    amplitude: np.ndarray
    background: np.ndarray
    x: np.ndarray
    y: np.ndarray
    chi2: np.ndarray
    chi2_stars: np.ndarray
    used: np.ndarray
    good: np.ndarray
    residuals: np.ndarray
    fwhm_moffat_pixels: np.ndarray
    moffat: np.ndarray
    ellipticity: np.ndarray
    elongation: np.ndarray
    doubleness: np.ndarray
    relative_loss_differential: np.ndarray
    loss: np.ndarray
    loss_history: np.ndarray
    converged: np.ndarray
    n_iter: np.ndarray
    status: list[str]
    distortion: np.ndarray
    variation: list[Variation]
    wing: np.ndarray
    grid: np.ndarray
    normalisation: np.ndarray
