"""What a fit of the region of interest is asked, and what it returns."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RoiOptions:
    """Settings of `fit_roi`; the defaults need no tuning.

    Attributes:
        strength: of the L1 penalty on the starlet coefficients of the background at all scales but the finest and
            the coarsest, in standard deviations of the noise that reaches each coefficient.
        strength_finest: the same at the finest scale.
        positive: forbid negative background.
        translation_sigma: Gaussian prior of each epoch's translation around the given one, data pixels; 0 fixes the
            translations.
        galaxy: let a smooth galaxy (one Sersic profile, free and not penalised) be part of the background, where the
            data show one and no background is given. Without it the penalty dims the galaxy and the images seen
            against it gain the light. Not with solver "starred".
        sky_sigma: a free constant sky per epoch, with a Gaussian prior around zero of so many times the epoch's median
            noise: what the sky subtraction of the frame left (not with solver "starred"). 0: none.
        reject: leave out pixels that the model does not explain, such as missed cosmics, and set aside epochs that do
            not fit what the others have in common (not with solver "starred").
        max_relinearisations: outer iterations.
        max_iterations: inner iterations per outer one, or gradient steps with solver "starred".
        max_first_iterations: with solver "starred", gradient steps of translations and fluxes alone, before.
        flux_tolerance: the fit has converged when no flux moves more than this fraction of its uncertainty.
        learning_rate: of the gradient steps with solver "starred".
    """

    strength: float = 3.0
    strength_finest: float = 3.0
    positive: bool = True
    translation_sigma: float = 0.25
    galaxy: bool = True
    sky_sigma: float = 0.3
    reject: bool = True
    max_relinearisations: int = 25
    max_iterations: int = 2000
    max_first_iterations: int = 300
    flux_tolerance: float = 0.02
    learning_rate: float = 1e-2


@dataclass(frozen=True)
class RoiFit:
    """The joint model of the pixels of E epochs with J point sources.

    Attributes:
        flux: [E, J], unit of the data (total flux); NaN where an epoch does not constrain it, or is beyond use.
        flux_uncertainty: [E, J], 1 sigma, of what differs from epoch to epoch, see `flux_covariance`.
        flux_covariance: [E, J, J] independent: of the fluxes around what is common, the epoch's translation and sky
            marginalised; what is unknown of positions and background is in it as far as it moves the epochs apart.
        common_flux_covariance: [J, J] of an offset that the fluxes of all epochs share, from what is unknown of
            positions and background; the covariance of any flux is the sum of both.
        positions: [J, 2] (x, y) from the stamp centre, data pixels.
        positions_uncertainty: [J, 2], 1 sigma; 0 where fixed.
        translations: [E, 2] (dx, dy), data pixels.
        translation_sigma: [E] of their priors, data pixels; empty where there are none.
        sky: [E] flux per data pixel.
        background: [N, N] flux per small pixel.
        model: [E, n, n].
        background_model: [E, n, n] its part without the point sources.
        residuals: [E, n, n] (data - model) / noise, NaN in bad pixels.
        chi2: [E] reduced: per good pixel.
        loss: half the chi2 plus priors and penalties.
        loss_history: [n_iter] its values at the outer iterations.
        converged: False when iterations ran out.
        n_iter: outer iterations.
        status: one line for the log.
        updated: the fit went on from an earlier one.
        left_out_pixels: [E] good pixels that were not used, because no model of the scene explains them.
        aside: [E] True for an epoch that did not fit: what is common was found without it, and its fluxes have errors
            that allow for its misfit, or are NaN.
        epoch_note: [E] what was left out of the epoch, or changed, and why; empty where nothing was.
        last_move: largest move of a flux in the last iteration, in sigma.
    """

    flux: Array
    flux_uncertainty: Array
    flux_covariance: Array
    common_flux_covariance: Array
    positions: Array
    positions_uncertainty: Array
    translations: Array
    sky: Array
    background: Array
    model: Array
    background_model: Array
    residuals: Array
    chi2: Array
    loss: float
    loss_history: Array
    converged: bool
    n_iter: int
    status: str
    updated: bool = False
    translation_sigma: Array = field(default_factory=lambda: np.zeros(0))
    left_out_pixels: NDArray[np.int_] = field(default_factory=lambda: np.zeros(0, dtype=int))
    aside: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    epoch_note: tuple[str, ...] = ()
    last_move: float = np.inf

    @property
    def common_flux_uncertainty(self) -> Array:
        """[J], 1 sigma, of the offset that the fluxes of all epochs share."""
        return np.sqrt(np.diag(self.common_flux_covariance))
