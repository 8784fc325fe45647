"""A distortion polynomial (SIP) from the stars of a frame that is solved without one."""

from __future__ import annotations

import numpy as np
from astropy.io import fits
from astropy.wcs import Sip
from numpy.typing import NDArray

from lightcurver_ops.astrometry.base import Catalogue
from lightcurver_ops.astrometry.linear_part import header_of
from lightcurver_ops.astrometry.tangent import TanModel, from_plane, separation, to_plane
from lightcurver_ops.astrometry.verification import MAX_STARS, clip_radius, mutual_matches

FloatArray = NDArray[np.float64]
PAIRS_PER_TERM = 3  # fewer stars per coefficient and axis follow the noise
REACH_PX = 4.0
ROUNDS = 8
LARGEST_SHEAR = 0.05  # change of the local scale by the polynomial that a camera may show


def fit_sip(
    model: TanModel, sources: FloatArray, shape: tuple[int, int], catalogue: Catalogue, order: int
) -> fits.Header | None:
    """Fit polynomials of this order, or of the highest lower one that the number of stars allows.

    plane = cd (p + f(p)), f without constant and linear terms, by least squares over pairs that are matched anew, and
    clipped, in every round.

    Args:
        model: the solution without distortion.
        sources: (N, 2) pixel positions, brightest first.
        shape: (ny, nx) of the frame.
        catalogue: stars of the field.
        order: of the polynomials, 2 or more.

    Returns:
        The cards of the WCS; None where there are too few stars for any distortion, or the fit is not sane.
    """
    pixels = sources[:MAX_STARS] - model.crpix
    norm = 0.5 * float(np.hypot(*shape))
    reach = 1.2 * np.hypot(*shape) * model.scale / 3600.0
    field = catalogue.subset(separation(catalogue.ra, catalogue.dec, *model.crval) < reach)
    straight, radius = pixels, REACH_PX
    crval, cd, fitted = model.crval, model.cd, 0
    coefficients = np.zeros((0, 2))
    for turn in range(ROUNDS):
        stars = np.column_stack(to_plane(field.ra, field.dec, *crval)) @ np.linalg.inv(cd).T
        inside = np.all(np.abs(stars) < 0.7 * np.hypot(*shape), axis=1)
        stars = stars[inside][: 2 * MAX_STARS]
        i, j = mutual_matches(straight, stars, radius)
        # The corners, where the distortion is largest, come within reach once the lowest order is known.
        fitted = min(2 if turn < 2 else order, _order_allowed(len(i)))
        if fitted < 2:
            return None
        powers = _powers(fitted)
        solution = np.linalg.lstsq(_design(pixels[i] / norm, powers), stars[j], rcond=None)[0]
        offset, matrix = solution[0], solution[1:3].T / norm
        coefficients = solution[3:] @ np.linalg.inv(matrix).T
        straight = pixels + _design(pixels / norm, powers)[:, 3:] @ coefficients
        crval, cd = np.array(from_plane(*(cd @ offset), *crval)), cd @ matrix
        residual = np.hypot(*(straight[i] @ matrix.T + offset - stars[j]).T)
        radius = clip_radius(residual, REACH_PX)
    if not _is_sane(coefficients, powers, norm, shape, model.crpix):
        return None
    a, b = (np.zeros((fitted + 1, fitted + 1)) for _ in range(2))
    for (p, q), (along_x, along_y) in zip(powers[3:], coefficients, strict=True):
        a[p, q], b[p, q] = along_x / norm ** (p + q), along_y / norm ** (p + q)
    return header_of(TanModel(model.crpix, crval, cd), Sip(a, b, None, None, model.crpix + 1.0))


def _order_allowed(n_pairs: int) -> int:
    return max((n for n in range(1, 6) if PAIRS_PER_TERM * (n + 1) * (n + 2) // 2 <= n_pairs), default=0)


def _powers(order: int) -> list[tuple[int, int]]:
    """Exponents of x and y, the constant and the linear terms first."""
    return [(n - q, q) for n in range(order + 1) for q in range(n + 1)]


def _design(points: FloatArray, powers: list[tuple[int, int]]) -> FloatArray:
    return np.column_stack([points[:, 0] ** p * points[:, 1] ** q for p, q in powers])


def _is_sane(
    coefficients: FloatArray,
    powers: list[tuple[int, int]],
    norm: float,
    shape: tuple[int, int],
    crpix: FloatArray,
) -> bool:
    """Whether the polynomials change the local scale little, all over the frame, edges without stars included."""
    y, x = np.mgrid[0 : shape[0] - 1 : 9j, 0 : shape[1] - 1 : 9j]
    grid = np.column_stack([x.ravel(), y.ravel()]) - crpix
    step = 1.0
    for axis in (0, 1):
        shift = np.eye(2)[axis] * step
        ahead, behind = (
            _design((grid + sign * shift) / norm, powers)[:, 3:] @ coefficients for sign in (1, -1)
        )
        if np.abs(ahead - behind).max() / (2 * step) > LARGEST_SHEAR:
            return False
    return True
