"""How far measured light curves are from the simulated truth."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcurver_ops.constants import MAD_TO_SIGMA
from lightcurver_ops.simulation.bounds import expected_flux_errors
from lightcurver_ops.simulation.truth import Truth

MMAG = 1000 * 2.5 / np.log(10)


@dataclass(frozen=True)
class Comparison:
    """One image against its truth; magnitudes in mmag, measured minus true.

    Attributes:
        label: of the image.
        magnitude: true mean magnitude.
        n_epochs: compared.
        bias: median difference.
        rms: root mean square of the differences, bias included.
        scatter: 1.4826 times the median absolute deviation of the differences.
        photon_limit: median Cramer-Rao bound of the pixels (:func:`expected_flux_errors`).
        pull: root of the reduced chi2 of the differences around their weighted mean, by the quoted (independent)
            errors; 1 for honest ones.
        seeing_slope: mmag per arcsec of seeing that the differences follow, by weighted least squares.
        seeing_slope_error: its error; both NaN where the seeing does not change.
    """

    label: str
    magnitude: float
    n_epochs: int
    bias: float
    rms: float
    scatter: float
    photon_limit: float
    pull: float
    seeing_slope: float
    seeing_slope_error: float


def compare(truth: Truth, filter_name: str, epochs: Mapping[str, ArrayLike]) -> list[Comparison]:
    """Compare the table per epoch of a filter with the truth, exposure by exposure.

    Args:
        truth: of the season.
        filter_name: whose light curve it is.
        epochs: columns mjd and per image ``<label>_mag``, ``<label>_d_mag``.

    Raises:
        ValueError: an epoch that the season does not have.
    """
    rows = truth.frames[truth.frames["filter"] == filter_name]
    mjd = np.asarray(epochs["mjd"], dtype=float)
    nearest = np.abs(mjd[:, None] - np.asarray(rows["mjd"])[None, :])
    index = nearest.argmin(axis=1)
    if len(mjd) and nearest.min(axis=1).max() > 1e-5:
        raise ValueError(
            f"an epoch at MJD {mjd[nearest.min(axis=1).argmax()]:.5f} is not in the simulated season"
        )
    used = rows[index]
    bound = expected_flux_errors(truth.roi(files=list(used["file"])))
    result = []
    for j, label in enumerate(truth.options.lens.labels):
        true = np.asarray(used[f"mag_{label}"], dtype=float)
        measured = np.asarray(epochs[f"{label}_mag"], dtype=float)
        error = 1000 * np.asarray(epochs[f"{label}_d_mag"], dtype=float)
        good = np.isfinite(measured)
        difference = 1000 * (measured - true)[good]
        bias = float(np.median(difference))
        weight = error[good] ** -2.0
        around = (difference - np.average(difference, weights=weight)) / error[good]
        result.append(
            Comparison(
                label,
                float(true.mean()),
                int(good.sum()),
                bias,
                float(np.sqrt(np.mean(difference**2))),
                float(MAD_TO_SIGMA * np.median(np.abs(difference - bias))),
                float(np.median(MMAG * bound[:, j] / np.asarray(used[f"flux_{label}"]))),
                float(np.sqrt(np.sum(around**2) / max(len(around) - 1, 1))),
                *_slope(np.asarray(used["seeing_arcsec"], dtype=float)[good], difference, weight),
            )
        )
    return result


def _slope(
    x: NDArray[np.float64], y: NDArray[np.float64], weight: NDArray[np.float64]
) -> tuple[float, float]:
    """Of y over x by weighted least squares, and its error; NaN where x does not change."""
    apart = x - np.average(x, weights=weight)
    information = float(weight @ apart**2)
    if not information > 0:
        return float("nan"), float("nan")
    return float((weight * apart) @ y) / information, information**-0.5


def as_text(comparisons: list[Comparison]) -> str:
    """A table for people."""
    lines = [
        "image   true mag   epochs   bias    RMS   scatter   photon limit   residual/error",
        " " * 27 + "mmag",
    ]
    lines += [
        f"{one.label:<7} {one.magnitude:8.2f} {one.n_epochs:8d} {one.bias:+6.1f} {one.rms:6.1f} {one.scatter:9.1f} "
        f"{one.photon_limit:14.1f} {one.pull:16.2f}"
        for one in comparisons
    ]
    return "\n".join(lines)
