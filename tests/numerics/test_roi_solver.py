"""The penalised minimiser and the normal matrix, against their definitions."""

import numpy as np
import pytest

from lightcurver_ops.numerics.roi import galaxy
from lightcurver_ops.numerics.roi.admm import Solver, majorant
from lightcurver_ops.numerics.roi.block import blocks
from lightcurver_ops.numerics.roi.epoch import Epochs, Layout, Local
from lightcurver_ops.numerics.roi.modes import Modes
from lightcurver_ops.numerics.roi.normal import NormalMatrix
from lightcurver_ops.numerics.roi.penalty import Penalty, details, details_adjoint, gaussian_gram
from lightcurver_ops.numerics.roi.render import Light
from lightcurver_ops.numerics.roi.scene import Prior, Scene, absolute, shortened
from lightcurver_ops.simulation.psf import Psf

FINE = 8


def every_pattern():
    return Modes(np.ones(FINE**2), np.arange(FINE**2))


def test_details_adjoint():
    rng = np.random.default_rng(0)
    h, c = rng.normal(size=(FINE, FINE)), rng.normal(size=(3, FINE, FINE))
    assert np.sum(details(h) * c) == pytest.approx(np.sum(h * details_adjoint(c)))


def test_the_majorant_is_not_below_the_penaltys_quadratic_part_nor_far_above_it():
    scales, pixel = np.array([0.5, 2.0, 3.0]), 3.0
    patterns = every_pattern().patterns().reshape(-1, FINE, FINE)
    parts = scales[:, None, None] * np.array([details(one) for one in patterns])
    flat = parts.reshape(len(patterns), -1)
    gram = flat @ flat.T + pixel**2 * np.eye(FINE**2)
    least = np.linalg.eigvalsh(np.diag(majorant(tuple(scales), pixel, FINE)) - gram).min()
    assert least > -1e-9 * pixel**2
    assert np.all(majorant(tuple(scales), pixel, FINE) < 3 * np.diag(gram))


