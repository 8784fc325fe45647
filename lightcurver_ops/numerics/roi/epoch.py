"""One epoch of the joint model: its pixels linearised around the current parameters, its own unknowns eliminated.

Global unknowns g: the positions common to all epochs and the background. Local unknowns of an epoch: its fluxes, its
translation, and a constant sky if wanted. Eliminating the local ones exactly (variable projection, Golub & Pereyra
1973, SIAM J. Numer. Anal. 10, 413) leaves a normal matrix of the global ones that is a sum over epochs.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

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
        light: its part without the point sources and the sky, [n, n].
        loss: half the chi2 of pixels and of the priors of translation and sky.
        chi2: of the pixels.
        q, r: QR factors of the local Jacobian (rows: pixels, then priors).
        residual: [rows] weighted residuals.
        root: [n^2] square root of the weights.
        by_positions: [n^2, moved] Jacobian of the weighted pixels with respect to the positions.
        view: how the pixels see the background; None where it is not free.
        turn: [N^2, N^2] sparse, the rotation of the scene; None for none.
    """

    model: Array
    light: Array
    loss: float
    chi2: float
    q: Array
    r: Array
    residual: Array
    root: Array
    by_positions: Array
    view: render.BackgroundView | None
    turn: sparse.csr_matrix | None

    @property
    def unseen(self) -> NDArray[np.bool_]:
        """Which local unknowns no good pixel sees."""
        return np.abs(np.diag(self.r)) < 1e-6 * np.abs(np.diag(self.r)).max()

    def local_step(self, global_step: Array | None = None) -> Array:
        """The best step of the local unknowns once the global ones have moved."""
        target = self.q.T @ self.residual
        if global_step is not None:
            target = target - self.coupling @ global_step
        return linalg.solve_triangular(self.r, target)

    def local_response(self) -> Array:
        """How the local unknowns answer to the global ones, [q, G]."""
        return -linalg.solve_triangular(self.r, self.coupling)

    def follower(self) -> "Follower":
        """What is needed to let the local unknowns follow a step of the global ones."""
        q = self.q[: self.root.size].T
        return Follower(
            (q * self.root).astype(np.float32), self.r, q @ self.by_positions, self.view, self.turn
        )

    def flux_variance(self, sources: int) -> Array:
        """Variance [J] of the fluxes of this epoch, the global unknowns held fixed."""
        inverse = linalg.solve_triangular(self.r, np.eye(len(self.r)))
        return np.sum(inverse[:sources] ** 2, axis=1)

    def _adjoint(self, rows: Array) -> Array:
        """The transposed global Jacobian of the pixels times rows [M, n^2]: [M, G]."""
        parts = [rows @ self.by_positions]
        if self.view is not None:
            n = self.view.size
            back = self.view.back((rows * self.root).reshape(-1, n, n)).reshape(len(rows), -1)
            parts.append(back if self.turn is None else (self.turn.T @ back.T).T)
        return np.concatenate(parts, axis=1)

    @cached_property
    def coupling(self) -> Array:
        """Q^T times the global Jacobian, [q, G]."""
        return self._adjoint(self.q[: self.root.size].T)

    def rhs(self) -> Array:
        """Gradient of the log likelihood with respect to the global unknowns, the local ones at their best."""
        projected_residual = self.residual - self.q @ (self.q.T @ self.residual)
        return self._adjoint(projected_residual[None, : self.root.size])[0]

    def projected(self) -> NDArray[np.float32]:
        """Global Jacobian with the local directions removed, [rows, G] float32: large, made when asked for."""
        moved, pixels = self.by_positions.shape[1], self.root.size
        fine = 0 if self.view is None else self.view.fine
        jacobian = np.zeros((len(self.q), moved + fine**2), dtype=np.float32)
        jacobian[:pixels, :moved] = self.by_positions
        if self.view is not None:
            matrix = self.view.matrix()
            if self.turn is not None:
                matrix = np.ascontiguousarray((self.turn.T @ matrix.T).T)
            np.multiply(matrix, self.root[:, None].astype(np.float32), out=jacobian[:pixels, moved:])
        q = self.q.astype(np.float32)
        jacobian -= q @ (q.T @ jacobian)
        return jacobian


