"""The background's residual structure under its penalty, on a normal matrix.

Alternating direction method of multipliers (Boyd et al. 2011, Found. Trends Mach. Learn. 3, 1): the quadratic part is
solved exactly by one factorisation, so that the wide range of its eigenvalues (the PSF removes the fine details) costs
no iterations, as it does with gradient steps. In cosine patterns the penalty's own quadratic part is all but diagonal;
a diagonal not below it, and the difference as a proximal term (linearised ADMM: He & Yuan 2012, SIAM J. Numer. Anal.
50, 700), leave a matrix of the seen patterns alone to be factorised.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from lightcurver_ops.numerics.roi.inverse import inverse_of
from lightcurver_ops.numerics.roi.modes import Modes
from lightcurver_ops.numerics.roi.normal import NormalMatrix
from lightcurver_ops.numerics.roi.penalty import Penalty, details, details_adjoint

Array = NDArray[np.float64]

RELAXATION = 1.7
CHECK_EVERY = 10
BALANCE_EVERY, BALANCES = 20, 20  # iterations; how often at most: it converges with a constant rho
UNBALANCED, LARGEST_FACTOR = 1.5, 3.0
RIDGE = 1e-9
QUIET = 3  # checks in a row without movement
POWER_STEPS = 30
MARGIN = 1.02  # on a largest eigenvalue from so many steps


class Solver:
    """Minimises `x^T F x / 2 + x^T B r + r^T M r / 2 - f^T x - b^T r + penalty(r)` over x and r.

    x are a few unpenalised parameters, r the pixels [N^2]. The factorisation depends on M, the penalty and rho alone,
    the weight of the constraints, in units of the noise: coefficients are scaled by the penalty's weights. It is
    balanced so that both residuals, relative to what they are differences of, fall alike (Wohlberg 2017,
    arXiv:1704.06209).

    Args:
        normal: its part of the background is M.
        penalty: on r.
        warm: a solver of a similar problem, whose state is taken over.
    """

    def __init__(self, normal: NormalMatrix, penalty: Penalty, warm: "Solver | None" = None):
        assert normal.modes is not None
        self.penalty, self.modes = penalty, normal.modes
        self.unseen = normal.modes.unseen
        self.seen_curvature = normal.matrix[normal.moved :, normal.moved :].astype(np.float64)
        self.unseen_curvature = normal.unseen_curvature
        shape = penalty.weight.shape
        if warm is None:
            self.scale = np.maximum(penalty.weight.mean(axis=(1, 2)), 1e-30)[:, None, None]
            self.pixel_scale = float(self.scale.max())
            self.rho = 1.0
            self.majorant = majorant(tuple(self.scale.ravel()), self.pixel_scale, shape[-1])
            self.z, self.uz = np.zeros(shape), np.zeros(shape)
            self.v, self.uv = np.zeros(shape[1:]), np.zeros(shape[1:])
        else:
            self.scale, self.pixel_scale, self.majorant = warm.scale, warm.pixel_scale, warm.majorant
            self.rho = warm.rho
            self.z, self.uz, self.v, self.uv = warm.z, warm.uz, warm.v, warm.uv
        self._factorise()

    def _factorise(self) -> None:
        system = self.seen_curvature + np.diag(self.rho * self.majorant[self.modes.seen])
        try:
            self.inverse = inverse_of(system)
        except np.linalg.LinAlgError as error:
            raise np.linalg.LinAlgError(
                "the normal matrix of the background is not positive definite"
            ) from error
        self.unseen_inverse = 1.0 / (self.unseen_curvature + self.rho * self.majorant[self.unseen])

    def _curved(self, patterns: Array) -> Array:
        """M times coefficients [..., N^2]."""
        out = np.empty_like(patterns)
        out[..., self.modes.seen] = patterns[..., self.modes.seen] @ self.seen_curvature
        out[..., self.unseen] = patterns[..., self.unseen] * self.unseen_curvature
        return out

    def _solved(self, patterns: Array) -> Array:
        """The inverse of M and the majorant times coefficients [..., N^2]."""
        out = np.empty_like(patterns)
        out[..., self.modes.seen] = patterns[..., self.modes.seen] @ self.inverse
        out[..., self.unseen] = patterns[..., self.unseen] * self.unseen_inverse
        return out

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
        to, back = self.modes.coefficients, self.modes.images
        # From here on r, border and rhs are coefficients of patterns; r itself is asked for where the penalty is.
        couplings, target = to(border), to(rhs)
        # With few epochs the parameters may be degenerate: scaled to a unit diagonal, this much holds them.
        held = free + RIDGE * np.eye(len(free))
        settle = _inverted(held)

        def settled(structure: Array) -> tuple[Array, float]:
            """The best x for a structure [N, N], and half the chi2 plus penalty there up to a constant."""
            patterns = to(structure.ravel())
            x = settle @ (rhs_free - couplings @ patterns)
            half = 0.5 * (patterns @ self._curved(patterns) + x @ (couplings @ patterns) - x @ rhs_free)
            return x, float(half - patterns @ target) + self.penalty.value(structure)

        last, quiet, iteration, balances, factor = np.full(len(probe), np.inf), 0, 0, 0, np.inf
        # The floor follows the galaxy: a start below it would be better than anything allowed.
        allowed = np.maximum(start, floor) if self.penalty.positive else start
        limit, last_value = settled(allowed)[1] + loss_tolerance, np.inf
        r = self.v / self.pixel_scale
        patterns, parts = to(r.ravel()), self.scale * details(r)
        while iteration < max_iterations and quiet < QUIET:
            iteration += 1
            if factor != 1.0:
                reach = self._solved(couplings)
                schur = _inverted(held - reach @ couplings.T)
                threshold = self.penalty.weight / self.scale / self.rho
            pull = details_adjoint(self.scale * (self.z - self.uz - parts))
            pull += self.pixel_scale * (self.v - self.uv - self.pixel_scale * r)
            around = target + self.rho * (to(pull.ravel()) + self.majorant * patterns)
            x = schur @ (rhs_free - reach @ around)
            patterns = self._solved(around) - x @ reach
            r = back(patterns).reshape(shape)
            parts = self.scale * details(r)
            y = RELAXATION * parts + (1 - RELAXATION) * self.z + self.uz
            p = RELAXATION * self.pixel_scale * r + (1 - RELAXATION) * self.v + self.uv
            z_before, v_before = self.z, self.v
            self.z = np.sign(y) * np.maximum(np.abs(y) - threshold, 0)
            self.v = np.maximum(p, self.pixel_scale * floor) if self.penalty.positive else p
            self.uz, self.uv = y - self.z, p - self.v
            factor = 1.0
            if iteration % BALANCE_EVERY == 0 and balances < BALANCES:
                pixels = self.pixel_scale * r
                size = max(_norm(parts, pixels), _norm(self.z, self.v), 1e-300)
                apart = _norm(parts - self.z, pixels - self.v) / size
                moved = _norm(self.z - z_before, self.v - v_before) / max(_norm(self.uz, self.uv), 1e-300)
                factor = self._balanced(np.sqrt(apart / max(moved, 1e-300)))
                balances += factor != 1.0
            if iteration % CHECK_EVERY == 0:
                # x is asked again for the structure that is returned: the split copies differ until the very end.
                structure = self.v / self.pixel_scale
                x, value = settled(structure)
                now = probe[:, : x.size] @ x + probe[:, x.size :] @ structure.ravel()
                still = np.all(np.abs(now - last) < tolerance) and abs(value - last_value) < loss_tolerance
                quiet = quiet + 1 if still and value < limit else 0
                last, last_value = now, value
        structure = self.v / self.pixel_scale
        return settled(structure)[0], structure, iteration, quiet >= QUIET

    def _balanced(self, wanted: float) -> float:
        """Multiply rho by about what is wanted; returns by what."""
        if 1 / UNBALANCED < wanted < UNBALANCED:
            return 1.0
        factor = float(np.clip(wanted, 1 / LARGEST_FACTOR, LARGEST_FACTOR))
        self.rho *= factor
        self.uz, self.uv = self.uz / factor, self.uv / factor
        self._factorise()
        return factor


def _inverted(matrix: Array) -> Array:
    return np.asarray(linalg.inv(matrix)) if len(matrix) else matrix


def _norm(*parts: Array) -> float:
    """Of all together."""
    return float(np.sqrt(sum(np.vdot(part, part) for part in parts)))


@lru_cache(maxsize=4)
def majorant(scale: tuple[float, ...], pixel_scale: float, fine: int) -> Array:
    """A diagonal [N^2] in cosine patterns not below `sum_j s_j^2 Phi_j^T Phi_j + p^2` of the starlet details."""
    phase = np.pi * np.arange(fine) / fine
    smooth, diagonal = np.ones((fine, fine)), np.full((fine, fine), pixel_scale**2)
    for j, one in enumerate(scale):
        kernel = (3 + 4 * np.cos(2**j * phase) + np.cos(2 ** (j + 1) * phase)) / 8
        smoother = smooth * np.outer(kernel, kernel)
        diagonal += one**2 * (smooth - smoother) ** 2
        smooth = smoother
    root = 1.0 / np.sqrt(diagonal.ravel())
    every = Modes(np.ones(fine**2), np.arange(fine**2))
    scales = np.asarray(scale)[:, None, None] ** 2
    vector, largest = np.ones(fine**2) / fine, 1.0
    for _ in range(POWER_STEPS):
        image = every.images(root * vector).reshape(fine, fine)
        again = details_adjoint(scales * details(image)) + pixel_scale**2 * image
        vector = root * every.coefficients(again.ravel())
        largest = float(np.linalg.norm(vector))
        vector /= largest
    return MARGIN * max(largest, 1.0) * diagonal.ravel()