def test_the_gram_of_the_uncertainties_is_that_of_laplace_priors():
    """Of variance 2 / w^2 each, where the solution has next to no structure; every second for the coarsest scale."""
    penalty = Penalty(np.random.default_rng(5).uniform(0.5, 1.0, (3, FINE, FINE)))
    h = np.random.default_rng(6).normal(size=(FINE, FINE))
    patterns = every_pattern().patterns()
    gram = gaussian_gram(penalty, np.zeros((FINE, FINE)), patterns)
    coefficients = penalty.weight * details(h) / np.sqrt(2)
    expected = sum(
        every**2 * np.sum(one[every // 2 :: every, every // 2 :: every] ** 2)
        for every, one in zip((1, 1, 2), coefficients, strict=True)
    )
    amplitudes = patterns @ h.ravel()
    assert amplitudes @ gram @ amplitudes == pytest.approx(100 * expected)


@pytest.mark.parametrize("positive", [True, False])
def test_solution_cannot_be_improved(positive):
    """The objective is convex: no step from its minimum, in any direction allowed, lowers it."""
    rng = np.random.default_rng(1)
    free = 2
    factor = rng.normal(size=(100, free + FINE**2)) * np.r_[np.ones(free), np.geomspace(1, 1e-2, FINE**2)]
    matrix = factor.T @ factor
    rhs = matrix @ np.abs(rng.normal(size=free + FINE**2)) + rng.normal(size=free + FINE**2)
    penalty = Penalty(rng.uniform(0.5, 1.0, (3, FINE, FINE)), positive)
    floor = np.full((FINE, FINE), -0.1)

    def objective(x, r):
        g = np.concatenate([x, r.ravel()])
        return 0.5 * g @ matrix @ g - rhs @ g + penalty.value(r)

    modes = every_pattern()
    patterns = modes.patterns()
    normal = NormalMatrix.empty(Layout(FINE // 2, 2, 0, 0.0, 0.0, False, True), modes)
    normal.matrix = patterns @ matrix[free:, free:] @ patterns.T
    solver = Solver(normal, penalty)
    x, r, _, converged = solver.solve(
        matrix[:free, :free],
        matrix[:free, free:],
        rhs[:free],
        rhs[free:],
        np.zeros((FINE, FINE)),
        floor,
        np.eye(free, free + FINE**2),
        np.full(free, 1e-7),
        1e-2,
        20000,
    )
    assert converged
    assert not positive or np.all(r >= floor - 1e-12)
    best = objective(x, r)
    for size in (1e-2, 1e-1, 1.0):
        for _ in range(300):
            step = size * rng.normal(size=r.shape) * (rng.random(r.shape) < rng.choice([0.05, 1.0]))
            moved = np.maximum(r + step, floor) if positive else r + step
            assert objective(x + size * rng.normal(size=free) * 0.1, moved) > best - 1e-2


def linearised(epochs, local, positions, background, layout):
    """All of a few epochs, in one block."""
    (block,) = blocks(epochs, local, positions, lambda angle: Light.of(background, angle, 12), layout)
    return block


def local_of(flux, translation=(0.0, 0.0), sky=0.0):
    return Local(np.array([[flux]]), np.array([translation]), np.array([sky]))


@pytest.fixture
def epochs():
    rng = np.random.default_rng(2)
    layout = Layout(FINE // 2, 2, 1, 0.3, 1.0, True, True)
    made = []
    for seeing, angle in ((2.0, 0.0), (3.0, 0.5)):
        full = Psf(seeing).at().image(6, 2)
        weight = rng.uniform(0.5, 1.0, (4, 4))
        made.append(
            Epochs(
                *(
                    np.array([one])
                    for one in (rng.normal(5, 1, (4, 4)), weight, full, full, angle, np.zeros(2), 0.3)
                )
            )
        )
    return layout, made


def test_normal_matrix_is_the_curvature_with_the_epochs_unknowns_at_their_best(epochs):
    layout, (epoch, _) = epochs
    rng = np.random.default_rng(3)
    h, c = rng.random((FINE, FINE)), np.array([[0.4, -0.2]])
    local = local_of(8.0, (0.1, 0.0), 0.2)
    block = linearised(epoch, local, c, h, layout)

    # The same by brute force: the Jacobian of all unknowns from finite differences, then a Schur complement.
    def residual(p):
        moved = local.moved_by(p[None, :4], layout)
        model = linearised(epoch, moved, c + p[4:6], h + p[6:].reshape(h.shape), layout).model
        prior = (epoch.translation - moved.translation) / layout.translation_sigma
        sky = -moved.sky * np.median(np.sqrt(epoch.weight)) / layout.sky_sigma
        return np.concatenate([((epoch.data - model) * np.sqrt(epoch.weight)).ravel(), prior[0], sky])

    size = 6 + FINE**2
    jacobian = np.array([(residual(1e-4 * e) - residual(-1e-4 * e)) / 2e-4 for e in np.eye(size)]).T
    full = jacobian.T @ jacobian
    schur = full[4:, 4:] - full[4:, :4] @ np.linalg.solve(full[:4, :4], full[:4, 4:])
    normal = NormalMatrix.empty(layout, every_pattern())
    at = np.concatenate([c.ravel(), h.ravel()])
    normal.add(block, at, layout)
    normal.complete()
    made = normal.times(np.eye(len(at)))
    np.testing.assert_allclose(made, schur, atol=2e-3 * np.abs(schur).max())
    gradient = -jacobian.T @ residual(np.zeros(size))
    reduced = gradient[4:] - full[4:, :4] @ np.linalg.solve(full[:4, :4], gradient[:4])
    np.testing.assert_allclose(block.rhs(), reduced, atol=2e-3 * np.abs(reduced).max())
    np.testing.assert_allclose(normal.rhs, block.rhs() + made @ at, rtol=1e-4)


def test_an_epoch_taken_out_leaves_what_was(epochs):
    layout, (first, second) = epochs
    at = np.concatenate([[0.3, 0.1], np.full(FINE**2, 0.2)])
    h, c = at[2:].reshape(FINE, FINE), at[None, :2]
    one = linearised(first, local_of(4.0), c, h, layout)
    other = linearised(second, local_of(6.0), c, h, layout)
    kept, both = (NormalMatrix.empty(layout, every_pattern()) for _ in range(2))
    kept.add(one, at, layout)
    both.add(one, at, layout)
    both.add(other, at, layout)
    assert both.epochs == 2
    kept.complete()
    both.complete()
    assert not np.allclose(both.matrix, kept.matrix)
    np.testing.assert_array_equal(both.matrix, both.matrix.T)
    both.subtract(other, at, layout)
    both.complete()
    assert both.epochs == 1
    for name in ("matrix", "rhs", "flux_response", "flux_weight", "starlet_variance"):
        np.testing.assert_allclose(
            getattr(both, name), getattr(kept, name), atol=3e-5 * np.abs(getattr(kept, name)).max()
        )


@pytest.mark.parametrize("length", [1.0, 6.0])
def test_a_step_that_is_worse_than_none_is_shortened(length):
    """Of a galaxy's profile, whose equations are linear near it only: the scene shall never be worse than before."""
    layout = Layout(4, 2, 0, 0.1, 0.0, move_positions=False, background=True)
    normal = NormalMatrix.empty(layout, every_pattern())
    normal.matrix += np.eye(FINE**2, dtype=np.float32)
    theta = np.array([100.0, 0.0, 0.0, np.log(2.0), np.log(2.0), 0.1, 0.0])
    change = np.array([10.0, 0.3, -0.2, -0.15, 0.1, 0.0, 0.05])
    frame, dark = galaxy.Frame.of(FINE), np.zeros((FINE, FINE))
    here, best, there = (
        Scene(np.zeros((0, 2)), dark, one, dark, frame)
        for one in (theta, theta + change, theta + length * change)
    )
    rhs = normal.times(absolute(best, 0) - absolute(here, 0))
    prior, penalty = Prior(np.zeros((0, 2)), 0.0, theta), Penalty(np.ones((3, FINE, FINE)))

    def off(scene):
        return np.sum((absolute(scene, 0) - absolute(best, 0)) ** 2)

    found = shortened(normal, rhs, here, there, prior, 0, penalty, 1e-6)
    if length == 1.0:
        assert found is there
    else:
        assert off(there) > off(here)
        assert off(found) < off(here)
