"""Artificial variations of point sources in the pixels, and what a fit makes of them.

Two experiments. *Varied images*: light is added to the images of the lens, or taken away, and the fits with and
without it are compared. Both see the same noise, so their difference shows millimagnitudes of bias and of leakage, but
says little about the error bars. *New sources*: point sources of the brightness of the images are put where the stamp
is empty and fitted with the images. They have noise of their own, photon by photon, so that residual over error is that
of a light curve against the truth: their error has both what scatters and what all epochs share.

Neither tests the PSF or the normalization: light is added with the PSF that the fit uses, and the coefficients are
taken as true.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.constants import MAD_TO_SIGMA, POGSON
from lightcurver_ops.numerics.roi.render import point_images, rotate

Array = NDArray[np.float64]
Kind = Literal["noise", "sine", "step"]

SMALLEST_ERROR = 1e-4  # mag: no slope rests on one epoch alone
SEEN = 3.0  # sigma: below, a flux is no measure of an image's brightness
_RADII = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0)  # of a new source, in distances of its image from the centre
_TURNS = (
    180,
    150,
    210,
    120,
    240,
    90,
    270,
    60,
    300,
    30,
    330,
)  # degrees from its image; the mirror position first


def draw_variations(
    rng: np.random.Generator, mjd: Array, count: int, kind: Kind, amplitude: float, period: float
) -> Array:
    """Variations of point sources, each drawn for itself.

    Args:
        rng: where the random numbers come from.
        mjd: [E] days.
        count: J.
        kind: "noise", Gaussian with a standard deviation of `amplitude`, independent from epoch to epoch; "sine",
            `amplitude sin(2 pi (mjd - mjd_0) / period + phase)`, any phase; "step", a jump by `amplitude` up or down
            at the time of one of the epochs after the first.
        amplitude: mag.
        period: days, of a sine.

    Returns:
        [E, J] mag, positive: fainter.
    """
    days = np.asarray(mjd, dtype=np.float64)[:, None]
    if kind == "noise":
        return rng.normal(0.0, amplitude, (len(days), count))
    if kind == "sine":
        phase = rng.uniform(0.0, 2 * np.pi, count)
        return amplitude * np.sin(2 * np.pi * (days - days.min()) / period + phase)
    later = np.unique(days)[1:]
    if not len(later):
        return np.zeros((len(days), count))
    return amplitude * rng.choice([-1.0, 1.0], count) * (days >= rng.choice(later, count))


def factors(variation: Array) -> Array:
    """What fluxes are multiplied by for a variation in mag."""
    return 10.0 ** (-0.4 * np.asarray(variation))


def images_of_sources(
    narrow: Array, positions: Array, translations: Array, rotation: Array, size: int, subsampling: int
) -> tuple[Array, Array]:
    """Point sources of unit flux as the epochs see them.

    Args:
        narrow: [E, P, P] narrow PSFs, or one of each source [E, J, P, P].
        positions: [J, 2] (x, y) from the stamp centre, common to all epochs, data pixels.
        translations: [E, 2] (dx, dy) of each epoch, data pixels.
        rotation: [E] of the scene, radians, x towards y.
        size, subsampling: n and k.

    Returns:
        Images [E, J, n, n], and their derivatives with respect to x and y [E, J, 2, n, n].
    """
    seen = [
        point_images(psf, rotate(positions, float(angle)) + shift, size, subsampling)
        for psf, shift, angle in zip(narrow, translations, rotation, strict=True)
    ]
    return np.stack([one[0] for one in seen]), np.stack([np.stack(one[1:], axis=1) for one in seen])


def inject(
    data: Array,
    noise: Array,
    images: Array,
    change: Array,
    electrons: Array,
    rng: np.random.Generator | None,
) -> tuple[Array, Array]:
    """Add light to point sources, or take it away.

    Added light comes with its photon noise: electrons are drawn from the Poisson distribution. The noise map grows as
    that of a frame with these electrons would (`numerics.noise.noise_map` takes the photon noise from the measured
    counts). Where light is taken away, its expected value is: the noise of the photons that were there stays in
    the data, and so it does in the noise map. A faded image is therefore noisier than one that was faint.

    Args:
        data, noise: [E, n, n], one unit of flux; noise of bad pixels may be anything.
        images: [E, J, n, n] sources of unit flux.
        change: [E, J] flux to be added, negative to be taken away; same unit.
        electrons: [E] electrons per unit of data: exposure time times normalization coefficient.
        rng: None for no photon noise: expected values are added, the noise map stays.

    Returns:
        Data and noise, [E, n, n].
    """
    light = change[:, :, None, None] * images
    if rng is None:
        return data + light.sum(axis=1), noise.copy()
    per_unit = electrons[:, None, None]
    drawn = rng.poisson(np.maximum(light, 0.0).sum(axis=1) * per_unit)
    taken = np.minimum(light, 0.0).sum(axis=1)
    return data + drawn / per_unit + taken, np.sqrt(noise**2 + drawn / per_unit**2)


@dataclass(frozen=True)
class Places:
    """Empty places for new sources.

    Attributes:
        positions: [J, 2] (x, y) from the stamp centre, data pixels; NaN where none is free.
        radius: [J] distance from the centre, in distances of the image from it (1 at the mirror position).
        turn: [J] degrees from the image, x towards y (180 at the mirror position).
    """

    positions: Array
    radius: Array
    turn: Array


def empty_places(positions: Array, chosen: NDArray[np.int64], fwhm: float, size: int) -> Places:
    """Places for new sources, as like those of their images as can be: mirrored about the centre, where that is free.

    Else at the same distance from the centre in another direction, else farther out: the galaxy's light is
    then less. No two sources come closer than one FWHM, or than the closest two images do if these are closer; and
    none closer than one FWHM to the border.

    Args:
        positions: [J, 2] (x, y) of all images from the centre of the ROI, data pixels.
        chosen: [K] images whose twins are wanted.
        fwhm: of the PSF, data pixels.
        size: side of the stamp, data pixels.
    """
    between = np.hypot(*(positions[:, None] - positions[None]).transpose(2, 0, 1))
    pairs = between[np.triu_indices(len(positions), 1)]
    apart = min(fwhm, float(pairs.min(initial=np.inf)))
    taken = [*positions]
    found, radii, turns = [], [], []
    for j in chosen:
        x, y = positions[j]
        distance = max(float(np.hypot(x, y)), apart / 2)
        place, radius, turn = np.full(2, np.nan), np.nan, np.nan
        for ring, degrees in ((ring, degrees) for ring in _RADII for degrees in _TURNS):
            angle = np.arctan2(y, x) + np.radians(degrees)
            trial = ring * distance * np.array([np.cos(angle), np.sin(angle)])
            free = min(float(np.hypot(*(trial - other))) for other in taken) >= 0.999 * apart
            if free and np.abs(trial).max() <= size / 2 - fwhm:
                place, radius, turn = trial, ring, float(degrees)
                taken.append(place)
                break
        found.append(place)
        radii.append(radius)
        turns.append(turn)
    return Places(np.reshape(found, (-1, 2)), np.array(radii), np.array(turns))


def difference_error(
    before: tuple[Array, Array], after: tuple[Array, Array], good: NDArray[np.bool_], shift_sigma: Array
) -> Array:
    """Expected error of the difference of the fluxes of two fits that share their noise.

    The fluxes of an epoch are `W d`, with `W` from the normal equations of fluxes and translation. What the data have
    in common cancels but for the change of the weights, `Var = (W1 - W0) V0 (W1 - W0)^T + W1 (V1 - V0) W1^T`, where
    the variance of the pixels grew from V0 to V1 by the photons added. The background and the positions are taken as
    equal in both fits.

    Args:
        before, after: of each fit the columns [E, Q, n, n] (derivative of the model by the J fluxes, those that the
            fits share first, and by the two translations at the end) and the noise [E, n, n].
        good: [E, n, n].
        shift_sigma: [E] of the priors of the translations, data pixels.

    Returns:
        [E, S], S the number of fluxes of the fit before.
    """
    shared = before[0].shape[1] - 2
    error = np.full((len(good), shared), np.nan)
    for e, mask in enumerate(good):
        try:
            w0, w1 = (
                _estimator(columns[e][:, mask], noise[e][mask], shift_sigma[e])[:shared]
                for columns, noise in (before, after)
            )
        except np.linalg.LinAlgError:  # no pixel, or one that sees nothing
            continue
        v0, v1 = before[1][e][mask] ** 2, after[1][e][mask] ** 2
        error[e] = np.sqrt((w1 - w0) ** 2 @ v0 + w1**2 @ (v1 - v0))
    return error


def _estimator(columns: Array, noise: Array, shift_sigma: float) -> Array:
    """The matrix from pixels to unknowns, [Q, pixels]."""
    weighted = columns / noise**2
    normal = weighted @ columns.T
    normal[[-2, -1], [-2, -1]] += 1.0 / shift_sigma**2
    scale = 1.0 / np.sqrt(np.maximum(np.diag(normal), 1e-300))
    return scale[:, None] * np.linalg.solve(normal * scale[:, None] * scale, weighted * scale[:, None])


def columns_of(images: Array, slopes: Array, flux: Array, background: Array) -> Array:
    """Derivatives of the model by fluxes and translation, for `difference_error`.

    Args:
        images, slopes: [E, J, n, n] and [E, J, 2, n, n] from `images_of_sources`.
        flux: [E, J].
        background: [E, n, n] the model without the point sources; its slope is that between pixels.

    Returns:
        [E, J + 2, n, n].
    """
    moving = np.einsum("ej,ejapq->eapq", np.nan_to_num(flux), slopes)
    dy, dx = np.gradient(background, axis=(1, 2))
    return np.concatenate([images, moving + np.stack([dx, dy], axis=1)], axis=1)


def residual_mag(flux: Array, truth: Array) -> Array:
    """Recovered minus injected in mag, to first order in the difference of the fluxes: faint sources stay unbiased."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(truth > 0, -POGSON * (flux - truth) / truth, np.nan)


