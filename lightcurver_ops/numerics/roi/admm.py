"""The background's residual structure under its penalty, on a normal matrix.

Alternating direction method of multipliers (Boyd et al. 2011, Found. Trends Mach. Learn. 3, 1): the quadratic part is
solved exactly by one factorisation, so that the wide range of its eigenvalues (the PSF removes the fine details) costs
no iterations, as it does with gradient steps.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from lightcurver_ops.numerics.roi.inverse import inverse_of
from lightcurver_ops.numerics.roi.penalty import Penalty, details, details_adjoint, uniform_gram

Array = NDArray[np.float64]

RELAXATION = 1.7
RHO = 1.0  # in units of the noise: coefficients are scaled by the penalty's weights
CHECK_EVERY = 10
RIDGE = 1e-9
QUIET = 3  # checks in a row without movement


class Solver:
    """Minimises `x^T F x / 2 + x^T B r + r^T M r / 2 - f^T x - b^T r + penalty(r)` over x and r.

    x are a few unpenalised parameters, r the pixels [N^2]. The factorisation depends on M and the penalty alone.

    Args:
        matrix: M [N^2, N^2] positive semi-definite.
        penalty: on r.
        warm: a solver of a similar problem, whose state is taken over.
    """

    def __init__(self, matrix: NDArray, penalty: Penalty, warm: "Solver | None" = None):
        self.matrix = matrix.astype(np.float64)
        self.penalty = penalty
        shape = penalty.weight.shape
        if warm is None:
            self.scale = np.maximum(penalty.weight.mean(axis=(1, 2)), 1e-30)[:, None, None]
            self.pixel_scale = float(self.scale.max())
            self.gram = RHO * uniform_gram(self.scale.ravel() ** 2, shape[-1])
            self.z, self.uz = np.zeros(shape), np.zeros(shape)
            self.v, self.uv = np.zeros(shape[1:]), np.zeros(shape[1:])
        else:
            self.scale, self.pixel_scale, self.gram = warm.scale, warm.pixel_scale, warm.gram
            self.z, self.uz, self.v, self.uv = warm.z, warm.uz, warm.v, warm.uv
        system = self.matrix + self.gram
        system[np.diag_indices_from(system)] += RHO * self.pixel_scale**2
        try:
            self.inverse = inverse_of(system)
        except np.linalg.LinAlgError as error:
            raise np.linalg.LinAlgError(
                "the normal matrix of the background is not positive definite"
            ) from error

    def solve(
        self,
        free: Array,
        border: Array,
        rhs_free: Array,
        rhs: Array,
        start: Array,
        floor: Array,
        probe: Array,
        tolerance: Array,
        loss_tolerance: float,
        max_iterations: int,
    ) -> tuple[Array, Array, int, bool]:
        """The minimum.

        Args:
            free: F [X, X], of unit diagonal.
            border: B [X, N^2].
            rhs_free: f [X].
            rhs: b [N^2].
            start: [N, N] a structure, which the result must not be worse than.
            floor: [N, N] least values of r, where the penalty says so.
            probe: [Q, X + N^2] linear functions of (x, r) that must have converged.
            tolerance: [Q] how little they may still move in `CHECK_EVERY` iterations.
            loss_tolerance: the same for half the chi2 plus penalty.
            max_iterations: given up beyond.

        Returns:
            x [X], r [N, N], the iterations, and whether they converged.
        """
        shape = self.v.shape
        reach = border @ self.inverse
        # With few epochs the parameters may be degenerate: scaled to a unit diagonal, this much holds them.
        ridge = RIDGE * np.eye(len(free))
        schur = linalg.inv(free - reach @ border.T + ridge) if len(free) else np.zeros((0, 0))
        settle = linalg.inv(free + ridge) if len(free) else schur
        threshold = self.penalty.weight / self.scale / RHO

        def settled(structure: Array) -> tuple[Array, float]:
            """The best x for a structure, and half the chi2 plus penalty there up to a constant."""
            x = settle @ (rhs_free - border @ structure)
            half = 0.5 * (structure @ (self.matrix @ structure) + x @ (border @ structure) - x @ rhs_free)
            return x, float(half - structure @ rhs) + self.penalty.value(structure.reshape(shape))

        last, quiet, iteration = np.full(len(probe), np.inf), 0, 0
        limit, last_value = settled(start.ravel())[1] + loss_tolerance, np.inf
        while iteration < max_iterations and quiet < QUIET:
            iteration += 1
            pull = details_adjoint(self.scale * (self.z - self.uz)) + self.pixel_scale * (self.v - self.uv)
            target = rhs + RHO * pull.ravel()
            x = schur @ (rhs_free - reach @ target)
            r = (self.inverse @ target - x @ reach).reshape(shape)
            y = RELAXATION * self.scale * details(r) + (1 - RELAXATION) * self.z + self.uz
            p = RELAXATION * self.pixel_scale * r + (1 - RELAXATION) * self.v + self.uv
            self.z = np.sign(y) * np.maximum(np.abs(y) - threshold, 0)
            self.v = np.maximum(p, self.pixel_scale * floor) if self.penalty.positive else p
            self.uz, self.uv = y - self.z, p - self.v
            if iteration % CHECK_EVERY == 0:
                # x is asked again for the structure that is returned: the split copies differ until the very end.
                structure = self.v.ravel() / self.pixel_scale
                x, value = settled(structure)
                now = probe[:, : x.size] @ x + probe[:, x.size :] @ structure
                still = np.all(np.abs(now - last) < tolerance) and abs(value - last_value) < loss_tolerance
                quiet = quiet + 1 if still and value < limit else 0
                last, last_value = now, value
        structure = self.v / self.pixel_scale
        return settled(structure.ravel())[0], structure, iteration, quiet >= QUIET
