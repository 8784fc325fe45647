"""From a rough plate model to the best one: match, fit, clip, until nothing changes; then ask whether it is chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.astrometry.base import Catalogue
from lightcurver_ops.astrometry.tangent import TanModel, from_plane, separation, to_plane
from lightcurver_ops.astrometry.verification import MAX_STARS, clip_radius, log10_chance, mutual_matches

FloatArray = NDArray[np.float64]
STARS_FOR_FULL_MATRIX = 8  # below, a rotation and one scale are all that can be fitted and still be verified
MAX_ANISOTROPY = 0.1  # of a fitted matrix; real detectors stay below a few percent
LARGEST_CORNER_ERROR_PX = 1.5


@dataclass(frozen=True)
class FittedModel:
    """A plate model and how well it is supported.

    Args:
        model: the plate model.
        n_matched: pairs of source and star that it was fitted to.
        rms_pixels: two-dimensional rms of these pairs after the fit.
        corner_error_pixels: standard error of the model at the worst corner of the frame.
        log10_chance: log10 of the probability of so many pairs by chance, for one trial.
    """

    model: TanModel
    n_matched: int
    rms_pixels: float
    corner_error_pixels: float
    log10_chance: float


def _fit_matrix(
    pixels: FloatArray, plane: FloatArray, full: bool, mirrored: bool
) -> tuple[FloatArray, FloatArray]:
    """Least squares of plane = offset + cd @ pixels; the full matrix, or a scaled rotation of known parity.

    Args:
        pixels: (N, 2) relative to the reference pixel. plane: (N, 2).

    Returns:
        offset (2,), cd (2, 2).
    """
    if full:
        design = np.column_stack([np.ones(len(pixels)), pixels])
        coefficients: FloatArray = np.linalg.lstsq(design, plane, rcond=None)[0].astype(np.float64)
        return coefficients[0], coefficients[1:].T
    w = pixels[:, 0] + 1j * pixels[:, 1] * (-1 if mirrored else 1)
    z = plane[:, 0] + 1j * plane[:, 1]
    dw = w - w.mean()
    a = np.vdot(dw, z) / np.vdot(dw, dw)
    b = z.mean() - a * w.mean()
    return np.array([b.real, b.imag]), similarity_matrix(a, mirrored)


def similarity_matrix(a: complex, mirrored: bool) -> FloatArray:
    """The matrix of z = a w, or of z = a conj(w) where mirrored."""
    sign = -1.0 if mirrored else 1.0
    return np.array([[a.real, -a.imag * sign], [a.imag, a.real * sign]])


def _corner_error(pixels: FloatArray, corners: FloatArray, rms: float, full: bool) -> float:
    """Standard error of the fitted plane at the worst corner, in the unit of rms (two-dimensional)."""
    mean = pixels.mean(axis=0)
    d, dc = pixels - mean, corners - mean
    if full:
        scatter = d.T @ d
        if np.linalg.cond(scatter) > 1e8:
            return float("inf")
        leverage = np.einsum("ci,ij,cj->c", dc, np.linalg.inv(scatter), dc)
        freedom = len(pixels) - 3
    else:
        leverage = np.sum(dc**2, axis=1) / np.sum(d**2)
        freedom = len(pixels) - 2
    sigma = max(rms, 0.1) * np.sqrt(len(pixels) / max(freedom, 1))
    return float(sigma * np.sqrt(1 / len(pixels) + leverage.max()))


def refine(
    start: TanModel,
    sources: FloatArray,
    shape: tuple[int, int],
    catalogue: Catalogue,
    tolerance_px: float = 4.0,
    max_iterations: int = 12,
) -> FittedModel | None:
    """Fit CRVAL and the CD matrix to all pairs of sources and stars, with clipping.

    Starts with pairs within tolerance_px, then follows the scatter found (4 sigma, at least 0.7 px). A full matrix
    needs 8 pairs that span the frame; otherwise a rotation and one scale are fitted.

    Args:
        start: model right to a few tolerances over most of the frame.
        sources: (N, 2) pixel positions, brightest first (the first 400 are used).
        shape: (ny, nx) of the frame.
        catalogue: stars of the field.

    Returns:
        The fit, or None where fewer than 4 pairs remain, or the model drifts away or degenerates.
    """
    pixels = sources[:MAX_STARS] - start.crpix
    ny, nx = shape
    corners = np.array([[-0.5, -0.5], [nx - 0.5, -0.5], [nx - 0.5, ny - 0.5], [-0.5, ny - 0.5]]) - start.crpix
    reach = 1.2 * np.hypot(*shape) * start.scale / 3600.0
    field = catalogue.subset(separation(catalogue.ra, catalogue.dec, *start.crval) < reach)
    mirrored = np.linalg.det(start.cd) < 0
    model, radius = start, tolerance_px
    before: tuple[int, float] | None = None
    for iteration in range(max_iterations):
        scale_deg = model.scale / 3600.0
        stars = np.column_stack(to_plane(field.ra, field.dec, *model.crval))
        linear = np.linalg.inv(model.cd) @ stars.T  # stars in pixels relative to the reference pixel
        near = _inside(linear.T, corners, margin=3 * tolerance_px)
        stars_px, stars = linear.T[near][: 2 * MAX_STARS], stars[near][: 2 * MAX_STARS]
        i, j = mutual_matches(pixels, stars_px, radius)
        if len(i) < 4:
            return None
        full = len(i) >= STARS_FOR_FULL_MATRIX
        for full_matrix in (True, False) if full else (False,):
            offset, cd = _fit_matrix(pixels[i], stars[j], full_matrix, mirrored)
            residual = np.hypot(*(offset + pixels[i] @ cd.T - stars[j]).T) / scale_deg
            rms = float(np.sqrt(np.mean(residual**2)))
            error = _corner_error(pixels[i], corners, rms, full_matrix)
            full = full_matrix
            if error < LARGEST_CORNER_ERROR_PX:
                break
        if not np.isfinite(cd).all() or abs(np.linalg.det(cd)) < 0.2 * scale_deg**2:
            return None
        model = TanModel(start.crpix, np.array(from_plane(*offset, *model.crval)), cd)
        state = (len(i), rms)
        if before is not None and iteration > 2 and state[0] == before[0] and abs(rms - before[1]) < 1e-7:
            break
        before = state
        radius = clip_radius(residual, tolerance_px)
    if _anisotropy(model.cd) > MAX_ANISOTROPY:
        return None
    chance = log10_chance(pixels, stars_px, max(radius, rms), len(i), free=3 if full else 2)
    return FittedModel(model, len(i), rms, error, chance)


def _inside(points: FloatArray, corners: FloatArray, margin: float) -> NDArray[np.bool_]:
    low, high = corners.min(axis=0) - margin, corners.max(axis=0) + margin
    return np.all((points > low) & (points < high), axis=1)


def _anisotropy(cd: FloatArray) -> float:
    """(largest - smallest) / (largest + smallest) singular value: catches unequal scales and skew."""
    values = np.linalg.svd(cd, compute_uv=False)
    return float((values[0] - values[1]) / (values[0] + values[1]))
