"""PSFs of many frames from the stamps of their stars (stage 6)."""

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Literal

import jax
import numpy as np

from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.numerics.psf.batch import Batch
from lightcurver_ops.numerics.psf.prepare import prepare_stamps
from lightcurver_ops.numerics.psf.result import PsfFits
from lightcurver_ops.numerics.psf.wings import Wings

# On a CPU larger batches are not faster, and padding costs small nights more; a GPU wants many frames at once.
FRAMES_PER_BATCH = {"cpu": 4}
FRAMES_PER_BATCH_ELSEWHERE = 16


def fit_psfs(
    data: np.ndarray,
    noise: np.ndarray,
    good: np.ndarray,
    *,
    subsampling: int = 2,
    solver: str = "lcops",
    field_distortion: bool | Literal["auto"] = False,
    stamp_coordinates: np.ndarray | None = None,
    local_sky: bool = True,
    wings: Sequence[Wings] | None = None,
    n_iter_analytic: int = 60,
    n_iter_pixels: int = 1000,
    fwhm_guess: float | np.ndarray | None = None,
) -> PsfFits:
    """Fit one PSF per frame: a Moffat and a pixel grid sparse in starlets, STARRED's model (`operators`, `pixels`).

    Neighbours are masked, outlying pixels and stamps rejected from the residuals and the fit repeated. A frame that
    cannot be fitted says why in its status; the others are not affected.

    Args:
        data, noise: [F, S, n, n], in any one unit (the pipeline's: e-/s), sky subtracted. A frame with fewer stars
            is padded.
        good: [F, S, n, n] bool, False for bad pixels; all False for an absent star.
        subsampling: k, small pixels of the PSF per pixel.
        solver: "lcops", or "starred" for `starred.procedures.psf_routines.build_psf` on the same prepared stamps,
            without rejection from residuals.
        field_distortion: let the PSF vary over the field, see `variation`: never, in every frame, or ("auto") where
            the stars of a frame show that it does.
        stamp_coordinates: [F, S, 2], needed by field_distortion: x, y of the stars from the point where the PSF is
            wanted (the ROI), in units of about the size of the field.
        local_sky: fit a constant background to each star, near a level common to the frame: the frame's sky is never
            quite right, and wrong wings of the PSF would follow from it. "starred" fits none.
        wings: F, with the sky of each star, measured on the whole frames (`wings.measure_wings`). None: those of
            turbulence.
        n_iter_analytic, n_iter_pixels: limits; the fits end when they have converged. For "starred" the counts.
        fwhm_guess: [F] or a number, pixels; measured when None. It scales the penalty, as in STARRED.

    Returns:
        PsfFits.

    Raises:
        ConfigurationError: unknown solver, or field distortion without coordinates.
    """
    if solver not in ("lcops", "starred"):
        raise ConfigurationError(f"psf_solver is {solver!r}: expected 'lcops' or 'starred'.")
    if field_distortion and stamp_coordinates is None:
        raise ConfigurationError("field_distortion needs the coordinates of the stamps in the frame.")
    n_frames, n_stars = data.shape[:2]
    coordinates = (
        np.zeros((n_frames, n_stars, 2)) if stamp_coordinates is None else np.asarray(stamp_coordinates)
    )
    size = FRAMES_PER_BATCH.get(jax.default_backend(), FRAMES_PER_BATCH_ELSEWHERE)
    parts = []
    for start in range(0, n_frames, size):
        part = slice(start, start + size)
        guess = fwhm_guess if fwhm_guess is None or np.ndim(fwhm_guess) == 0 else np.asarray(fwhm_guess)[part]
        around = None if wings is None else list(wings[part])
        sky = np.zeros((len(data[part]), n_stars)) if around is None else _measured_sky(around, n_stars)
        prepared = prepare_stamps(data[part] - sky[..., None, None], noise[part], good[part], guess)
        batch = Batch(
            prepared,
            subsampling,
            coordinates[part],
            size,
            local_sky=local_sky and solver == "lcops",
            wings=around,
        )
        if solver == "lcops":
            batch.solve(n_iter_analytic, n_iter_pixels, field_distortion)
        else:
            from lightcurver_ops.numerics.psf.reference import solve_with_starred

            solve_with_starred(batch, n_iter_analytic, n_iter_pixels, distorted=field_distortion is True)
        fits = batch.result()
        parts.append(replace(fits, background=np.where(fits.used, fits.background + sky, 0.0)))
    return _joined(parts)


def _measured_sky(wings: list[Wings], n_stars: int) -> np.ndarray:
    """The sky around the stars [F, S], that of the frame where a star's own is not known."""
    sky = np.zeros((len(wings), n_stars))
    for frame, one in enumerate(wings):
        known = np.isfinite(one.sky)
        usual = float(np.median(one.sky[known])) if known.any() else 0.0
        sky[frame, : len(one.sky)] = np.where(known, one.sky, usual)
    return sky


def _joined(parts: list[PsfFits]) -> PsfFits:
    """One result of several; loss histories are padded with their last value to a common length."""
    length = max(part.loss_history.shape[1] for part in parts)
    joined: dict[str, np.ndarray | list] = {}
    for field in fields(PsfFits):
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], list):
            joined[field.name] = [one for value in values for one in value]
        elif field.name == "loss_history":
            padded = [np.pad(value, ((0, 0), (0, length - value.shape[1])), mode="edge") for value in values]
            joined["loss_history"] = np.concatenate(padded)
        else:
            joined[field.name] = np.concatenate(values)
    return PsfFits(**joined)  # type: ignore[arg-type]
