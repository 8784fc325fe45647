"""The same model by STARRED's own classes, loss and optimiser (Michalewicz et al. 2023, JOSS 8, 5340): the reference.

Differences of convention: it convolves points and background alike with the narrow PSF; it moves and turns the image of
an epoch by bilinear interpolation, and turns it about the pixel N // 2, half a small pixel off the points for PSFs of
even side.
"""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.numerics.roi import render
from lightcurver_ops.numerics.roi.epoch import Epochs, Local
from lightcurver_ops.numerics.roi.finish import finish
from lightcurver_ops.numerics.roi.iterate import gather
from lightcurver_ops.numerics.roi.points import points_only
from lightcurver_ops.numerics.roi.result import RoiFit
from lightcurver_ops.numerics.roi.state import Outcome, Problem, State

Array = NDArray[np.float64]

BAD_SIGMA = 1e3  # noise of a bad pixel, in units of the median noise of its epoch


def gauge(epochs: Epochs, fine: int, subsampling: int) -> Array:
    """What STARRED's centre of rotation adds to each translation, [E, 2] data pixels."""
    off = fine // 2 - (fine - 1) / 2 + 0.5 * (1 - epochs.narrow.shape[-1] % 2)
    v = np.full((1, 2), off)
    added: Array = (render.rotate(v, epochs.angle)[:, 0] - v) / subsampling
    return added