@dataclass(frozen=True)
class Follower:
    """How the local unknowns of an epoch follow a step of the global ones: the part of `Linear` that this takes.

    Attributes:
        q: [q, n^2] of the pixels, times the root of their weights.
        by_positions: [q, moved] Q^T times the Jacobian with respect to the positions.
        r, view, turn: as in `Linear`.
    """

    q: NDArray[np.float32]
    r: Array
    by_positions: Array
    view: render.BackgroundView | None
    turn: sparse.csr_matrix | None

    def __call__(self, positions: Array, background: Array) -> Array:
        """The step of the local unknowns that is best for a step of positions [moved] and background [N, N]."""
        target = -self.by_positions @ positions
        if self.view is not None:
            light = (
                background
                if self.turn is None
                else (self.turn @ background.ravel()).reshape(background.shape)
            )
            target = target - self.q @ self.view.image(light).ravel()
        return linalg.solve_triangular(self.r, target)


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
    n, k = layout.size, layout.subsampling
    at = render.rotate(positions, epoch.angle) + local.translation
    points, dx, dy = render.point_images(epoch.narrow, at, n, k)
    slope = np.stack([np.tensordot(local.flux, d, axes=1) for d in (dx, dy)])
    light, view, turn = np.zeros((n, n)), None, None
    if layout.background or np.any(h) or outside is not None:
        turn = render.rotation_operator(epoch.angle, layout.fine) if epoch.angle != 0 else None
        view = render.BackgroundView(epoch.background_psf, local.translation, n, k)
        turned = (h.ravel() if turn is None else turn @ h.ravel()).reshape(h.shape)
        if outside is not None:
            turned = np.pad(turned, (len(outside) - layout.fine) // 2) + outside
        light, *by_shift = view.images(turned)
        slope = slope + by_shift
    model = np.tensordot(local.flux, points, axes=1) + local.sky + light
    root = np.sqrt(epoch.weight).ravel()
    q, r, pull = _local_system(epoch, local, points, slope, root, layout)
    residual = np.concatenate([root * (epoch.data - model).ravel(), pull])
    by_positions = np.zeros((root.size, 0))
    if layout.move_positions:
        c, s = np.cos(epoch.angle), np.sin(epoch.angle)
        along = [local.flux[:, None, None] * a for a in (c * dx + s * dy, -s * dx + c * dy)]
        by_positions = np.stack(along, axis=1).reshape(-1, root.size).T * root[:, None]
    return Linear(
        model=model,
        light=light,
        loss=0.5 * float(residual @ residual),
        chi2=float(residual[: root.size] @ residual[: root.size]),
        q=q,
        r=r,
        residual=residual,
        root=root,
        by_positions=by_positions,
        view=view if layout.background else None,
        turn=turn,
    )


def _local_system(
    epoch: Epoch, local: Local, points: Array, slope: Array, root: Array, layout: Layout
) -> tuple[Array, Array, Array]:
    """QR factors of the local Jacobian with its priors, and what the priors pull with."""
    columns = [points.reshape(layout.sources, root.size)]
    if layout.translation_sigma > 0:
        columns.append(slope.reshape(2, root.size))
    if layout.sky:
        columns.append(np.ones((1, root.size)))
    jacobian = np.concatenate(columns).T * root[:, None]
    unknowns = jacobian.shape[1]
    prior, pull = np.zeros((unknowns, unknowns)), np.zeros(unknowns)
    # A source that no good pixel sees keeps its flux: without this the system would be singular.
    size = np.sqrt(np.sum(jacobian**2, axis=0))
    prior[np.diag_indices(unknowns)] = 1e-7 * max(size.max(initial=0.0), 1e-30)
    if layout.translation_sigma > 0:
        at = np.arange(layout.sources, layout.sources + 2)
        prior[at, at] = 1.0 / layout.translation_sigma
        pull[at] = (epoch.translation - local.translation) / layout.translation_sigma
    if layout.sky and root.any():
        sigma = layout.sky_sigma / np.median(root[root > 0])
        prior[-1, -1] = 1.0 / sigma
        pull[-1] = -local.sky / sigma
    q, r = linalg.qr(np.concatenate([jacobian, prior]), mode="economic")
    return q, r, pull
