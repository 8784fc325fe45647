"""The lensed host of the quasar in the background: faint arcs along the ring that the images lie on.

An arc that passes through the images is hidden under them: at the resolution of the sky no coefficient of the
background stands out of its noise, the penalty leaves none of it, and the faintest image gains its light (27 mmag for
one of 20.6 mag, where the arcs have 40 % of its flux). What is known is where such light lies. A singular isothermal
lens shows a source at a distance `b` from its axis at `r = theta_E + b cos(phi - phi_0)` from the galaxy, whatever the
angle phi, and external shear adds the second harmonic (Kormann, Schneider & Bartelmann 1994, A&A 284, 285): the ridge
follows from the images. Light along it has a few amplitudes, with Gaussian priors of a common width that is averaged
over what the data say of it (the evidence, as in `psf.variation`). A host that they cannot tell from none widens the
common errors of the images, and moves them little.
"""

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.numerics.roi.galaxy import Frame
from lightcurver_ops.numerics.roi.lights import Lights

Array = NDArray[np.float64]

FEWEST = 2  # images: a single one says nothing of a ring
HARMONICS = 2  # of the ridge
ALONG = (1.0, 0.5, 0.5, 0.35)
"""Of the brightness along the ridge: widths of the priors of its mean and harmonics. Hosts that are ray-traced through
isothermal ellipsoids with shear have 0.27, 0.16 and 0.32 times the mean in the harmonics of quads, 0.3, 1.0 and 0.35 in
those of doubles (root mean square of 10 and 7 lenses); what these templates leave of them is 2 to 14 %."""
ACROSS = 0.15  # the same of where the light lies across the ridge: 0.05 to 0.2
WIDTH = 0.15  # of the ridge's radius: standard deviation across it
CUTS = 3  # cells per small pixel and axis
CIRCLE = 1e-3  # how little a ridge that leaves the circle is expected: it passes by all images that it can
LEAST_RADIUS = 0.2  # of the mean
WIDTHS = 10.0 ** np.arange(-4.0, 0.0, 0.5)
"""Of the prior of the ring's flux, in units of that of all images."""
RIDGE = 1e-9


def ring(positions: Array, centre: Array, frame: Frame) -> Lights:
    """Light along the ring through images around a centre, none of it yet, with priors of unit width.

    Args:
        positions, centre, frame: as `templates` takes them.
    """
    light = templates(positions, centre, frame)
    return Lights(light, np.zeros(len(light)), expected() ** -2.0)


def expected() -> Array:
    """Widths [R] of the templates' priors relative to the first one: details along and across the ring are weaker."""
    along = [width for m, width in enumerate(ALONG) for _ in range(1 if m == 0 else 2)]
    return np.concatenate([along, np.full(len(along), ACROSS)])


def templates(positions: Array, centre: Array, frame: Frame) -> Array:
    """The light of an even ring, its harmonics, and what all these change by where the ridge lies further out.

    Args:
        positions: [J, 2] of the images, small pixels from the grid's centre.
        centre: [2] of the ring, small pixels.
        frame: the grid.

    Returns:
        [R, N, N], each as bright as an even ring of flux 1.
    """
    n = frame.fine
    axis = (np.arange(n * CUTS) + 0.5) / CUTS - 0.5 - (n - 1) / 2
    x, y = axis[None, :] - centre[0], axis[:, None] - centre[1]
    radius, angle = np.hypot(x, y), np.arctan2(y, x)
    ridge = ridge_of(positions - centre)
    middle, mean = _series(ridge, angle), ridge[0]
    across = (radius - np.maximum(middle, LEAST_RADIUS * mean)) / (WIDTH * mean)
    even = np.exp(-0.5 * across**2)
    turns = [np.ones_like(angle)]
    for m in range(1, len(ALONG)):
        turns += [np.cos(m * angle), np.sin(m * angle)]
    cells = np.stack([profile * turn for profile in (even, across * even) for turn in turns])
    images = cells.reshape(len(cells), n, CUTS, n, CUTS).mean(axis=(2, 4))
    return np.asarray(frame.blur @ (images / images[0].sum()) @ frame.blur.T)


def ridge_of(offsets: Array) -> Array:
    """Fourier coefficients (mean, cos, sin, cos 2, sin 2) of the radius over the angle, through images at `offsets`."""
    radius, angle = np.hypot(*offsets.T), np.arctan2(offsets[:, 1], offsets[:, 0])
    design = np.stack([_series(unit, angle) for unit in np.eye(2 * HARMONICS + 1)], axis=-1)
    orders = np.array([0, *np.repeat(np.arange(1, HARMONICS + 1), 2)])
    normal = design.T @ design + np.diag(CIRCLE * orders**2)
    return np.asarray(np.linalg.solve(normal, design.T @ radius), dtype=np.float64)


def _series(coefficients: Array, angle: Array) -> Array:
    orders = np.arange(1, (len(coefficients) - 1) // 2 + 1)
    turned = orders.reshape(-1, *[1] * angle.ndim) * angle
    cos, sin = (part.reshape(-1, *[1] * angle.ndim) for part in (coefficients[1::2], coefficients[2::2]))
    return np.asarray(coefficients[0] + (cos * np.cos(turned) + sin * np.sin(turned)).sum(axis=0))


def prior_width(hessian: Array, gradient: Array, scale: float) -> float:
    """The width of the prior of the ring's flux, averaged over what the data say of it.

    Args:
        hessian: [X + R, X + R], curvature of half the chi2 by the other unknowns (their priors included) and the
            amplitudes.
        gradient: [X + R], of the log posterior, where the amplitudes are 0.
        scale: the flux of all images.

    Returns:
        The root of the mean squared width over `WIDTHS`, each as probable as another before the data.
    """
    relative = expected()
    widths, evidence = scale * WIDTHS, np.empty(len(WIDTHS))
    unit = 1.0 / np.sqrt(np.maximum(np.diag(hessian), 1e-300))
    scaled = hessian * unit[:, None] * unit + RIDGE * np.eye(len(hessian))
    for i, width in enumerate(widths):
        precision = 1.0 / (width * relative) ** 2
        full = scaled.copy()
        at = np.arange(len(full) - len(relative), len(full))
        full[at, at] += precision * unit[at] ** 2
        factor = np.linalg.cholesky(full)
        white = np.linalg.solve(factor, gradient * unit)
        evidence[i] = 0.5 * white @ white - np.log(np.diag(factor)).sum() + 0.5 * np.log(precision).sum()
    weight = np.exp(evidence - evidence.max())
    return float(np.sqrt((weight @ widths**2) / weight.sum()))