def starred_loss(problem: Problem, state: State, weights: Array | None = None) -> tuple[Any, Any, dict]:
    """STARRED's model and loss for a problem, and a state in STARRED's parameters.

    Args:
        problem, state: ours; the state is where STARRED starts.
        weights: [S + 1, N, N] of its starlet penalty; default by its own noise propagation.

    Returns:
        Deconv, a function (fixed, with_background) to Loss and ParametersDeconv, and the parameters.
    """
    from starred.deconvolution.deconvolution import setup_model
    from starred.deconvolution.loss import Loss, Prior
    from starred.deconvolution.parameters import ParametersDeconv
    from starred.utils.noise_utils import propagate_noise

    layout, options, epochs = problem.layout, problem.options, problem.epochs
    k, count, fine = layout.subsampling, problem.count, layout.fine
    data, weight = epochs.data, epochs.weight
    typical = np.array([np.median(w[w > 0]) if np.any(w > 0) else 1.0 for w in weight])[:, None, None]
    variance = np.where(weight > 0, 1.0 / np.where(weight > 0, weight, 1.0), BAD_SIGMA**2 / typical)
    narrow = epochs.narrow
    cut = max(0, (narrow.shape[1] - fine + 1) // 2)
    narrow = narrow[:, cut : narrow.shape[1] - cut, cut : narrow.shape[2] - cut]
    x, y = state.scene.positions.T
    amplitudes = state.locals.flux.ravel()
    model, start, up, down, fixed = setup_model(
        data, variance, narrow, x, y, k, initial_a=amplitudes.copy(), convolution_method="scipy"
    )
    shift = state.locals.translation + gauge(epochs, fine, k)
    start["kwargs_analytic"]["dx"], start["kwargs_analytic"]["dy"] = shift[:, 0], shift[:, 1]
    start["kwargs_analytic"]["alpha"] = np.rad2deg(epochs.angle)
    fixed["kwargs_analytic"]["alpha"] = start["kwargs_analytic"]["alpha"]
    start["kwargs_background"]["h"] = state.scene.background.ravel()
    fixed["kwargs_background"]["mean"] = np.zeros(count)
    if weights is None:
        weights = propagate_noise(
            model, np.sqrt(variance), start, method="MC", num_samples=200, seed=1, upsampling_factor=k
        )[0]
    prior = None
    if layout.move_positions and problem.prior.precision > 0:
        sigma = problem.prior.precision**-0.5
        centre = problem.prior.positions
        prior = Prior(prior_analytic=[["c_x", centre[:, 0], sigma], ["c_y", centre[:, 1], sigma]])

    def loss(more_fixed: dict, begin: dict, with_background: bool) -> tuple[Any, Any]:
        hold = {part: {**fixed[part], **more_fixed.get(part, {})} for part in fixed}
        parameters = ParametersDeconv(begin, hold, kwargs_up=up, kwargs_down=down)
        on = 1.0 if with_background else 0.0
        return (
            Loss(
                data,
                model,
                parameters,
                variance,
                regularization_strength_scales=on * options.strength,
                regularization_strength_hf=on * options.strength_finest,
                regularization_strength_positivity=on * 100.0 * options.positive,
                prior=prior,
                W=weights,
            ),
            parameters,
        )

    return model, loss, start


def fit_with_starred(problem: Problem, state: State, weights: Array | None = None) -> RoiFit:
    """Translations and fluxes first, then everything, for the iterations given in the options; see `starred_loss`."""
    from starred.optim.optimization import Optimizer

    layout, options = problem.layout, problem.options
    # Its steps have a given size: fluxes must start near the truth, and linear least squares puts them there.
    only_flux = replace(layout, background=False, move_positions=False, translation_sigma=0.0)
    state = points_only(replace(problem, layout=only_flux), state).state
    model, loss, kwargs = starred_loss(problem, state, weights)
    positions = {name: kwargs["kwargs_analytic"][name] for name in ("c_x", "c_y")}
    background = {"h": kwargs["kwargs_background"]["h"]}
    keep = positions if not layout.move_positions else {}
    steps: list[tuple[dict, bool, int]] = [
        (
            {"kwargs_analytic": positions, "kwargs_background": background},
            False,
            options.max_first_iterations,
        ),
        (
            {"kwargs_analytic": keep, "kwargs_background": {} if layout.background else background},
            layout.background,
            options.max_iterations,
        ),
    ]
    history: list[float] = []
    for fixed, with_background, iterations in steps:
        function, parameters = loss(fixed, kwargs, with_background)
        if len(parameters.current_values(as_kwargs=False)) == 0:
            continue
        optimiser = Optimizer(function, parameters, method="adabelief")
        _, _, extra, _ = optimiser.minimize(
            max_iterations=iterations, init_learning_rate=options.learning_rate, progress_bar=False
        )
        history += [float(value) for value in extra["loss_history"]]
        kwargs = parameters.best_fit_values(as_kwargs=True)
    analytic = kwargs["kwargs_analytic"]
    count = problem.count
    fluxes = np.asarray(analytic["a"], dtype=float).reshape(count, layout.sources) * float(model.scale)
    shifts = np.stack([np.asarray(analytic[name], dtype=float) for name in ("dx", "dy")], axis=1)
    shifts = shifts - gauge(problem.epochs, layout.fine, layout.subsampling)
    h = np.asarray(kwargs["kwargs_background"]["h"], dtype=float).reshape(layout.fine, layout.fine)
    found = State(
        replace(
            state.scene,
            positions=np.stack([np.asarray(analytic[name], dtype=float) for name in ("c_x", "c_y")], axis=1),
            mean=np.zeros_like(h),
            structure=h,
        ),
        Local(fluxes, shifts, np.zeros(count)),
    )
    tail = history[-max(len(history) // 10, 1) :]
    settled = (tail[0] - tail[-1]) / max(abs(tail[-1]), 1e-300)
    status = f"{len(history)} iterations of STARRED's optimiser; the last tenth lowered the loss by {settled:.2g} of it"
    outcome = Outcome(found, history, bool(abs(settled) < 1e-4), status, last_move=np.nan)
    if layout.background:
        outcome = gather(problem, outcome)
    fit = finish(problem, outcome)
    seen = np.asarray(model.model(kwargs), dtype=float)
    used = problem.epochs.weight > 0
    residuals = np.where(used, (problem.epochs.data - seen) * np.sqrt(problem.epochs.weight), np.nan)
    chi2 = np.nansum(residuals**2, axis=(1, 2)) / np.maximum(used.sum(axis=(1, 2)), 1)
    return replace(fit, model=seen, residuals=residuals, chi2=chi2, loss=history[-1] if history else fit.loss)
