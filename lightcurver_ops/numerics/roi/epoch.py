"""One epoch of the joint model: its pixels linearised around the current parameters, its own unknowns eliminated.

Global unknowns g: the positions common to all epochs and the background. Local unknowns of an epoch: its fluxes, its
translation, and a constant sky if wanted. Eliminating the local ones exactly (variable projection, Golub & Pereyra
1973, SIAM J. Numer. Anal. 10, 413) leaves a normal matrix of the global ones that is a sum over epochs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from lightcurver_ops.numerics.roi import render

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Epoch:
    """What is known of one epoch.

    Attributes:
        data: [n, n] with anything finite in bad pixels.
        weight: [n, n] inverse variance, 0 in bad pixels.
        narrow: narrow PSF of the point sources [P, P].
        background_psf: PSF of the background [P', P'].
        angle: rotation of the scene, radians.
        translation: its (dx, dy) expected beforehand, data pixels.
    """

    data: Array
    weight: Array
    narrow: Array
    background_psf: Array
    angle: float
    translation: Array


@dataclass(frozen=True)
class Layout:
    """Sizes, and which unknowns are free.

    Attributes:
        size, subsampling: n and k.
        sources: J.
        translation_sigma: Gaussian prior of a translation around the expected one, data pixels; 0 fixes it.
        sky: True for a free constant per epoch.
        move_positions: True to let the positions of the sources be free.
        background: True to let the background be free.
    """

    size: int
    subsampling: int
    sources: int
    translation_sigma: float
    sky: bool
    move_positions: bool
    background: bool

    @property
    def fine(self) -> int:
        """N, the side of the background's grid."""
        return self.size * self.subsampling

    @property
    def moved(self) -> int:
        """Number of free coordinates of positions, the first of the global unknowns."""
        return 2 * self.sources if self.move_positions else 0


@dataclass(frozen=True)
class Local:
    """The unknowns of one epoch."""

    flux: Array
    translation: Array
    sky: float

    def moved_by(self, step: Array, layout: Layout) -> "Local":
        """With a step [J (+ 2) (+ 1)] of the local unknowns added."""
        j = layout.sources
        shift = step[j : j + 2] if layout.translation_sigma > 0 else 0.0
        return Local(
            self.flux + step[:j], self.translation + shift, self.sky + (step[-1] if layout.sky else 0.0)
        )


@dataclass(frozen=True)
class Linear:
    """An epoch around given parameters, its rows divided by the noise and its local unknowns rotated away.

    Attributes:
        model: [n, n].
        background: its part without the point sources, [n, n].
        loss: half the chi2 of pixels and of the translation's prior.
        chi2: of the pixels.
        q, r: QR factors of the local Jacobian (rows: pixels, then priors).
        residual: [rows] weighted residuals.
        coupling: Q^T times the global Jacobian, [q, G].
        projected: global Jacobian with the local directions removed, [rows, G] float32.
    """

    model: Array
    background: Array
    loss: float
    chi2: float
    q: Array
    r: Array
    residual: Array
    coupling: Array
    projected: NDArray[np.float32]

    @property
    def unseen(self) -> NDArray[np.bool_]:
        """Which local unknowns no good pixel sees."""
        return np.abs(np.diag(self.r)) < 1e-6 * np.abs(np.diag(self.r)).max()

    def local_step(self, global_step: Array) -> Array:
        """The best step of the local unknowns once the global ones have moved."""
        return linalg.solve_triangular(self.r, self.q.T @ self.residual - self.coupling @ global_step)

    def local_response(self, directions: Array | None = None) -> Array:
        """How the local unknowns answer to the global ones [q, G], or along directions [X, G] of these [q, X]."""
        coupling = self.coupling if directions is None else self.coupling @ directions.T
        return -linalg.solve_triangular(self.r, coupling)

    def flux_variance(self, sources: int) -> Array:
        """Variance [J] of the fluxes of this epoch, the global unknowns held fixed."""
        inverse = linalg.solve_triangular(self.r, np.eye(len(self.r)))
        return np.sum(inverse[:sources] ** 2, axis=1)

    def rhs(self) -> Array:
        """Gradient of the log likelihood with respect to the global unknowns, the local ones at their best."""
        projected_residual = self.residual - self.q @ (self.q.T @ self.residual)
        return (self.projected.T @ projected_residual.astype(np.float32)).astype(np.float64)


