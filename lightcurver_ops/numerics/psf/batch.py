"""The fit of one batch of frames: Moffat, rejection, pixel grid, rejection, pixel grid, and the result."""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import jax
import numpy as np

from lightcurver_ops.numerics.device import padded_count
from lightcurver_ops.numerics.psf import outliers
from lightcurver_ops.numerics.psf.distortion import N_COEFFICIENTS, distort, field_terms, shape_offsets
from lightcurver_ops.numerics.psf.moffat import fit_moffat, moffat
from lightcurver_ops.numerics.psf.operators import GAUSSIAN_FWHM, blur_matrix
from lightcurver_ops.numerics.psf.pixels import DELTAS, fit_pixels, star_images
from lightcurver_ops.numerics.psf.prepare import Prepared, penalty_strength
from lightcurver_ops.numerics.psf.result import PsfFits
from lightcurver_ops.numerics.psf.shape import doubleness, elongation
from lightcurver_ops.numerics.psf.variation import (
    NO_VARIATION,
    StarShapes,
    fit_variation,
    moved_to_origin,
    star_shapes,
)
from lightcurver_ops.numerics.psf.wings import N_WING, Wings, expected_wings, joined_with_wings
from lightcurver_ops.numerics.starlet import scale_count

MIN_SNR = 3.0
GUESSED_BETA = 2.5
REJECTION_ROUNDS = 2
# Sigma of the Gaussian priors on backgrounds, in units of the noise of a pixel of the stamp: of a frame's level about
# zero, and of its stars about that. Were each star free, bright ones would hide errors of the PSF's wings in
# backgrounds in proportion to their flux.
SKY_LEVEL = 0.3
MEASURED_LEVEL = 0.03  # the same where the sky was measured around the stamps
SKY_SCATTER = 0.03
MODEL_ERROR = 0.2
"""Of the Moffat, where backgrounds are fitted beside it: else what it misses of the core sets its wings, and these the
backgrounds."""


@partial(jax.jit, static_argnames=("size", "subsampling"))
def _profiles(shape: jax.Array, size: int, subsampling: int) -> jax.Array:
    return jax.vmap(partial(moffat, size=size, subsampling=subsampling))(shape)


@partial(jax.jit, static_argnames=("subsampling", "distorted"))
def _images(
    narrow: jax.Array,
    star: jax.Array,
    distortion: jax.Array,
    coordinates: jax.Array,
    subsampling: int,
    distorted: bool,
) -> jax.Array:
    return star_images(distort(narrow, distortion, coordinates) if distorted else narrow, star, subsampling)


