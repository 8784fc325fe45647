"""The errors of a light curve in two parts: independent from epoch to epoch, and common to all epochs of an image.

The independent part is what scatters: photon noise, the epoch's own translation and sky, its normalization coefficient.
The common part is one unknown offset of an image: galaxy under it, positions. No difference between epochs has it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.constants import POGSON

Array = NDArray[np.float64]
Record = dict[str, dict[str, Any]]
"""What `publications.common_errors` holds: label -> flux_uncertainty (e-/s), mmag (None where the flux is not
positive), flux_covariances ((e-/s)^2, by later label)."""


@dataclass(frozen=True)
class FluxErrors:
    """Of J images in E epochs.

    Attributes:
        independent: [E, J, J] covariance, (e-/s)^2.
        common: [J, J] covariance of what all epochs share, (e-/s)^2.
        of_model: [E, J] independent errors before they were calibrated on control stars, e-/s; None where they are as
            the model gives them.
    """

    independent: Array
    common: Array
    of_model: Array | None = None

    @property
    def uncertainty(self) -> Array:
        """[E, J] independent errors, e-/s."""
        return np.sqrt(np.einsum("ejj->ej", self.independent))


def quoted_errors(prepared: Any, fit: Any, factor: float | None = None) -> FluxErrors:
    """The errors of fitted fluxes: the model's and, in the independent part, the normalization's.

    Args:
        prepared, fit: the cutouts and their model.
        factor: by which control stars say that independent errors are wrong; None: nothing is multiplied.
    """
    of_frame = np.abs(fit.flux) * prepared.relative_normalization_error[:, None]
    # One coefficient moves all images of its frame alike.
    model = FluxErrors(
        fit.flux_covariance + of_frame[:, :, None] * of_frame[:, None, :], fit.common_flux_covariance
    )
    if factor is None:
        return model
    return FluxErrors(factor**2 * model.independent, model.common, model.uncertainty)


def later_covariances(labels: Sequence[str], j: int, covariance: Array) -> dict[str, float] | None:
    """Covariances [J, J] of image j with those after it, by label, as far as they are known; None for none."""
    found = {
        label: float(covariance[j, k])
        for k, label in enumerate(labels)
        if k > j and np.isfinite(covariance[j, k])
    }
    return found or None


def common_record(labels: Sequence[str], flux: Array, common: Array) -> Record:
    """What a publication says of the common errors [J, J] of the fluxes [E, J] of its images."""
    record: Record = {}
    for j, label in enumerate(labels):
        known = flux[np.isfinite(flux[:, j]), j]
        if not known.size or not common[j, j] >= 0:
            continue
        error, typical = math.sqrt(common[j, j]), float(np.median(known))
        record[label] = {
            "flux_uncertainty": error,
            "mmag": 1000 * POGSON * error / typical if typical > 0 else None,
            "flux_covariances": later_covariances(labels, j, common) or {},
        }
    return record


def common_line(record: Record) -> str:
    """A `common_record` in one line."""
    parts = [
        f"{label} {one['flux_uncertainty']:.3g} e-/s"
        if one["mmag"] is None
        else f"{label} {one['mmag']:.1f} mmag"
        for label, one in record.items()
    ]
    return f"error that all points of an image share, beside their own: {', '.join(parts)}"


def covariance_name(label: str, later: str) -> str:
    """Name of the column with the covariance of two images' fluxes."""
    return f"cov_{label}_{later}"


def pairs(labels: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Column of covariances: numbers of its two images, the first before the second."""
    return {
        covariance_name(one, other): (j, k)
        for j, one in enumerate(labels)
        for k, other in enumerate(labels)
        if j < k
    }
