"""Whether gain and read noise, as they are given, agree with the noise of the sky."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import theilslopes

from lightcurver_ops.constants import MAD_TO_SIGMA

LEAST_FRAMES = 8
MOST_FRAMES = 400  # there are half as many pairs as their square
LEAST_RANGE = 1.5  # of the sky, brightest over faintest
TOLERATED = 2.0  # what flat fields, faint sources and resampling do to the noise of the sky
NOISIEST_READOUT = 30.0  # electrons
LEAST_SCATTER = 1.0  # ADU: below, rounding to whole ADU is as large as the noise
BIAS_LEFT = 10.0  # ADU, that the bias of a subtracted frame may be off by
# Of the variance under the faintest skies: read noise of less cannot be told from what else is there.
LEAST_SHARE = 0.3
# Scatter of neighbours over that of pixels far apart: 1 where each pixel has noise of its own, a little less where
# stars are many, 0.7 and less after a shift by half a pixel.
CORRELATED, FAR_APART = 0.8, 8


@dataclass(frozen=True)
class Gain:
    """What pairs of frames say of the gain, electrons / ADU, and the 95 % interval of it."""

    value: float
    low: float
    high: float

    def contradicts(self, gain: float) -> bool:
        """Whether a gain is off by more than the interval and what else changes the noise."""
        return not self.low / TOLERATED <= gain <= self.high * TOLERATED


@dataclass(frozen=True)
class ReadNoise:
    """Between what the read noise lies, electrons, as the skies of many frames tell."""

    at_least: float
    at_most: float

    def contradicts(self, read_noise: float) -> bool:
        """Whether a read noise is outside by more than what else changes the noise of the sky."""
        return not self.at_least / TOLERATED <= read_noise <= self.at_most * TOLERATED


def gain_of_skies(level_adu: ArrayLike, variance_adu: ArrayLike) -> Gain | None:
    """The gain from how the variance of the sky grows with its level (photon transfer, Janesick 2007).

    Bias and read noise are the same in all frames and drop out of the slopes of pairs, of which the median counts
    (Theil-Sen).

    Args:
        level_adu, variance_adu: [E] sky of each frame, with or without its bias, and its variance per pixel.

    Returns:
        None: too few frames, or skies too much alike, to tell.
    """
    transfer = _photon_transfer(level_adu, variance_adu)
    return None if transfer is None else transfer.gain


def read_noise_of_skies(level_adu: ArrayLike, variance_adu: ArrayLike, gain: float) -> ReadNoise | None:
    """What the skies tell of the read noise, whatever of the bias is still in the levels.

    No frame scatters by less than its read noise: the faintest skies (their quartile) bound it from above. From below
    the variance at level 0 does (photon transfer, the intercept): bias that is still in the frames makes that smaller,
    which is safe, and bias that was subtracted too much, greater, for which `BIAS_LEFT` is taken off. It counts only
    where it is a good part of the noise of the faintest skies.

    Args:
        level_adu, variance_adu: [E] as `gain_of_skies`.
        gain: electrons / ADU.

    Returns:
        None: the variance does not follow the level as with this gain (frames that are stacked, resampled, or without
        their sky), or cannot be seen to.
    """
    transfer = _photon_transfer(level_adu, variance_adu)
    if transfer is None or transfer.gain.contradicts(gain):
        return None
    faintest = float(np.quantile(transfer.variance, 0.25))
    if faintest < LEAST_SCATTER**2:
        return None
    intercept = float(np.median(transfer.variance - transfer.high * transfer.level))
    is_told = transfer.level.min() > 0 and intercept >= LEAST_SHARE * faintest
    least = max(intercept - BIAS_LEFT * transfer.slope, 0.0) if is_told else 0.0
    return ReadNoise(gain * least**0.5, gain * faintest**0.5)


@dataclass(frozen=True)
class _PhotonTransfer:
    """Level and variance [E] of the skies that were used, ADU, and the slope of the one over the other, with its 95 %
    interval.
    """

    level: NDArray[np.float64]
    variance: NDArray[np.float64]
    slope: float
    low: float
    high: float

    @property
    def gain(self) -> Gain:
        return Gain(1.0 / self.slope, 1.0 / self.high, 1.0 / self.low)


def _photon_transfer(level_adu: ArrayLike, variance_adu: ArrayLike) -> _PhotonTransfer | None:
    level, variance = (np.asarray(values, dtype=np.float64) for values in (level_adu, variance_adu))
    known = np.isfinite(level) & np.isfinite(variance)
    level, variance = level[known], variance[known]
    chosen = np.argsort(level)[np.linspace(0, level.size - 1, min(level.size, MOST_FRAMES)).astype(int)]
    level, variance = level[chosen], variance[chosen]
    if level.size < LEAST_FRAMES or level.max() < LEAST_RANGE * max(level.min(), 0.0):
        return None
    slope, _, low, high = theilslopes(variance, level, alpha=0.95)
    return _PhotonTransfer(level, variance, slope, low, high) if low > 0 else None


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


def scatter_of_pixels(adu: NDArray) -> tuple[float, bool]:
    """The scatter of the pixels of an image [ny, nx], in its unit, and whether each has noise of its own.

    It is not where the image was resampled: neighbours then differ by less than pixels further apart.
    """
    near, far = (
        # Within a column: gradients and the wings of stars hardly touch differences.
        float(MAD_TO_SIGMA * np.nanmedian(np.abs(adu[step:] - adu[:-step])) / np.sqrt(2))
        for step in (1, FAR_APART)
    )
    return near, near >= CORRELATED * far


def remark_on_read_noise(scatter_adu: float, gain: float, read_noise: float) -> str | None:
    """That the pixels of one frame scatter by far less than its read noise alone would make them; else None.

    That they scatter by more is no sign: the photons of the sky do, too.

    Args:
        scatter_adu: standard deviation of pixels whose noise is their own; that of neighbours is known to half an ADU.
        gain: electrons / ADU.
        read_noise: electrons.
    """
    if read_noise <= TOLERATED * gain * (scatter_adu + 0.5):
        return None
    return (
        f"the sky scatters by {scatter_adu * gain:.1f} electrons per pixel, less than its read noise of "
        f"{read_noise:.1f} alone: is raw.read_noise too large?"
    )
