"""Which fits to believe, from the distribution of their chi2."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.stats import sigma_clip

from lightcurver_ops.errors import ConfigurationError

BEYOND_NOISE = 5.0
"""Standard deviations of chi2 above its expectation up to which a star's residuals count as noise."""


def frame_misfit(chi2: np.ndarray, n_pixels: np.ndarray, snr: np.ndarray) -> float:
    """What the PSF does not explain of the stars of a frame, relative to their light and beyond their noise.

    Of each star the root of `sum (d - m)^2/sigma^2`, less its expectation and 5 standard deviations, over
    `sum m^2/sigma^2`: the relative error of a model that is wrong in proportion to its light, as it is where the PSF
    changes over the field. Of a frame the median of the brighter half of its stars, which tell it best: neither a
    galaxy nor a saturated star decides, and under clouds, where noise hides it, it is 0.

    Args:
        chi2: [S], reduced, of the fit of the PSF to each star.
        n_pixels: [S], that took part.
        snr: [S], flux over its error.

    Returns:
        0 where no star is measured.
    """
    chi2, n_pixels, snr = (np.asarray(values, dtype=np.float64) for values in (chi2, n_pixels, snr))
    measured = np.isfinite(chi2) & (snr > 0) & (n_pixels > 0)
    if not measured.any():
        return 0.0
    chi2, n_pixels, snr = chi2[measured], n_pixels[measured], snr[measured]
    bright = snr >= np.median(snr)
    excess = n_pixels * (chi2 - 1) - BEYOND_NOISE * np.sqrt(2 * n_pixels)
    return float(np.sqrt(max(np.median((excess / snr**2)[bright]), 0.0)))


def chi2_bounds(chi2: np.ndarray, rule: Mapping[str, Any] | None) -> tuple[float, float]:
    """The interval (lo, hi) of acceptable chi2.

    Args:
        chi2: of one star selection; values that are not finite are ignored.
        rule: None accepts everything; {"interval": [lo, hi]} is taken as it is; {"sigma_clip": k} is the median of the
            sigma-clipped distribution (astropy.stats, at k sigma) plus and minus k of its standard deviations.

    Returns:
        (lo, hi); infinite where there is no bound, and where there is nothing to judge from.

    Raises:
        ConfigurationError: a rule of another form.
    """
    if rule is None:
        return -np.inf, np.inf
    if set(rule) == {"interval"} and len(rule["interval"]) == 2:
        low, high = (float(value) for value in rule["interval"])
        return low, high
    if set(rule) == {"sigma_clip"} and float(rule["sigma_clip"]) > 0:
        k = float(rule["sigma_clip"])
        values = np.asarray(chi2, dtype=np.float64)
        values = values[np.isfinite(values)]
        if values.size == 0:
            return -np.inf, np.inf
        kept = sigma_clip(values, sigma=k, masked=False)
        middle, spread = float(np.median(kept)), float(np.std(kept))
        return middle - k * spread, middle + k * spread
    raise ConfigurationError(
        f"the rule for accepting chi2 is {rule!r}: expected null, {{sigma_clip: k}} with k > 0, or "
        "{interval: [lowest, highest]}."
    )
