"""A smooth galaxy in the background: one Sersic profile, fitted on the normal matrix.

Every penalty shrinks a bright galaxy, and what it loses goes to the point sources seen against it: tens to hundreds of
mmag. A profile whose amplitude and shape are free and not penalised takes that light, and the penalties act on what
the galaxy differs from it. Profile: Graham & Driver 2005, PASA 22, 118, eq. 1.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma, gammaincinv

Array = NDArray[np.float64]

# Steps of the numerical derivatives: flux (relative), x, y (small pixels), ln radius, ln index, e1, e2.
STEPS = np.array([1e-4, 1e-3, 1e-3, 1e-4, 1e-4, 1e-4, 1e-4])
LOWER = np.array([-np.inf, -np.inf, -np.inf, np.log(0.5), np.log(0.3), -0.8, -0.8])
UPPER = np.array([np.inf, np.inf, np.inf, np.inf, np.log(6.0), 0.8, 0.8])
# Weak Gaussian priors (centre, sigma), ellipticals and discs being what lenses: they matter where the data say nothing.
PRIOR_MEAN = np.array([0.0, 0.0, 0.0, 0.0, np.log(2.5), 0.0, 0.0])
PRIOR_SIGMA = np.array([np.inf, np.inf, np.inf, 1.5, 0.7, 0.3, 0.3])
FINE, COARSE = 9, 3  # cells per small pixel and axis, near the cusp and elsewhere
SOFTENING = 0.2  # small pixels: a cusp finer than the cells would make the derivatives noise
CORE = 3  # small pixels around the centre that are cut finely


@dataclass(frozen=True)
class Frame:
    """The grid of the background.

    Attributes:
        fine: N.
        blur: [N, N], applied along both axes: what the background's resolution is, seen from the sky's.
    """

    fine: int
    blur: Array

    @classmethod
    def of(cls, fine: int, resolution: Array | None = None) -> "Frame":
        """A grid whose pixels are integrated over once, by the PSF; and blurred by `resolution` if given.

        The profile's own integration over the small pixels is undone to second order.
        """
        sharpen = np.eye(fine) * 26 / 24 - (np.eye(fine, k=1) + np.eye(fine, k=-1)) / 24
        return cls(fine, sharpen if resolution is None else resolution @ sharpen)


def profile(theta: Array, frame: Frame) -> Array:
    """The background [N, N] of a galaxy, flux per small pixel.

    Args:
        theta: total flux, x, y from the grid's centre (small pixels), ln of the effective radius (small pixels), ln of
            the Sersic index, and the ellipticity (e1, e2), `(a-b)/(a+b)` in modulus, e1 > 0 along x.
        frame: the grid.
    """
    n = frame.fine
    grid: Array = np.arange(n, dtype=np.float64) - (n - 1) / 2
    image = _cells(theta, grid, grid, COARSE)
    cx, cy = (int(np.clip(np.rint(theta[i] + (n - 1) / 2), 0, n - 1)) for i in (1, 2))
    rows, columns = (slice(max(c - CORE, 0), c + CORE + 1) for c in (cy, cx))
    image[rows, columns] = _cells(theta, grid[rows], grid[columns], FINE)
    return frame.blur @ image @ frame.blur.T


def _cells(theta: Array, rows: Array, columns: Array, cuts: int) -> Array:
    flux, x0, y0, log_radius, log_index, e1, e2 = theta
    inner = (np.arange(cuts) + 0.5) / cuts - 0.5
    y = (rows[:, None] + inner).ravel()[:, None] - y0
    x = (columns[:, None] + inner).ravel()[None, :] - x0
    shear = 1.0 / (1.0 - e1**2 - e2**2)
    u = ((1 - e1) * x - e2 * y) * np.sqrt(shear)
    v = ((1 + e1) * y - e2 * x) * np.sqrt(shear)
    index, radius = np.exp(log_index), np.exp(log_radius)
    b = gammaincinv(2 * index, 0.5)
    value = np.exp(-b * (np.sqrt(u**2 + v**2 + SOFTENING**2) / radius) ** (1 / index))
    total = 2 * np.pi * index * radius**2 * b ** (-2 * index) * gamma(2 * index)
    return flux / total * value.reshape(rows.size, cuts, columns.size, cuts).mean(axis=(1, 3))


def jacobian(theta: Array, frame: Frame) -> Array:
    """Derivatives of the profile, [7, N, N]."""
    steps = STEPS.copy()
    steps[0] *= max(abs(theta[0]), 1e-30)
    out = [profile(np.array([1.0, *theta[1:]]), frame)]
    for i in range(1, 7):
        up, down = theta.copy(), theta.copy()
        up[i] += steps[i]
        down[i] -= steps[i]
        out.append((profile(up, frame) - profile(down, frame)) / (2 * steps[i]))
    return np.stack(out)


def turned(theta: Array, angle: float) -> Array:
    """The same galaxy turned by an angle in radians, x towards y."""
    out = theta.copy()
    c, s = np.cos(angle), np.sin(angle)
    out[1:3] = c * theta[1] - s * theta[2], s * theta[1] + c * theta[2]
    c, s = np.cos(2 * angle), np.sin(2 * angle)
    out[5:7] = c * theta[5] - s * theta[6], s * theta[5] + c * theta[6]
    return out


def bounded(theta: Array) -> Array:
    """The parameters within the range that the profile can be computed in."""
    out = np.clip(theta, LOWER, UPPER)
    size = np.hypot(out[5], out[6])
    out[5:7] *= min(1.0, UPPER[5] / max(size, 1e-30))
    return out