def around_constants(residual: Array, error: Array) -> Array:
    """Residuals [R, E, J] around the weighted mean of each realisation and source; errors of the same shape."""
    known = np.isfinite(residual) & np.isfinite(error) & (error > 0)
    weight = np.where(known, 1.0 / np.where(known, error, 1.0) ** 2, 0.0)
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    return residual - np.sum(weight * np.where(known, residual, 0.0), axis=1, keepdims=True) / total


@dataclass(frozen=True)
class Recovery:
    """What became of the variations of J sources.

    Attributes:
        injected: [J] standard deviation of the variation, mag.
        slope, slope_error: [J] recovered over injected variation; NaN where nothing was injected.
        bias: [J] median of recovered minus injected, mag.
        scatter: [J] 1.48 MAD of recovered minus injected, mag.
        error: [J] median expected error, mag.
        residual_over_error: [J] root mean square; 1 for honest errors.
        count: [J] measurements.
    """

    injected: Array
    slope: Array
    slope_error: Array
    bias: Array
    scatter: Array
    error: Array
    residual_over_error: Array
    count: NDArray[np.int64]


def recovery(injected: Array, residual: Array, error: Array, *, constant_free: bool = False) -> Recovery:
    """Compare what was recovered with what was injected.

    Args:
        injected: [R, E, J] mag, of R realisations.
        residual: [R, E, J] recovered minus injected, mag; NaN where not measured.
        error: [R, E, J] its expected error, mag.
        constant_free: the error is that of changes between epochs only, as that of `difference_error` is. Scatter and
            residual over error are then those around the weighted mean of each realisation.
    """
    sources = injected.shape[-1]
    slope, slope_error = responses(injected, injected + residual, error)
    known = np.isfinite(residual) & np.isfinite(error) & (error > 0)
    around, spare = residual, known.sum(axis=(0, 1))
    if constant_free:
        around = around_constants(residual, error)
        spare = spare - known.any(axis=1).sum(axis=0)
    rows: dict[str, list[float]] = {
        name: [] for name in ("injected", "bias", "scatter", "error", "residual_over_error")
    }
    for j in range(sources):
        use = known[..., j]
        r, s, x = around[..., j][use], error[..., j][use], injected[..., j][use]
        measured, left = bool(r.size), spare[j] > 0
        deviation = np.abs(r - np.median(r)) if left else np.zeros(0)
        rows["injected"].append(float(np.std(x)) if measured else np.nan)
        rows["bias"].append(float(np.median(residual[..., j][use])) if measured else np.nan)
        rows["scatter"].append(MAD_TO_SIGMA * float(np.median(deviation)) if left else np.nan)
        rows["error"].append(float(np.median(s)) if measured else np.nan)
        rows["residual_over_error"].append(
            float(np.sqrt(np.sum((r / s) ** 2) / spare[j])) if left else np.nan
        )
    return Recovery(
        slope=np.diag(slope).copy(),
        slope_error=np.diag(slope_error).copy(),
        count=known.sum(axis=(0, 1)),
        **{name: np.array(values) for name, values in rows.items()},
    )


