"""Epochs of the joint model: their pixels linearised around the current parameters, their own unknowns eliminated.

Global unknowns g: the positions common to all epochs and the background. Local unknowns of an epoch: its fluxes, its
translation, and a constant sky if wanted. Eliminating the local ones exactly (variable projection, Golub & Pereyra
1973, SIAM J. Numer. Anal. 10, 413) leaves a normal matrix of the global ones that is a sum over epochs.

The functions take stacks of B epochs, as arrays of numpy or jax: `xp` is the array module. `block.Block` calls them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import next_fast_len

from lightcurver_ops.numerics.roi import render
from lightcurver_ops.numerics.starlet import starlet

Array = NDArray[np.float64]
Chosen = Sequence[int] | NDArray[np.int_] | slice


class Epochs(NamedTuple):
    """What is known of E epochs.

    Attributes:
        data: [E, n, n] with anything finite in bad pixels.
        weight: [E, n, n] inverse variance, 0 in bad pixels.
        narrow: narrow PSF of the point sources [E, P, P], or of each of them [E, J, P, P].
        background_psf: PSF of the background [E, P', P'].
        angle: [E] rotation of the scene, radians.
        translation: [E, 2] (dx, dy) expected beforehand, data pixels.
        translation_sigma: [E] of the Gaussian prior around that, data pixels; not asked where the layout fixes it.
    """

    data: Any
    weight: Any
    narrow: Any
    background_psf: Any
    angle: Any
    translation: Any
    translation_sigma: Any

    def of(self, chosen: Chosen) -> "Epochs":
        """Some epochs."""
        return Epochs(*(array[chosen] for array in self))


@dataclass(frozen=True)
class Layout:
    """Sizes, and which unknowns are free.

    Attributes:
        size, subsampling: n and k.
        sources: J.
        translation_sigma: of the widest Gaussian prior of a translation, data pixels; 0 fixes them.
        sky_sigma: Gaussian prior of the constant sky of each epoch around zero, in units of the epoch's median noise;
            0 for none.
        move_positions: True to let the positions of the sources be free.
        background: True to let the background be free.
    """

    size: int
    subsampling: int
    sources: int
    translation_sigma: float
    sky_sigma: float
    move_positions: bool
    background: bool

    @property
    def fine(self) -> int:
        """N, the side of the background's grid."""
        return self.size * self.subsampling

    @property
    def sky(self) -> bool:
        """Whether each epoch has a sky of its own."""
        return self.sky_sigma > 0

    @property
    def unknowns(self) -> int:
        """p, number of the local unknowns: fluxes, translation, sky."""
        return self.sources + 2 * (self.translation_sigma > 0) + self.sky

    @property
    def moved(self) -> int:
        """Number of free coordinates of positions, the first of the global unknowns."""
        return 2 * self.sources if self.move_positions else 0


class Local(NamedTuple):
    """The unknowns of E epochs: flux [E, J], translation [E, 2], sky [E]."""

    flux: Any
    translation: Any
    sky: Any

    def of(self, chosen: Chosen) -> "Local":
        """Those of some epochs."""
        return Local(*(array[chosen] for array in self))

    def moved_by(self, step: Any, layout: Layout) -> "Local":
        """With a step [E, J (+ 2) (+ 1)] added."""
        j = layout.sources
        shift = step[:, j : j + 2] if layout.translation_sigma > 0 else 0.0
        return Local(
            self.flux + step[:, :j],
            self.translation + shift,
            self.sky + (step[:, -1] if layout.sky else 0.0),
        )


class Linear(NamedTuple):
    """B epochs around given parameters, their rows divided by the noise and their local unknowns rotated away.

    Attributes:
        model: [B, n, n].
        light: its part without the point sources and the sky, [B, n, n].
        loss: [B] half the chi2 of pixels and of the priors of translation and sky.
        chi2: [B] of the pixels.
        q, inverse: [B, rows, p], [B, p, p] QR factors of the local Jacobian (rows: pixels, then priors), R inverted.
        unseen: [B, p] which local unknowns no good pixel sees.
        residual: [B, rows] weighted residuals.
        root: [B, n^2] square root of the weights.
        by_positions: [B, n^2, moved] Jacobian of the weighted pixels with respect to the positions.
        psf, shift: [B, P, P], [B, 2] how the pixels see the background.
        turn: the rotations, see `render.turned_back`.
    """

    model: Any
    light: Any
    loss: Any
    chi2: Any
    q: Any
    inverse: Any
    unseen: Any
    residual: Any
    root: Any
    by_positions: Any
    psf: Any
    shift: Any
    turn: Any

    def of(self, e: int) -> "Linear":
        """One of the epochs, as a stack of one."""
        part = slice(e, e + 1)
        return Linear(*(None if one is None else one[part] for one in self))


