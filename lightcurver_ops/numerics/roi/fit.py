"""The joint model of the region of interest: point sources with a flux per epoch, and one common background."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcurver_ops.numerics.device import one_thread
from lightcurver_ops.numerics.psf.operators import blur_matrix
from lightcurver_ops.numerics.roi import galaxy
from lightcurver_ops.numerics.roi.epoch import Epochs, Layout, Local
from lightcurver_ops.numerics.roi.finish import finish
from lightcurver_ops.numerics.roi.iterate import solve, until_agreed
from lightcurver_ops.numerics.roi.judge import judged
from lightcurver_ops.numerics.roi.lights import of_image
from lightcurver_ops.numerics.roi.modes import Modes
from lightcurver_ops.numerics.roi.points import points_only
from lightcurver_ops.numerics.roi.render import narrow_psfs
from lightcurver_ops.numerics.roi.result import RoiFit, RoiOptions
from lightcurver_ops.numerics.roi.scene import Prior, Scene
from lightcurver_ops.numerics.roi.screen import screened
from lightcurver_ops.numerics.roi.state import Problem, State
from lightcurver_ops.numerics.roi.trust import Trust
from lightcurver_ops.numerics.roi.update import Memory, fit_and_remember

__all__ = ["RoiFit", "RoiOptions", "fit_roi"]

Array = NDArray[np.float64]

MANY = 1500  # patterns: with more, several threads are worth it even where others need the cores
WIDEST_PSF_RADIUS = 0.75  # expected effective radius of a galaxy in median PSF widths


def fit_roi(
    data: ArrayLike,
    noise: ArrayLike,
    good: ArrayLike,
    psf: ArrayLike,
    *,
    subsampling: int,
    positions: ArrayLike,
    translations: ArrayLike | None = None,
    translation_errors: ArrayLike | None = None,
    rotation: ArrayLike | None = None,
    fix_astrometry: bool | float = False,
    background: ArrayLike | None = None,
    background_scaled: bool = False,
    optimise_background: bool = True,
    narrow_psf: ArrayLike | None = None,
    psf_slope: ArrayLike | None = None,
    options: RoiOptions | None = None,
    solver: Literal["lcops", "starred"] = "lcops",
    keys: Sequence[str] | None = None,
    memory: Memory | None = None,
    remember: Callable[[Memory], None] | None = None,
) -> RoiFit:
    """Fit the pixels of all epochs: `bin_k(PSF_e * [T_e h + sum_j a_ej delta(R_e c_j + t_e)])`.

    Args:
        data: [E, n, n], flux per pixel.
        noise: [E, n, n] its standard deviation.
        good: [E, n, n], True for pixels to use; the others may hold anything.
        psf: [E, P, P] full PSF of each epoch on a grid `subsampling` times finer, centred on the geometric centre of
            its array, its sum the fraction of a star's flux inside it. The larger P, the better: light beyond it is
            missing from the model.
        subsampling: k.
        positions: [J, 2] (x, y) of the point sources, J = 0, 1, ..., from the stamp centre (n-1)/2, data pixels.
        translations: [E, 2] expected offset (dx, dy) of each epoch's scene in its stamp, data pixels; default 0.
        translation_errors: [E] standard deviations of these where the frames' stars tell them, data pixels; None: they
            are not known better than `options.translation_sigma`.
        rotation: [E] angle of the scene in each epoch about the stamp centre, radians, x towards y; default 0. Only
            the model turns, by any angle: the data are never resampled.
        fix_astrometry: True keeps the positions, a number is the sigma (data pixels) of a Gaussian prior around them.
        background: [N, N], N = n k, flux per small pixel: the background, or with `optimise_background` what it is
            expected to be.
        background_scaled: the background has the right shape, but its brightness, and its place within a fraction of a
            small pixel, are to be fitted; with `optimise_background`.
        optimise_background: False keeps the background (default none).
        narrow_psf: [E, P, P] narrow PSF (STARRED's: the full one is it convolved with a Gaussian of FWHM 2 small
            pixels). If given, it convolves the background, whose resolution then is that Gaussian; else the full PSF
            does, and the background has the resolution of the sky.
        psf_slope: [E, 2, P, P] what the full PSF changes by per data pixel along x and y: each point source then has
            the PSF of its own place. Not with solver "starred".
        options: settings.
        solver: "lcops", or "starred" for STARRED's own optimiser on STARRED's own loss, as a reference.
        keys: [E] what each epoch was made from, for an update from an earlier fit, see `update`; only with the solver
            "lcops" and a background that is optimised.
        memory: of that earlier fit; its normal matrix is changed.
        remember: called with the memory of this fit.

    Raises:
        ValueError: shapes do not agree, or a good pixel has no finite value or no positive noise.
    """
    if solver not in ("lcops", "starred"):
        raise ValueError(f'solver = {solver!r}: expected "lcops" or "starred"')
    problem, state = set_up(
        data,
        noise,
        good,
        psf,
        subsampling,
        positions,
        translations,
        rotation,
        fix_astrometry,
        background,
        optimise_background,
        narrow_psf,
        options or RoiOptions(),
        background_scaled=background_scaled,
        psf_slope=psf_slope,
        translation_errors=translation_errors,
        like_starred=solver == "starred",
    )
    if solver == "starred":
        from lightcurver_ops.numerics.roi.reference import fit_with_starred

        return fit_with_starred(problem, state)
    many = problem.modes is not None and len(problem.modes.seen) > MANY
    with nullcontext() if many else one_thread():
        return _fitted(problem, state, keys, memory, remember)


def _fitted(
    problem: Problem,
    state: State,
    keys: Sequence[str] | None,
    memory: Memory | None,
    remember: Callable[[Memory], None] | None,
) -> RoiFit:
    """The arguments as in `fit_roi`."""
    optimise_background = problem.layout.background
    if optimise_background and keys is not None:
        fit, kept = fit_and_remember(problem, state, keys, memory)
        if remember is not None:
            remember(kept)
        return fit
    if optimise_background:
        return finish(*solve(problem, state))
    if not problem.options.reject:
        return finish(problem, points_only(problem, state))
    problem = screened(problem)
    found = points_only(problem.of(problem.kept), state.of(problem.kept)).state
    problem, state = judged(problem, state.with_locals_of(found, problem.kept))
    return finish(*until_agreed(problem, state, points_only))


def set_up(
    data: ArrayLike,
    noise: ArrayLike,
    good: ArrayLike,
    psf: ArrayLike,
    subsampling: int,
    positions: ArrayLike,
    translations: ArrayLike | None,
    rotation: ArrayLike | None,
    fix_astrometry: bool | float,
    background: ArrayLike | None,
    optimise_background: bool,
    narrow_psf: ArrayLike | None,
    options: RoiOptions,
    *,
    background_scaled: bool = False,
    psf_slope: ArrayLike | None = None,
    translation_errors: ArrayLike | None = None,
    like_starred: bool,
) -> tuple[Problem, State]:
    """Check the arguments of `fit_roi` and put them in order.

    `like_starred`: STARRED knows one PSF an epoch, the narrow one, and no galaxy: its background has the Gaussian's
    resolution.
    """
    d, sigma, mask, full = (
        np.asarray(a, dtype=t) for a, t in zip((data, noise, good, psf), (float, float, bool, float))
    )
    c = np.asarray(positions, dtype=float).reshape(-1, 2)
    _check(d, sigma, mask, full, subsampling)
    count, size = d.shape[:2]
    fine = size * subsampling
    shifts = np.zeros((count, 2)) if translations is None else np.asarray(translations, dtype=float)
    angles = np.zeros(count) if rotation is None else np.asarray(rotation, dtype=float)
    start = np.zeros((fine, fine)) if background is None else np.asarray(background, dtype=float)
    for name, array, shape in (
        ("translations", shifts, (count, 2)),
        ("rotation", angles, (count,)),
        ("background", start, (fine, fine)),
    ):
        if array.shape != shape or not np.all(np.isfinite(array)):
            raise ValueError(f"{name} must be finite and of shape {shape}, got {array.shape}")
    if background_scaled and (background is None or not optimise_background or like_starred):
        raise ValueError("background_scaled needs a background that is optimised, by the solver lcops")
    if not isinstance(fix_astrometry, bool) and not fix_astrometry > 0:
        raise ValueError(
            f"fix_astrometry = {fix_astrometry}: expected True, False or a positive sigma in data pixels"
        )
    points_psf = narrow_psfs(full, None if like_starred else psf_slope, c, angles)
    background_psf = full if narrow_psf is None else np.asarray(narrow_psf, dtype=float)
    if like_starred:
        background_psf = points_psf
    weight = np.where(mask, 1.0 / np.where(mask, sigma, 1.0) ** 2, 0.0)
    errors = None if translation_errors is None else np.asarray(translation_errors, dtype=float)
    if errors is not None and (errors.shape != (count,) or not np.all(errors > 0)):
        raise ValueError(f"translation_errors must be positive and of shape {(count,)}, got {errors.shape}")
    wide = np.full(count, options.translation_sigma)
    epochs = Epochs(np.where(mask, d, 0.0), weight, points_psf, background_psf, angles, shifts, wide)
    width = _fwhm(np.median(full, axis=0))
    theta = galaxy.PRIOR_MEAN.copy()
    theta[3] = np.log(WIDEST_PSF_RADIUS * width)
    resolution = None if narrow_psf is None and not like_starred else blur_matrix
    problem = Problem(
        epochs=epochs,
        layout=Layout(
            size=size,
            subsampling=subsampling,
            sources=len(c),
            translation_sigma=options.translation_sigma,
            sky_sigma=0.0 if like_starred else options.sky_sigma,
            move_positions=fix_astrometry is not True and len(c) > 0,
            background=optimise_background,
        ),
        prior=Prior(c, 0.0 if isinstance(fix_astrometry, bool) else 1.0 / fix_astrometry**2, theta),
        options=options,
        margin=min(full.shape[1] // 2, fine // 2),
        resolution=resolution,
        with_galaxy=options.galaxy and not like_starred and background is None and optimise_background,
        pointing=errors,
        trust=Trust.full(weight),
        modes=Modes.of(background_psf, weight.mean(axis=(1, 2)), fine, subsampling)
        if optimise_background
        else None,
    )
    state = State(
        Scene(
            c,
            np.zeros_like(start) if background_scaled else start,
            None,
            np.zeros((fine, fine)),
            galaxy.Frame.of(fine, None if resolution is None else resolution(fine)),
            of_image(start) if background_scaled else None,
        ),
        Local(np.zeros((count, len(c))), shifts, np.zeros(count)),
    )
    return problem, state


def _fwhm(psf: Array) -> float:
    """Full width at half maximum in small pixels, from the area above half the maximum."""
    return 2.0 * np.sqrt(np.count_nonzero(psf > 0.5 * psf.max()) / np.pi)


def _check(data: Array, noise: Array, good: NDArray[np.bool_], psf: Array, subsampling: int) -> None:
    if data.ndim != 3 or data.shape[1] != data.shape[2] or not noise.shape == good.shape == data.shape:
        raise ValueError(
            f"data, noise and good must all be [E, n, n], got {data.shape}, {noise.shape} and {good.shape}"
        )
    if psf.ndim != 3 or psf.shape[0] != data.shape[0] or psf.shape[1] != psf.shape[2]:
        raise ValueError(f"psf must be [E, P, P] with E = {data.shape[0]}, got {psf.shape}")
    if subsampling < 1:
        raise ValueError(f"subsampling must be 1 or more, got {subsampling}")
    if not np.all(np.isfinite(psf)):
        raise ValueError("psf holds values that are not finite: leave out the epochs without a PSF")
    bad = good & ~(np.isfinite(data) & np.isfinite(noise) & (noise > 0))
    if np.any(bad):
        e, y, x = np.argwhere(bad)[0]
        raise ValueError(
            f"{np.count_nonzero(bad)} good pixels have no finite value or no positive noise, the first at "
            f"epoch {e}, y = {y}, x = {x}: data {data[e, y, x]}, noise {noise[e, y, x]}; mark them as bad"
        )