def responses(injected: Array, recovered: Array, error: Array) -> tuple[Array, Array]:
    """How the measured sources answer to each injected variation, all at once: weighted least squares.

    A constant per realisation and source is free. The errors of the slopes follow from the scatter around the fit.

    Args:
        injected: [R, E, J] mag.
        recovered: [R, E, K] mag; NaN where not measured.
        error: [R, E, K] mag, for the weights.

    Returns:
        Slopes and their errors, [K, J]; NaN where nothing was injected or where the variations cannot be told apart.
    """
    repeats, _, sources = injected.shape
    measured = recovered.shape[-1]
    slope = np.full((measured, sources), np.nan)
    slope_error = slope.copy()
    varied = np.flatnonzero(np.ptp(injected, axis=(0, 1)) > 0)
    for k in range(measured):
        use = np.isfinite(recovered[..., k]) & np.isfinite(error[..., k])
        x = np.concatenate([injected[r][use[r]][:, varied] for r in range(repeats)])
        constant = np.repeat(np.eye(repeats), use.sum(axis=1), axis=0)[:, use.any(axis=1)]
        design = np.concatenate([x, constant], axis=1)
        if not len(varied) or np.linalg.matrix_rank(design) < design.shape[1]:
            continue
        root = 1.0 / np.hypot(error[..., k][use], SMALLEST_ERROR)
        weighted, values = design * root[:, None], recovered[..., k][use] * root
        best = np.linalg.lstsq(weighted, values, rcond=None)[0]
        slope[k, varied] = best[: len(varied)]
        spare = len(values) - design.shape[1]
        if spare > 0:
            variance = float(np.sum((values - weighted @ best) ** 2)) / spare
            covariance = variance * np.linalg.inv(weighted.T @ weighted)
            slope_error[k, varied] = np.sqrt(np.diag(covariance)[: len(varied)])
    return slope, slope_error


def largest_leakage(slope: Array, own: NDArray[np.int64]) -> tuple[Array, NDArray[np.int64]]:
    """Of each varied source the largest response of another one.

    Args:
        slope: [K, J] from `responses`.
        own: [J] which of the K measured sources each varied one is.

    Returns:
        Slopes with their sign [J], NaN where there is none, and which of the K it is [J], -1 for none.
    """
    others = np.where(np.arange(len(slope))[:, None] == own, np.nan, slope)
    size = np.where(np.isfinite(others), np.abs(others), -1.0)
    if not len(slope):
        return np.full(len(own), np.nan), np.full(len(own), -1)
    into = np.argmax(size, axis=0)
    none = np.max(size, axis=0) < 0
    value = np.take_along_axis(others, into[None], axis=0)[0]
    return np.where(none, np.nan, value), np.where(none, -1, into)