class Batch:
    """Stamps and the current fit of B frames of P stars (padded); the parameters are those of `PsfFits`.

    B is the same for every batch: the fit of a frame is then, to the last bit, the same whatever frames are fitted
    beside it, since the compiled code is the same and does not mix them. With another shape it rounds otherwise, and
    an iteration in single precision ends elsewhere within its tolerance.
    """

    def __init__(
        self,
        prepared: Prepared,
        subsampling: int,
        coordinates: np.ndarray,
        size: int,
        *,
        local_sky: bool,
        wings: Sequence[Wings | None] | None = None,
    ):
        self.n_frames, self.n_stars = prepared.used.shape
        self.size, self.subsampling = prepared.data.shape[-1], subsampling
        self.n_pad = (
            size - self.n_frames,
            padded_count(self.n_stars) - self.n_stars,
        )
        self.present = self._padded(np.asarray(prepared.good.any(axis=(2, 3))))
        self.data = self._padded(prepared.data)
        self.noise = self._padded(prepared.noise, fill=1.0)
        self.good = self._padded(prepared.good)
        self.used = self._padded(prepared.used)
        self.flux = self._padded(prepared.flux)
        self.coordinates = self._padded(coordinates)
        self.normalisation = np.pad(prepared.normalisation, (0, self.n_pad[0]), constant_values=1.0)
        self.fwhm = np.pad(prepared.fwhm, (0, self.n_pad[0]), constant_values=3.0)
        frames, fine = len(self.used), self.size * subsampling
        zero = np.zeros(self.used.shape)
        self.star = np.stack(
            [zero, np.nan_to_num(self._padded(prepared.x)), np.nan_to_num(self._padded(prepared.y))], axis=-1
        )
        self.shape = np.tile([0.0, 0.0, 0.0, np.log(GUESSED_BETA)], (frames, 1))
        self.height = np.ones(frames)
        self.grid = np.zeros((frames, fine, fine))
        self.distortion = np.zeros((frames, N_COEFFICIENTS))
        self.variation = [NO_VARIATION] * frames
        known = [None] * self.n_frames if wings is None else wings
        self.wings = [*known, *[None] * self.n_pad[0]]
        self.background = np.zeros(self.used.shape)
        self.sky = np.zeros(frames)
        self.sky_prior = self._sky_prior() if local_sky else None
        self.history = np.zeros((frames, 1))
        self.loss = np.full(frames, np.nan)
        self.converged = np.zeros(frames, dtype=bool)
        self.n_iter = np.zeros(frames, dtype=int)

    def _padded(self, array: np.ndarray, fill: float = 0.0) -> np.ndarray:
        widths = [(0, self.n_pad[0]), (0, self.n_pad[1])] + [(0, 0)] * (array.ndim - 2)
        return np.pad(array, widths, constant_values=fill)

    def _sky_prior(self) -> tuple[np.ndarray, np.ndarray]:
        """1/sigma^2 of the backgrounds about their level [F, S], and of the level [F]."""
        stamps = np.ma.median(np.ma.array(self.noise, mask=~self.good), axis=(2, 3))
        frames = np.ma.median(np.ma.array(stamps, mask=np.ma.getmaskarray(stamps) | ~self.used), axis=1)
        level = np.array([SKY_LEVEL if one is None else MEASURED_LEVEL for one in self.wings])
        of_star, of_frame = (SKY_SCATTER * stamps) ** -2.0, (level * frames) ** -2.0
        return np.ma.filled(of_star, 1.0), np.ma.filled(of_frame, 1.0)

    @property
    def varying(self) -> np.ndarray:
        """Frames [F] whose PSF varies over the field."""
        return np.asarray(self.distortion.any(axis=1))

    def weight(self) -> np.ndarray:
        return np.where(self.good & self.used[..., None, None], 1.0 / self.noise**2, 0.0)

    def analytic(self) -> np.ndarray:
        profile = np.asarray(_profiles(self.shape, self.size, self.subsampling))
        return self.height[:, None, None] * profile

    def light(self) -> np.ndarray:
        """The data without the stars' backgrounds."""
        return self.data - self.background[..., None, None]

    def model(self, narrow: np.ndarray | None = None) -> np.ndarray:
        """The stars, without their backgrounds; `narrow` [F, N, N]: seen with this PSF instead of the fitted one."""
        narrow = self.analytic() + self.grid if narrow is None else narrow
        given = narrow, self.star, self.distortion, self.coordinates, self.subsampling
        images = np.asarray(_images(*given, False))
        if not self.varying.any():
            return images
        # A frame of constant PSF comes out the same, to the last bit, whatever those beside it do.
        return np.where(self.varying[:, None, None, None], np.asarray(_images(*given, True)), images)

    def solve(self, n_iter_analytic: int, n_iter_pixels: int, variation: bool | Literal["auto"]) -> None:
        """Fit everything; the state then is that of the last round.

        `variation`: of the PSF over the field: none, always, or where the stars of a frame show it.
        """
        self._solve_constant(n_iter_analytic, n_iter_pixels)
        if variation:
            self._solve_varying(n_iter_analytic, n_iter_pixels, always=variation is True)

    def _solve_varying(self, n_iter_analytic: int, n_iter_pixels: int, *, always: bool) -> None:
        """Find how the PSF varies, frame by frame, and fit those again in which it does."""
        narrow = self.analytic() + self.grid
        for frame in range(self.n_frames):
            shapes = self._shapes(frame, narrow[frame])
            self.variation[frame] = fit_variation(shapes, self.coordinates[frame], always=always)
            self.distortion[frame] = self.variation[frame].coefficients()
        changed = self.varying
        if not changed.any():
            return
        for frame in map(int, np.flatnonzero(changed)):
            size, along, diagonal = self.variation[frame].constant
            self.shape[frame, :3] += 2 * size, 2 * along, 2 * diagonal
        self._restart(n_iter_analytic, changed)
        first, second = np.zeros(len(changed), dtype=int), np.ones(len(changed), dtype=int)
        self._solve_pixels(n_iter_pixels, changed, first)
        # What the common PSF took of its stars' differences is in it no more: once again.
        narrow = self.analytic() + self.grid
        for frame in map(int, np.flatnonzero(changed)):
            shapes = self._shapes(frame, narrow[frame])
            self.variation[frame] = fit_variation(shapes, self.coordinates[frame], always=True)
            self.distortion[frame] = self.variation[frame].coefficients()
            self.grid[frame] = moved_to_origin(narrow[frame], self.variation[frame]) - self.analytic()[frame]
        self._reject_pixels(outliers.GRID_ERROR)
        self._solve_pixels(n_iter_pixels, changed, second)

    def _shapes(self, frame: int, narrow: np.ndarray) -> StarShapes:
        """Of a frame's stars: what they are beside the narrow PSF [N, N], the distortion found so far included."""
        seen = np.broadcast_to(narrow, (len(self.used[frame]), *narrow.shape))
        if self.distortion[frame].any():
            seen = distort(narrow[None], self.distortion[frame][None], self.coordinates[frame][None])[0]
        shapes = star_shapes(
            self.light()[frame],
            self.noise[frame],
            self.good[frame],
            np.asarray(seen),
            self.star[frame],
            self.used[frame],
            self.subsampling,
        )
        terms = np.asarray(field_terms(self.coordinates[frame]))
        known = self.variation[frame].terms @ terms.T if self.distortion[frame].any() else 0.0
        return StarShapes(shapes.value + np.transpose(known), shapes.variance)

    def _solve_constant(self, n_iter_analytic: int, n_iter_pixels: int) -> None:
        self._start()
        self._solve_moffat(n_iter_analytic)
        self._reject_faint()
        if self._reject_pixels(outliers.MOFFAT_ERROR).any():
            self._solve_moffat(n_iter_analytic)
        everything = np.asarray(self.used.any(axis=1))
        if self.sky_prior is not None:
            self._solve_moffat(n_iter_analytic, everything, model_error=MODEL_ERROR)
        self._set_height(everything)
        # A coarse fit is enough to recognise outliers, and a good start for the full one.
        first, second = np.zeros(len(everything), dtype=int), np.ones(len(everything), dtype=int)
        self._solve_pixels(n_iter_pixels, everything, first, last_stage=0, tolerance=1e-4)
        poorer = self._reject_stamps()
        if poorer.any():
            self._restart(n_iter_analytic, poorer)
            self._solve_pixels(n_iter_pixels, poorer, first, last_stage=0, tolerance=1e-4)
        changed = poorer | self._reject_pixels(outliers.GRID_ERROR)
        self._solve_pixels(n_iter_pixels, everything, np.where(changed, first, second))
        for _ in range(REJECTION_ROUNDS):
            changed = self._reject_stamps() | self._reject_pixels(outliers.GRID_ERROR)
            if not changed.any():
                break
            self._solve_pixels(n_iter_pixels, changed, second)

    def _restart(self, n_iter: int, frames: np.ndarray) -> None:
        """The Moffat of frames [F] (bool) again, without the stamps that they lost since."""
        self.star[frames, :, 0] *= self.height[frames, None]
        self.height[frames], self.grid[frames] = 1.0, 0.0
        self._solve_moffat(n_iter, frames)
        if self.sky_prior is not None:
            self._solve_moffat(n_iter, frames, model_error=MODEL_ERROR)
        self._set_height(frames)

    def _start(self) -> None:
        narrow = np.sqrt(np.maximum(self.fwhm**2 - (GAUSSIAN_FWHM / self.subsampling) ** 2, 0.36))
        self.shape[:, 0] = 2 * np.log(narrow)
        self.star[..., 0] = 1.0
        light = np.where(self.good, self.model(), 0.0).sum(axis=(2, 3))
        least = np.maximum(1e-3 * light.max(axis=1, keepdims=True), 1e-30)
        self.star[..., 0] = np.maximum(self.flux, 0.0) / np.maximum(light, least)

    def _solve_moffat(self, n_iter: int, frames: np.ndarray | None = None, model_error: float = 0.0) -> None:
        """Fit the Moffat of frames [F] (bool), to pixels with a relative error of the model added to their noise."""
        weight = self.weight()
        if frames is not None:
            weight = weight * frames[:, None, None, None]  # without weight a frame keeps its start
        if model_error > 0:
            weight = weight / (1.0 + weight * (model_error * self.model()) ** 2)
        fit = fit_moffat(
            self.data,
            weight,
            self.shape,
            np.concatenate([self.star, self.background[..., None]], axis=-1),
            offsets=shape_offsets(self.distortion, self.coordinates) if self.varying.any() else None,
            sky=self.sky,
            sky_prior=self.sky_prior,
            subsampling=self.subsampling,
            max_iter=n_iter,
        )
        self.shape, self.star = np.array(fit.shape), np.array(fit.star[..., :3])
        self.background, self.sky = np.array(fit.star[..., 3]), np.array(fit.sky)

    def _set_height(self, frames: np.ndarray) -> None:
        """The height of the Moffat of the frames [F] (bool), and with it the scale of the grid, by STARRED's rule.

        The Moffat of the guessed FWHM and beta = 2 has the mean flux of the stars: this scales the penalty.
        """
        guess = np.stack(
            [2 * np.log(self.fwhm), *np.zeros((2, len(self.fwhm))), np.full(len(self.fwhm), np.log(2.0))],
            axis=1,
        )
        guessed = (
            np.asarray(_profiles(guess, self.size, self.subsampling)).sum(axis=(1, 2)) / self.subsampling**2
        )
        light = np.where(self.good & self.used[..., None, None], self.light(), 0.0).sum(axis=(1, 2, 3))
        height = light / np.maximum(self.used.sum(axis=1), 1) / guessed
        self.height[frames] = np.where(height > 0, height, 1.0)[frames]
        self.star[frames, :, 0] /= self.height[frames, None]

    def _solve_pixels(
        self,
        n_iter: int,
        frames: np.ndarray,
        first_stage: np.ndarray,
        last_stage: int = len(DELTAS) - 1,
        tolerance: float = 1e-5,
    ) -> None:
        """Fit the grids of the frames [F] (bool), from a stage each; the others stay as they are."""
        fine = self.size * self.subsampling
        strength = np.zeros((len(self.used), scale_count(fine), fine, fine), dtype=np.float32)
        for frame in np.flatnonzero(frames):
            strength[frame] = penalty_strength(
                self.noise[frame],
                self.good[frame],
                self.used[frame],
                self.star[frame, :, 1],
                self.star[frame, :, 2],
                self.subsampling,
            )
        inputs = (
            self.data,
            self.weight(),
            self.analytic(),
            strength,
            self.grid,
            self.star,
            self.distortion,
            self.coordinates,
        )
        fit = fit_pixels(
            *(array.astype(np.float32) for array in inputs),
            None if self.sky_prior is None else tuple(part.astype(np.float32) for part in self.sky_prior),
            wanted=frames,
            stages=(first_stage, last_stage),
            subsampling=self.subsampling,
            max_iter=n_iter,
            tolerance=tolerance,
            distorted=bool(self.varying.any()),
        )
        star = np.stack([fit.amplitude, fit.x, fit.y], axis=-1)
        if self.history.shape[1] != n_iter:
            self.history = np.zeros((len(self.used), n_iter))
        self.grid[frames] = np.asarray(fit.grid)[frames]
        self.star[frames] = star[frames]
        self.background[frames] = np.asarray(fit.background)[frames]
        self.history[frames], self.loss[frames] = (
            np.asarray(fit.history)[frames],
            np.asarray(fit.loss)[frames],
        )
        self.converged[frames], self.n_iter[frames] = (
            np.asarray(fit.converged)[frames],
            np.asarray(fit.n_iter)[frames],
        )

    def _reject_faint(self) -> None:
        model = self.model()
        snr = np.sqrt((self.weight() * model**2).sum(axis=(2, 3)))
        self.used &= (self.star[..., 0] > 0) & (snr > MIN_SNR)

    def _reject_pixels(self, model_error: float) -> np.ndarray:
        """Mask outlying pixels; True for frames [F] that lost one."""
        good = self.good & self.used[..., None, None]
        rejected = outliers.outlying_pixels(self.light(), self.model(), self.noise, good, model_error)
        self.good &= ~rejected
        return np.asarray(rejected.any(axis=(1, 2, 3)))

    def _reject_stamps(self) -> np.ndarray:
        """Drop outlying stamps; True for frames [F] that lost one."""
        rejected = outliers.outlying_stamps(self.light(), self.model(), self.noise, self.good, self.used)
        self.used &= ~rejected
        return np.asarray(rejected.any(axis=1))

    def result(self) -> PsfFits:
        """The state as `PsfFits`, without the padding."""
        narrow = self.analytic() + self.grid
        outside, wing = np.zeros(len(narrow)), np.zeros((len(narrow), N_WING))
        fwhm = np.sqrt(np.exp(self.shape[:, 0]) + (GAUSSIAN_FWHM / self.subsampling) ** 2)
        for frame, wings in enumerate(self.wings):
            around = expected_wings(float(fwhm[frame])) if wings is None else wings
            narrow[frame], outside[frame], wing[frame] = joined_with_wings(
                narrow[frame], around, self.subsampling
            )
        total = narrow.sum(axis=(1, 2)) + outside
        residuals = np.where(
            self.good & self.used[..., None, None], (self.light() - self.model(narrow)) / self.noise, 0.0
        )
        count = self.good.sum(axis=(2, 3))
        chi2_stars = np.where(self.used, (residuals**2).sum(axis=(2, 3)) / np.maximum(count, 1), np.nan)
        chi2 = (residuals**2).sum(axis=(1, 2, 3)) / np.maximum((count * self.used).sum(axis=1), 1)
        fine = np.isfinite(narrow).all(axis=(1, 2)) & np.isfinite(total) & (total > 0)
        fitted = self.used.any(axis=1) & fine & np.isfinite(chi2)
        with np.errstate(divide="ignore", invalid="ignore"):
            narrow = np.where(fitted[:, None, None], narrow / total[:, None, None], np.nan)
        blur = blur_matrix(narrow.shape[-1])
        full = blur @ narrow @ blur.T
        axis_ratio, double = np.full(len(full), np.nan), np.full(len(full), np.nan)
        if fitted.any():
            axis_ratio[fitted] = elongation(full[fitted])
            double[fitted] = [doubleness(image) for image in full[fitted]]
        taken = self.used & fitted[:, None]
        flux = self.star[..., 0] * (self.normalisation * total / self.subsampling**2)[:, None]
        ellipse = np.hypot(self.shape[:, 1], self.shape[:, 2])
        axes = np.exp((self.shape[:, :1] + np.stack([ellipse, -ellipse], axis=1)) / 2)
        angle = np.arctan2(self.shape[:, 2], self.shape[:, 1]) / 2
        parameters = np.column_stack(
            [axes, angle, np.exp(self.shape[:, 3]), self.height, self.grid.sum(axis=(1, 2)) / total]
        )
        before = np.take_along_axis(self.history, np.maximum(self.n_iter * 9 // 10 - 1, 0)[:, None], axis=1)[
            :, 0
        ]
        lost = ~fitted
        result = {
            "narrow_psf": narrow,
            "full_psf": full,
            "enclosed_fraction": full.sum(axis=(1, 2)),
            "amplitude": np.where(taken, flux, 0.0)[:, : self.n_stars],
            "background": np.where(taken, self.background * self.normalisation[:, None], 0.0)[
                :, : self.n_stars
            ],
            "x": np.where(taken, self.star[..., 1], np.nan)[:, : self.n_stars],
            "y": np.where(taken, self.star[..., 2], np.nan)[:, : self.n_stars],
            "chi2": np.where(lost, np.nan, chi2),
            "chi2_stars": np.where(taken, chi2_stars, np.nan)[:, : self.n_stars],
            "used": taken[:, : self.n_stars],
            "good": self.good[:, : self.n_stars],
            "residuals": np.nan_to_num(residuals)[:, : self.n_stars],
            "fwhm_moffat_pixels": np.where(lost, np.nan, fwhm),
            "moffat": np.where(lost[:, None], np.nan, parameters),
            "ellipticity": 1.0 - 1.0 / axis_ratio,
            "elongation": axis_ratio,
            "doubleness": double,
            "relative_loss_differential": np.where(lost, np.nan, (before - self.loss) / np.abs(self.loss)),
            "loss": np.where(lost, np.nan, self.loss),
            "loss_history": self.history,
            "converged": self.converged & fitted,
            "n_iter": self.n_iter,
            "status": [self._status(frame, bool(fitted[frame])) for frame in range(self.n_frames)],
            "distortion": self.distortion,
            "variation": self.variation,
            "wing": np.where(fitted[:, None], wing, 0.0),
            "grid": self.grid,
            "normalisation": self.normalisation,
        }
        return PsfFits(**{name: value[: self.n_frames] for name, value in result.items()})

    def _status(self, frame: int, fitted: bool) -> str:
        if fitted:
            if self.converged[frame]:
                return "ok"
            return f"not converged: the objective still fell after {self.n_iter[frame]} iterations"
        if self.used[frame].any():
            return "failed: the fit did not stay finite"
        present = int(self.present[frame].sum())
        if present == 0:
            return "no usable star: the frame has no stamp with a good pixel"
        return f"no usable star: all {present} are masked by more than 40 %, or too faint to see"
