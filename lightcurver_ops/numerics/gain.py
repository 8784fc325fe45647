"""Whether the gain that a header gives agrees with the noise of the sky."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import theilslopes

LEAST_FRAMES = 8
MOST_FRAMES = 400  # there are half as many pairs as their square
LEAST_RANGE = 1.5  # of the sky, brightest over faintest
TOLERATED = 2.0  # what flat fields, faint sources and resampling do to the noise of the sky
NOISIEST_READOUT = 30.0  # electrons


@dataclass(frozen=True)
class Gain:
    """What pairs of frames say of the gain, electrons / ADU, and the 95 % interval of it."""

    value: float
    low: float
    high: float

    def contradicts(self, gain: float) -> bool:
        """Whether a gain is off by more than the interval and what else changes the noise."""
        return not self.low / TOLERATED <= gain <= self.high * TOLERATED


def gain_of_skies(level_adu: ArrayLike, variance_adu: ArrayLike) -> Gain | None:
    """The gain from how the variance of the sky grows with its level (photon transfer, Janesick 2007).

    Bias and read noise are the same in all frames and drop out of the slopes of pairs, of which the median counts
    (Theil-Sen).

    Args:
        level_adu, variance_adu: [E] sky of each frame, with or without its bias, and its variance per pixel.

    Returns:
        None: too few frames, or skies too much alike, to tell.
    """
    level, variance = (np.asarray(values, dtype=np.float64) for values in (level_adu, variance_adu))
    known = np.isfinite(level) & np.isfinite(variance)
    level, variance = level[known], variance[known]
    chosen = np.argsort(level)[np.linspace(0, level.size - 1, min(level.size, MOST_FRAMES)).astype(int)]
    level, variance = level[chosen], variance[chosen]
    if level.size < LEAST_FRAMES or level.max() < LEAST_RANGE * max(level.min(), 0.0):
        return None
    slope, _, low, high = theilslopes(variance, level, alpha=0.95)
    if not low > 0:
        return None
    return Gain(1.0 / slope, 1.0 / high, 1.0 / low)


def remark(sky_electrons: float, rms_electrons: float, gain: float) -> str | None:
    """That the sky of one frame scatters by far more than its photons and any read noise do; None where it does not.

    That it scatters by less is no sign: a bias that is still in the frame counts as sky.
    """
    expected = max(sky_electrons, 0.0) + NOISIEST_READOUT**2
    if rms_electrons**2 <= TOLERATED**2 * expected:
        return None
    return (
        f"the sky of {sky_electrons:.0f} electrons per pixel scatters by {rms_electrons:.0f}: is the gain {gain:g} "
        "too large?"
    )
