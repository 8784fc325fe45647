"""Noise of single pixels."""

import numpy as np
from numpy.typing import NDArray


def noise_map(image_e_per_s: NDArray, rms: float, exptime: float) -> NDArray[np.float64]:
    """Standard deviation of every pixel: background noise and photon noise of the sources.

    `noise = sqrt((t*rms)^2 + |t*d|) / t`, with the sky already removed from d (its photon noise is in rms).

    Args:
        image_e_per_s: [..., ny, nx] sky-subtracted image, electrons per second.
        rms: standard deviation of the background, electrons per second.
        exptime: exposure time t, seconds.

    Returns:
        Same shape, electrons per second, float64; NaN where the image is.
    """
    return (
        np.sqrt((exptime * rms) ** 2 + np.abs(exptime * np.asarray(image_e_per_s, dtype=np.float64)))
        / exptime
    )


def inflate_masked(
    data: NDArray, noise: NDArray, good: NDArray[np.bool_], factor: float = 1000.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Take the weight from masked pixels without taking the pixels away: their noise times `factor`.

    Pixels without a finite value or noise could not enter a fit at any weight: they become 0 with `factor` times
    the median noise of the good pixels.

    Args:
        data, noise: [..., n, n], any common unit.
        good: same shape, True for pixels to use.
        factor: 1000 removes a pixel's influence at the level of 1e-6.

    Returns:
        data and noise, finite everywhere, float64.
    """
    usable = np.isfinite(data) & np.isfinite(noise)
    trusted = noise[usable & good]
    typical = float(np.median(trusted)) if trusted.size else 1.0
    out_data = np.where(usable, data, 0.0).astype(np.float64)
    out_noise = np.where(usable, noise, typical).astype(np.float64)
    return out_data, np.where(usable & good, out_noise, factor * out_noise)
