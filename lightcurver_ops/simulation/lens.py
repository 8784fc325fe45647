"""The light curves of the images of a lensed quasar."""

import numpy as np
from scipy.signal import lfilter

from .options import LensOptions
from .psf import Array

STEP = 0.5  # days, of the grid on which the walks are drawn
BEFORE = 1000.0  # days of the grid before the first night


def image_magnitudes(lens: LensOptions, seed: int, first_mjd: float, mjd: Array) -> Array:
    """Magnitudes (J, T) of the images at these MJD (T,).

    The quasar is a damped random walk (Kelly et al. 2009, ApJ 698, 895, eq. 1), the same for a given seed and first
    night whatever the times asked for. Delays up to 1000 days.
    """
    if lens.light_curves is not None:
        curves = [np.asarray(curve(mjd), float) for curve in lens.light_curves]
        return np.array(curves).reshape(len(lens.labels), mjd.size)
    start = first_mjd - BEFORE
    steps = int((max(mjd.max(), first_mjd) - start) / STEP) + 2
    grid = start + STEP * np.arange(steps)
    quasar = damped_random_walk(steps, lens.variability_mag, lens.timescale_days, _seed(seed, 0))
    curves = []
    for j, (mean, delay) in enumerate(zip(lens.magnitudes, lens.delays_days, strict=True)):
        own = damped_random_walk(steps, lens.microlensing_mag, 5 * lens.timescale_days, _seed(seed, j + 1))
        curves.append(mean + np.interp(mjd - delay, grid, quasar) + np.interp(mjd, grid, own))
    return np.array(curves).reshape(len(lens.labels), mjd.size)


def damped_random_walk(steps: int, deviation: float, timescale: float, seed: np.random.SeedSequence) -> Array:
    """A stationary walk (steps,) on a grid of `STEP` days; a longer one begins with the same values."""
    shocks = np.random.default_rng(seed).normal(size=steps)
    memory = np.exp(-STEP / timescale)
    shocks[1:] *= np.sqrt(1 - memory**2)
    return deviation * lfilter([1.0], [1.0, -memory], shocks)


def _seed(seed: int, walk: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(1, walk))