def _parts(
    epoch: Epoch, local: Local, positions: Array, h: Array, outside: Array | None, layout: Layout
) -> tuple:
    n, k = layout.size, layout.subsampling
    at = render.rotate(positions, epoch.angle) + local.translation
    points, dx, dy = render.point_images(epoch.narrow, at, n, k)
    model = np.tensordot(local.flux, points, axes=1) + local.sky
    slope = np.stack([np.tensordot(local.flux, d, axes=1) for d in (dx, dy)])
    background = np.zeros((n, n))
    turn = None
    if layout.background or np.any(h) or outside is not None:
        turn = render.rotation_operator(epoch.angle, layout.fine) if epoch.angle != 0 else None
        light = (h.ravel() if turn is None else turn @ h.ravel()).reshape(h.shape)
        if outside is not None:
            margin = (len(outside) - layout.fine) // 2
            light = np.pad(light, margin) + outside
        images = render.background_images(epoch.background_psf, local.translation, light, n, k)
        background = images[0]
        slope = slope + images[1:]
    return model + background, background, points, dx, dy, slope, turn


def linearise(
    epoch: Epoch, local: Local, positions: Array, h: Array, layout: Layout, outside: Array | None = None
) -> Linear:
    """The epoch around the given parameters.

    Args:
        epoch, local: the data, and the local parameters.
        positions: [J, 2] common positions.
        h: [N, N] background.
        layout: what is free.
        outside: [N + 2 m, N + 2 m] light around the background's grid (0 in it), in the frame of the epoch.
    """
    model, background, points, dx, dy, slope, turn = _parts(epoch, local, positions, h, outside, layout)
    s = np.sqrt(epoch.weight).ravel()
    pixels = s.size
    free_shift = layout.translation_sigma > 0
    columns = [points.reshape(layout.sources, pixels)]
    if free_shift:
        columns.append(slope.reshape(2, pixels))
    if layout.sky:
        columns.append(np.ones((1, pixels)))
    local_jacobian = np.concatenate(columns).T * s[:, None]
    unknowns = local_jacobian.shape[1]
    prior = np.zeros((unknowns, unknowns))
    pull = np.zeros(unknowns)
    # A source that no good pixel sees keeps its flux: without this the system would be singular.
    size = np.sqrt(np.sum(local_jacobian**2, axis=0))
    prior[np.diag_indices(unknowns)] = 1e-7 * max(size.max(initial=0.0), 1e-30)
    if free_shift:
        at = np.arange(layout.sources, layout.sources + 2)
        prior[at, at] = 1.0 / layout.translation_sigma
        pull[at] = (epoch.translation - local.translation) / layout.translation_sigma
    q, r = linalg.qr(np.concatenate([local_jacobian, prior]), mode="economic")
    residual = np.concatenate([s * (epoch.data - model).ravel(), pull])

    parts = []
    if layout.move_positions:
        c, sn = np.cos(epoch.angle), np.sin(epoch.angle)
        along = [c * dx + sn * dy, -sn * dx + c * dy]
        jacobian = np.stack([local.flux[:, None, None] * a for a in along], axis=1).reshape(-1, pixels).T
        parts.append((jacobian * s[:, None]).astype(np.float32))
    if layout.background:
        n, k = layout.size, layout.subsampling
        operator = render.background_operator(epoch.background_psf, local.translation, n, k)
        full = operator if turn is None else np.ascontiguousarray((turn.T @ operator.T).T)
        parts.append(full * s[:, None].astype(np.float32))
    rows = pixels + unknowns
    globals_ = np.zeros((rows, sum(p.shape[1] for p in parts)), dtype=np.float32)
    if parts:
        globals_[:pixels] = np.concatenate(parts, axis=1)
    q32 = q.astype(np.float32)
    coupling = q32.T @ globals_
    globals_ -= q32 @ coupling
    chi2 = float(residual[:pixels] @ residual[:pixels])
    return Linear(
        model=model,
        background=background,
        loss=0.5 * float(residual @ residual),
        chi2=chi2,
        q=q,
        r=r,
        residual=residual,
        coupling=coupling.astype(np.float64),
        projected=globals_,
    )
