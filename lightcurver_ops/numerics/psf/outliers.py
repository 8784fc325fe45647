"""Pixels and stamps that do not belong to the star: found in the residuals of a fit."""

import numpy as np

from lightcurver_ops.constants import MAD_TO_SIGMA

PIXEL_SIGMA = 5.0
MOFFAT_ERROR = 0.12  # of the model: what a Moffat may miss before a pixel is called an outlier
GRID_ERROR = 0.03  # the same for the full model, with the variation of the PSF over the field
PEAK_ERROR = 0.01  # of the star's peak: errors of position and width show beside the brightest pixels
MAX_REJECTED_STAMPS = 1.0 / 3.0


def outlying_pixels(
    data: np.ndarray, model: np.ndarray, noise: np.ndarray, good: np.ndarray, model_error: float
) -> np.ndarray:
    """True where a good pixel is further from the model than noise and an imperfect model explain.

    Args:
        data, model, noise, good: [F, S, n, n]. model_error: relative error of the model.
    """
    peak = np.abs(model).max(axis=(2, 3), keepdims=True)
    allowed = PIXEL_SIGMA * np.sqrt(
        noise**2 + (model_error * model) ** 2 + (PEAK_ERROR * model_error / GRID_ERROR * peak) ** 2
    )
    return good & (np.abs(data - model) > allowed)


def outlying_stamps(
    data: np.ndarray, model: np.ndarray, noise: np.ndarray, good: np.ndarray, used: np.ndarray
) -> np.ndarray:
    """True for used stamps that fit much worse than the others of their frame: galaxies, doubles, blends.

    Outlying are stamps whose chi2 exceeds the median of the frame by 5 robust sigma and a factor of two, and whose
    misfit relative to their light exceeds twice the median misfit and 1 % (a bright star shows the same relative
    misfit with a larger chi2). At most a third of the stars of a frame, the worst first; never one of fewer than four.

    Args:
        data, model, noise, good: [F, S, n, n]. used: [F, S].
    """
    weight = np.where(good, 1.0 / noise**2, 0.0)
    count = np.maximum(good.sum(axis=(2, 3)), 1)
    squares = weight * (data - model) ** 2
    chi2 = squares.sum(axis=(2, 3)) / count
    excess = np.maximum(squares.sum(axis=(2, 3)) - count, 0.0)
    misfit = np.sqrt(excess / np.maximum((weight * model**2).sum(axis=(2, 3)), 1e-300))
    rejected = np.zeros_like(used)
    for frame in range(len(used)):
        stars = np.flatnonzero(used[frame])
        if len(stars) < 4:
            continue
        value = chi2[frame, stars]
        middle = np.median(value)
        spread = MAD_TO_SIGMA * np.median(np.abs(value - middle)) + 0.05 * middle
        worst = (value > middle + 5 * spread) & (value > 2 * middle)
        worst &= misfit[frame, stars] > np.maximum(2 * np.median(misfit[frame, stars]), 0.01)
        order = stars[np.argsort(-value)]
        chosen = [star for star in order if worst[stars == star][0]]
        rejected[frame, chosen[: int(len(stars) * MAX_REJECTED_STAMPS)]] = True
    return rejected
