"""What a light curve must pass before it is published: a wrong one is worse than none."""

from typing import Any

import numpy as np

from lightcurver_ops.config.sections import Publication


def missed_by_fit(limits: Publication, labels: list[str], fit: Any, *, modelled: bool = True) -> list[str]:
    """Which gates a joint model misses, and by how much.

    A fit that ends without meeting its criterion is harmless where its fluxes hardly moved any more.

    Args:
        limits: of the configuration; null: no gate.
        labels: of the images.
        fit: an outcome of `roi_fit.fit_prepared`.
        modelled: false for an aperture: nothing in it converges, and its pixels follow no model.
    """
    missed = []
    count, aside = len(fit.chi2), int(np.count_nonzero(fit.aside))
    if (
        modelled
        and limits.max_last_move is not None
        and not fit.converged
        and fit.last_move > limits.max_last_move
    ):
        missed.append(
            f"the joint model did not converge: its last iteration moved a flux by {fit.last_move:.2g} sigma, above "
            f"{limits.max_last_move:g} (publication.max_last_move)"
        )
    if limits.max_fraction_aside is not None and count > 2 and aside >= limits.max_fraction_aside * count:
        missed.append(
            f"{aside} of {count} epochs do not fit what the others have in common, and nobody knows which are right "
            "(publication.max_fraction_aside)"
        )
    known = fit.chi2[np.isfinite(fit.chi2)]
    chi2 = float(np.median(known)) if known.size else np.nan
    if modelled and limits.max_chi2 is not None and not chi2 <= limits.max_chi2:
        missed.append(
            f"the median reduced chi2 of the epochs is {chi2:.2f}, above {limits.max_chi2:g} (publication.max_chi2)"
        )
    measured = np.isfinite(fit.flux).sum(axis=0)
    for label, number in zip(labels, measured, strict=True):
        if limits.min_fraction_measured is not None and number < limits.min_fraction_measured * count:
            missed.append(
                f"image {label} has a flux in {number} of {count} epochs only (publication.min_fraction_measured)"
            )
    return missed


def missed_by_controls(limits: Publication, scale: float | None, uncertainty: float | None) -> list[str]:
    """Whether control stars, measured like the lens, scatter by too much more than their errors say.

    Args:
        limits: of the configuration; null: no gate.
        scale: scatter over quoted error; None where nobody can tell.
        uncertainty: of it.
    """
    if (
        limits.max_error_factor is None
        or scale is None
        or scale - (uncertainty or 0.0) <= limits.max_error_factor
    ):
        return []
    return [
        f"the control stars scatter by {scale:.1f} times their quoted errors, above {limits.max_error_factor:g} "
        "(publication.max_error_factor)"
    ]