def linearise(
    epochs: Epochs,
    local: Local,
    positions: Any,
    spectrum: Any,
    turn: Any,
    *,
    layout: Layout,
    margin: int,
    xp: ModuleType = np,
) -> Linear:
    """Epochs around the given parameters.

    Args:
        epochs, local: B of both.
        positions: [J, 2] common positions.
        spectrum: of the light [B, L, L // 2 + 1], or [1, ...] where all epochs are turned alike, and around its grid
            (`render.Light`); None: there is none.
        turn: the rotations, see `render.turned_back`.
        layout: what is free.
        margin: of the light.
        xp: the array module.
    """
    n, k = layout.size, layout.subsampling
    count = len(epochs.data)
    at = render.rotate(positions, epochs.angle, xp) + local.translation[:, None, :]
    points, dx, dy = render.point_images(epochs.narrow, at, n, k, xp)
    slope = xp.stack([_summed(local.flux, d) for d in (dx, dy)], axis=1)
    background = xp.zeros((count, n, n))
    if spectrum is not None:
        view = render.BackgroundView(epochs.background_psf, local.translation, n, k, xp)
        seen = view.images(render.Light(spectrum, margin))
        background, slope = seen[:, 0], slope + seen[:, 1:]
    model = _summed(local.flux, points) + local.sky[:, None, None] + background
    root = xp.sqrt(epochs.weight).reshape(count, n * n)
    q, r, pull = _local_system(epochs, local, points, slope, root, layout, xp)
    pixels = root * (epochs.data - model).reshape(count, n * n)
    by_positions = xp.zeros((count, n * n, 0))
    if layout.move_positions:
        c, s = (wave(epochs.angle)[:, None, None, None] for wave in (xp.cos, xp.sin))
        along = xp.stack([c * dx + s * dy, -s * dx + c * dy], axis=2) * local.flux[:, :, None, None, None]
        by_positions = along.reshape(count, -1, n * n).swapaxes(1, 2) * root[..., None]
    chi2 = (pixels**2).sum(axis=1)
    diagonal = xp.abs(xp.diagonal(r, axis1=1, axis2=2))
    return Linear(
        model=model,
        light=background,
        loss=0.5 * (chi2 + (pull**2).sum(axis=1)),
        chi2=chi2,
        q=q,
        inverse=xp.linalg.inv(r),
        unseen=diagonal < 1e-6 * diagonal.max(axis=1, keepdims=True, initial=0.0),
        residual=xp.concatenate([pixels, pull], axis=1),
        root=root,
        by_positions=by_positions,
        psf=epochs.background_psf,
        shift=local.translation,
        turn=turn,
    )


def _summed(flux: Any, images: Any) -> Any:
    """Sum over sources of flux [B, J] times image [B, J, n, n]; J may be 0."""
    flat = images.reshape(*images.shape[:2], images.shape[2] * images.shape[3])
    return (flux[:, None, :] @ flat)[:, 0].reshape(len(flux), *images.shape[2:])


def _local_system(
    epochs: Epochs, local: Local, points: Any, slope: Any, root: Any, layout: Layout, xp: ModuleType
) -> tuple[Any, Any, Any]:
    """QR factors of the local Jacobians with their priors, and what the priors pull with."""
    count, pixels = root.shape
    columns = [points.reshape(count, layout.sources, pixels)]
    if layout.translation_sigma > 0:
        columns.append(slope.reshape(count, 2, pixels))
    if layout.sky:
        columns.append(xp.ones((count, 1, pixels)))
    jacobian = (xp.concatenate(columns, axis=1) * root[:, None, :]).swapaxes(1, 2)
    unknowns = jacobian.shape[2]
    # A source that no good pixel sees keeps its flux: without this the system would be singular.
    size = xp.sqrt((jacobian**2).sum(axis=1).max(axis=1, initial=0.0))[:, None]
    least = 1e-7 * xp.maximum(size, 1e-30)
    priors, pulls = [least * np.ones(layout.sources)], [xp.zeros((count, layout.sources))]
    if layout.translation_sigma > 0:
        precision = 1.0 / epochs.translation_sigma[:, None]
        priors.append(precision * np.ones(2))
        pulls.append((epochs.translation - local.translation) * precision)
    if layout.sky:
        precision = _median_of_positive(root, xp)[:, None] / layout.sky_sigma
        priors.append(xp.where(precision > 0, precision, least))
        pulls.append(-local.sky[:, None] * precision)
    prior = xp.concatenate(priors, axis=1)[:, :, None] * np.eye(unknowns)
    q, r = xp.linalg.qr(xp.concatenate([jacobian, prior], axis=1))
    return q, r, xp.concatenate(pulls, axis=1)


