"""Which fits to believe, from the distribution of their chi2."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from astropy.stats import sigma_clip

from lightcurver_ops.errors import ConfigurationError


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
