"""STARRED's own PSF fit behind our interface: the reference that ours is held against.

Michalewicz et al. 2023, JOSS 8, 5340; Millon et al. 2024, AJ 168, 55. Neighbours are masked, but nothing is rejected
from the residuals.
"""

import contextlib
import io
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from lightcurver_ops.numerics.psf.moffat import moffat

if TYPE_CHECKING:
    from lightcurver_ops.numerics.psf.batch import Batch
    from lightcurver_ops.numerics.psf.result import PsfFits


def solve_with_starred(batch: "Batch", n_iter_analytic: int, n_iter_pixels: int, *, distorted: bool) -> None:
    """Fit each frame of the batch by `build_psf`, and write its parameters into the batch."""
    histories = []
    for frame in range(len(batch.used)):
        stars = np.flatnonzero(batch.used[frame])
        if not len(stars):
            histories.append(np.zeros(1))
            continue
        fit = run_build_psf(
            batch.data[frame, stars],
            batch.noise[frame, stars],
            batch.good[frame, stars],
            batch.subsampling,
            n_iter_analytic=n_iter_analytic,
            n_iter_adabelief=n_iter_pixels,
            guess_fwhm_pixels=float(batch.fwhm[frame]),
            field_distortion=distorted,
            stamp_coordinates=batch.coordinates[frame, stars] if distorted else None,
        )
        scale = np.percentile(batch.data[frame, stars], 99.0)  # build_psf normalises by this
        kwargs = {group: {key: np.asarray(value, dtype=float) for key, value in values.items()}
                  for group, values in fit["kwargs_psf"].items()}  # fmt: skip
        profile, gaussian = kwargs["kwargs_moffat"], kwargs["kwargs_gaussian"]
        fwhm_x, fwhm_y, phi, beta, height = (
            float(profile[key].ravel()[0]) for key in ("fwhm_x", "fwhm_y", "phi", "beta", "C")
        )
        stretch = np.log(fwhm_x / fwhm_y)
        batch.shape[frame] = (
            np.log(fwhm_x * fwhm_y),
            stretch * np.cos(2 * phi),
            stretch * np.sin(2 * phi),
            np.log(beta),
        )
        batch.height[frame] = height * scale
        batch.grid[frame] = kwargs["kwargs_background"]["background"].reshape(batch.grid[frame].shape) * scale
        batch.star[frame, stars] = np.stack([gaussian["a"] / height, gaussian["x0"], gaussian["y0"]], axis=-1)
        # Linear terms alone; STARRED's matrix acts on (y, x).
        field = kwargs["kwargs_distortion"]
        linear = [field[key].ravel() for key in ("dilation_y", "dilation_x", "shear")]
        batch.distortion[frame].reshape(3, 5)[:, :2] = linear
        histories.append(np.asarray(fit["adabelief_extra_fields"]["loss_history"], dtype=float))
        batch.loss[frame] = histories[-1][-1]
        batch.n_iter[frame] = len(histories[-1])
        # A fixed count of iterations: judged like ours, by the decrease over the last tenth.
        tail = histories[-1][max(0, len(histories[-1]) * 9 // 10 - 1)]
        batch.converged[frame] = abs(tail - batch.loss[frame]) < 1e-3 * abs(batch.loss[frame])
    length = max(len(history) for history in histories)
    batch.history = np.stack(
        [np.pad(history, (0, length - len(history)), mode="edge") for history in histories]
    )


def run_build_psf(
    data: np.ndarray, noise: np.ndarray, good: np.ndarray, subsampling: int, **options: Any
) -> dict:
    """`build_psf` on the stamps [S, n, n] of one frame, without its progress bars; returns its dictionary."""
    from starred.procedures.psf_routines import build_psf

    # float32 is STARRED's own precision, and what it is quick and stable in.
    with contextlib.redirect_stderr(io.StringIO()), jax.enable_x64(False):
        return build_psf(data.copy(), noise.copy(), subsampling, masks=good.copy(), **options)


def starred_loss(
    data: np.ndarray, noise: np.ndarray, good: np.ndarray, fits: "PsfFits", frame: int, subsampling: int
) -> float:
    """STARRED's own loss, with its own Monte-Carlo weights, of a fit without distortion: what `build_psf` minimises.

    Backgrounds that the fit found are subtracted from the data first.

    Args:
        data, noise, good: [S, n, n], the stamps of the frame's used stars, and the pixels that took part.
        fits, frame: the fit of whichever solver.
        subsampling: k.
    """
    from starred.psf.loss import Loss
    from starred.psf.parameters import ParametersPSF
    from starred.psf.psf import PSF
    from starred.utils.noise_utils import propagate_noise

    stars, size = fits.used[frame], data.shape[-1]
    data = data - fits.background[frame, stars, None, None]
    data, noise = (np.where(good, array, 1.0) / fits.normalisation[frame] for array in (data, noise))
    major, minor, angle, beta, height, _ = fits.moffat[frame]
    stretch = np.log(major / minor)
    shape = np.array(
        [np.log(major * minor), stretch * np.cos(2 * angle), stretch * np.sin(2 * angle), np.log(beta)]
    )
    raw = height * np.asarray(moffat(shape, size, subsampling)) + fits.grid[frame]
    peak = np.unravel_index(np.argmax(raw), raw.shape)
    total = raw[peak] / fits.narrow_psf[frame][peak]
    amplitude = fits.amplitude[frame, stars] * subsampling**2 / (fits.normalisation[frame] * total)
    kwargs = {
        "kwargs_moffat": {"fwhm_x": major, "fwhm_y": minor, "phi": angle, "beta": beta, "C": height},
        "kwargs_gaussian": {"a": amplitude * height, "x0": fits.x[frame, stars], "y0": fits.y[frame, stars]},
        "kwargs_background": {"background": fits.grid[frame].ravel(), "mean": np.zeros(len(data))},
        "kwargs_distortion": {key: np.zeros(2) for key in ("dilation_x", "dilation_y", "shear")},
    }
    kwargs = {
        group: {key: np.atleast_1d(value) for key, value in values.items()}
        for group, values in kwargs.items()
    }
    with jax.enable_x64(False):
        model = PSF(size, len(data), subsampling, convolution_method="fft", elliptical_moffat=True)
        weights = propagate_noise(
            model=model,
            noise_maps=np.median(noise, axis=0)[None],
            kwargs=kwargs,
            masks=good.min(axis=0)[None],
            wavelet_type_list=["starlet"],
            method="MC",
            num_samples=100,
            seed=1,
            likelihood_type="chi2",
            upsampling_factor=subsampling,
        )[0]
        parameters = ParametersPSF(kwargs, {group: {} for group in kwargs})
        loss = Loss(
            data,
            model,
            parameters,
            noise**2,
            len(data),
            regularization_terms="l1_starlet",
            regularization_strength_scales=1.0,
            regularization_strength_hf=1.0,
            regularize_full_psf=False,
            W=weights,
            masks=good,
        )
        return float(loss(parameters.kwargs2args(kwargs)))