def _median_of_positive(values: Any, xp: ModuleType) -> Any:
    """Medians along the last axis of the values above zero; 0 where there is none."""
    ordered = xp.sort(values, axis=-1)
    count, size = (values > 0).sum(axis=-1, keepdims=True), values.shape[-1]
    middle = [size - count + (count - 1) // 2, size - count + count // 2]
    pair = xp.take_along_axis(ordered, xp.clip(xp.concatenate(middle, axis=-1), 0, size - 1), axis=-1)
    return xp.where(count[..., 0] > 0, pair.mean(axis=-1), 0.0)


def local_step(linear: Linear, *, layout: Layout, xp: ModuleType = np) -> tuple[Any, Any, Any]:
    """What the local unknowns of each epoch do.

    Args:
        linear: the epochs.
        layout: what is free.
        xp: the array module.

    Returns:
        [B, p] their best step where the global unknowns stay; [B, p, moved] how it answers to a step of the positions;
        [B, p] the variance of the local unknowns, the global ones held fixed.
    """
    target = (linear.residual[:, None, :] @ linear.q).swapaxes(1, 2)
    response = -linear.inverse @ (_of_pixels(linear.q, linear.root) @ linear.by_positions)
    return (linear.inverse @ target)[..., 0], response, (linear.inverse**2).sum(axis=2)


def flux_variance(linear: Linear, layout: Layout) -> Any:
    """Variance [B, J] of the fluxes, the global unknowns held fixed."""
    return (linear.inverse[:, : layout.sources] ** 2).sum(axis=2)


def _of_pixels(q: Any, root: Any) -> Any:
    """The part [B, p, n^2] of Q^T that belongs to pixels."""
    return q[:, : root.shape[1]].swapaxes(1, 2)


def _adjoint(linear: Linear, rows: Any, layout: Layout, xp: ModuleType) -> Any:
    """The transposed global Jacobian of the pixels times rows [B, M, n^2]: [B, M, G]."""
    parts = [rows @ linear.by_positions]
    if layout.background:
        n = layout.size
        view = render.BackgroundView(linear.psf, linear.shift, n, layout.subsampling, xp)
        back = view.back((rows * linear.root[:, None, :]).reshape(*rows.shape[:2], n, n))
        parts.append(render.turned_back(back.reshape(*rows.shape[:2], layout.fine**2), linear.turn, xp))
    return xp.concatenate(parts, axis=2)


def coupling(linear: Linear, layout: Layout, xp: ModuleType) -> Any:
    """Q^T times the global Jacobian, [B, p, G]."""
    return _adjoint(linear, _of_pixels(linear.q, linear.root), layout, xp)


def rhs(linear: Linear, *, layout: Layout, xp: ModuleType = np) -> Any:
    """Gradient [G] of the log likelihood with respect to the global unknowns, the local ones at their best: the sum."""
    q, residual = linear.q, linear.residual[:, None, :]
    projected = (residual - (residual @ q) @ q.swapaxes(1, 2))[..., : linear.root.shape[1]]
    return _adjoint(linear, projected, layout, xp)[:, 0].sum(axis=0)


def projected_jacobian(
    linear: Linear,
    waves: Any = None,
    seen: Any = None,
    turn: Any = None,
    *,
    layout: Layout,
    xp: ModuleType = np,
) -> Any:
    """Jacobian with the local directions removed, [B, rows, moved + K] float32: large.

    Args:
        linear: the epochs.
        waves: [M, N] cosines whose products are the patterns of the background, see `modes`; None without one.
        seen: [K] the places of the patterns that are asked for among the M^2.
        turn: [B, K, K] float32 the patterns of turned ones, see `modes`; None where no epoch is turned.
        layout: what is free.
        xp: the array module.
    """
    parts = [linear.by_positions.astype(np.float32)]
    if layout.background:
        view = render.BackgroundView(linear.psf, linear.shift, layout.size, layout.subsampling, xp)
        images = view.matrix(waves)[..., seen]
        if turn is not None:
            images = images @ turn
        parts.append(images * linear.root[..., None].astype(np.float32))
    pixels = xp.concatenate(parts, axis=2)
    q = linear.q.astype(np.float32)
    inside = _of_pixels(q, linear.root) @ pixels
    more = xp.zeros((len(pixels), q.shape[1] - pixels.shape[1], pixels.shape[2]), dtype=np.float32)
    return xp.concatenate([pixels, more], axis=1) - q @ inside


def position_matrix(linear: Linear, *, layout: Layout, xp: ModuleType = np) -> Any:
    """Curvature of half the chi2 with respect to the positions [moved, moved], no background free: the sum."""
    rows = projected_jacobian(linear, layout=layout, xp=xp).reshape(-1, layout.moved).astype(float)
    return rows.T @ rows


def flux_response(linear: Linear, *, layout: Layout, xp: ModuleType = np) -> tuple[Any, Any]:
    """How the fluxes answer to the global unknowns, weighted by their precision, [J, G], and these [J]: the sums."""
    precision = 1.0 / flux_variance(linear, layout)
    response = -linear.inverse[:, : layout.sources] @ coupling(linear, layout, xp)
    return (precision[:, :, None] * response).sum(axis=0), precision.sum(axis=0)


class Follower(NamedTuple):
    """How the local unknowns of epochs follow a step of the global ones: the part of `Linear` that this takes.

    Attributes:
        q: [B, p, n^2] of the pixels, times the root of their weights, float32.
        by_positions: [B, p, moved] Q^T times the Jacobian with respect to the positions.
        inverse, shift: as in `Linear`.
    """

    q: Any
    by_positions: Any
    inverse: Any
    shift: Any


def follower(linear: Linear, *, xp: ModuleType = np) -> Follower:
    """What is needed to let the local unknowns follow a step of the global ones."""
    q = _of_pixels(linear.q, linear.root)
    return Follower(
        (q * linear.root[:, None, :]).astype(np.float32),
        q @ linear.by_positions,
        linear.inverse,
        linear.shift,
    )


def follow(
    follower: Follower,
    psf: Any,
    positions: Any,
    spectrum: Any,
    *,
    layout: Layout,
    margin: int,
    xp: ModuleType = np,
) -> Any:
    """The step [B, p] of the local unknowns that is best for one of positions [moved] and background (turned)."""
    target = follower.by_positions @ positions
    if spectrum is not None:
        view = render.BackgroundView(psf, follower.shift, layout.size, layout.subsampling, xp)
        image = view.image(render.Light(spectrum, margin)).reshape(len(psf), layout.size**2, 1)
        target = target + (follower.q @ image)[..., 0]
    return -(follower.inverse @ target[..., None])[..., 0]


def flux_covariance(
    linear: Linear, shared: Any, rows: Any, mean: Any, *, layout: Layout, xp: ModuleType = np
) -> Any:
    """Covariance [B, J, J] of the fluxes of each epoch by which they scatter around what is common to all epochs.

    With `R` the response of an epoch's fluxes to what is common, `C` its covariance and `L` the covariance of the
    fluxes at a given scene: `L + (R - mean) C (R - mean)^T`. The noise behind `L` does not enter `C`: the normal matrix
    takes what is orthogonal to it.

    Args:
        linear: the epochs.
        shared: [Y, Y] covariance of what is common; None: nothing is.
        rows: [Y, G] its directions in the space (positions, background).
        mean: [J, Y] the mean response of the fluxes of all epochs to it.
        layout: what is free.
        xp: the array module.

    Returns:
        NaN where no good pixel sees an image.
    """
    back = linear.inverse[:, : layout.sources]
    covariance = back @ back.swapaxes(1, 2)
    if shared is not None:
        response = -back @ (coupling(linear, layout, xp) @ rows.T) - mean
        flat = response.reshape(-1, response.shape[-1]) @ shared
        covariance = covariance + flat.reshape(response.shape) @ response.swapaxes(1, 2)
    unseen = linear.unseen[:, : layout.sources]
    bad = unseen[:, :, None] | unseen[:, None, :]
    return xp.where(bad, np.nan, covariance)


def back_projected_variance(weight: Any, psf: Any, *, layout: Layout, xp: ModuleType = np) -> Any:
    """Variance [S, N, N] of the starlet coefficients of `A^T W noise` of epochs, in closed form: the sum.

    For independent noise it is the weight map, set on the fine grid, convolved with the squared starlet transform
    of the kernel from a data pixel back to the background. The rotation of the scene is not followed.

    Args:
        weight: [B, n, n] inverse variances.
        psf: [B, P, P] of the background.
        layout: sizes.
        xp: the array module.
    """
    n, k, fine = layout.size, layout.subsampling, layout.fine
    view = render.BackgroundView(psf, np.zeros((1, 2)), n, k, xp)
    kernel = view.kernel().astype(float)[:, ::-1, ::-1]
    side = kernel.shape[-1]
    squared = starlet(kernel, xp)[:, : int(np.log2(fine))] ** 2
    # The weights with the zeros of the other small pixels between them.
    row, column = np.arange(fine) // k, np.arange(fine) % k == 0
    points = weight[:, row][:, :, row] * (column[:, None] & column)
    length = next_fast_len(side + fine, real=True)
    fourier = render.fourier(xp)
    spread = fourier.irfft2(
        fourier.rfft2(squared, (length, length)) * fourier.rfft2(points, (length, length))[:, None],
        (length, length),
    )
    # kernel[m] is the step from pixel k i to small pixel u = k i + m - (side - fine)
    start = side - fine
    return xp.maximum(spread[..., start : start + fine, start : start + fine], 0.0).sum(axis=0)
