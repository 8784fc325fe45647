"""The patterns that pixels can tell apart, against what PSFs leave of them."""

import numpy as np
import pytest

from lightcurver_ops.numerics.roi.block import blocks
from lightcurver_ops.numerics.roi.epoch import Epochs, Layout, Local
from lightcurver_ops.numerics.roi.modes import SEEN, Modes, cosines
from lightcurver_ops.numerics.roi.normal import NormalMatrix
from lightcurver_ops.numerics.roi.render import BackgroundView
from lightcurver_ops.simulation.psf import Psf

SIZE, K = 16, 2
FINE = SIZE * K


def psf(seeing, size=SIZE):
    return Psf(seeing).at().image(size, K)


def test_cosines_are_orthonormal_and_come_back():
    rng = np.random.default_rng(0)
    np.testing.assert_allclose(cosines(7) @ cosines(7).T, np.eye(7), atol=1e-12)
    modes = Modes(np.ones(49), np.array([0, 3, 8]))
    images = rng.normal(size=(2, 49))
    np.testing.assert_allclose(modes.images(modes.coefficients(images)), images, atol=1e-12)
    np.testing.assert_allclose(modes.coefficients(modes.patterns()), np.eye(49)[modes.seen], atol=1e-12)
    np.testing.assert_array_equal(np.sort(np.concatenate([modes.seen, modes.unseen])), np.arange(49))


def test_the_products_have_the_seen_patterns_in_their_places():
    modes = Modes.of(psf(3.0)[None], np.ones(1), FINE, K)
    waves, places = modes.products
    every = (waves[:, None, :, None] * waves[None, :, None, :]).reshape(len(waves) ** 2, FINE**2)
    np.testing.assert_allclose(every[places], modes.patterns(), atol=1e-12)


@pytest.mark.parametrize("seeing", [2.0, 3.5])
def test_what_is_not_seen_moves_no_pixel(seeing):
    """The largest response of a pixel to an unseen pattern, beside the largest to any."""
    image = psf(seeing)
    modes = Modes.of(image[None], np.ones(1), FINE, K)
    assert 0 < len(modes.seen) < FINE**2 / 2
    operator = BackgroundView(image, np.array([0.2, -0.3]), SIZE, K).matrix(cosines(FINE)).astype(float)
    curvature = np.sum(operator**2, axis=0)
    assert curvature[modes.unseen].max() < 20 * SEEN * curvature.max()
    # What stands for the curvature of a pattern is not below it, the stamp's edges being what it leaves out.
    inner = modes.seen[modes.curvature[modes.seen] > 0.01]
    ratio = curvature[inner] / modes.curvature[inner]
    assert 0.4 < ratio.min() < ratio.max() < 1.0


def test_the_sharpest_epochs_decide_what_is_seen():
    sharp, both, weak = (
        len(Modes.of(np.stack([psf(2.0), psf(4.0)]), np.array(weight), FINE, K).seen)
        for weight in ((1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    )
    assert weak < both <= sharp


@pytest.mark.parametrize(("angle", "tolerance"), [(0.0, 2e-3), (0.4, 1e-2)])
def test_the_matrix_of_seen_patterns_is_that_of_all_without_the_others(angle, tolerance):
    layout = Layout(SIZE, K, 1, 0.3, 1.0, True, True)
    rng = np.random.default_rng(4)
    image = psf(3.0)[None]
    weight = rng.uniform(0.5, 1.0, (1, SIZE, SIZE))
    epochs = Epochs(
        rng.normal(size=weight.shape),
        weight,
        image,
        image,
        np.array([angle]),
        np.zeros((1, 2)),
        np.array([0.3]),
    )
    local = Local(np.array([[5.0]]), np.zeros((1, 2)), np.zeros(1))
    (block,) = blocks(epochs, local, np.array([[1.0, 2.0]]), lambda angle: None, layout)
    every = Modes(np.ones(FINE**2), np.arange(FINE**2))
    some = Modes.of(image, np.ones(1), FINE, K)
    at = np.concatenate([[1.0, 2.0], np.zeros(FINE**2)])
    full, part = (NormalMatrix.empty(layout, modes) for modes in (every, some))
    for normal in (full, part):
        normal.add(block, at, layout)
        normal.complete()
    places = np.concatenate([[0, 1], 2 + some.seen])
    largest = np.abs(full.matrix).max()
    np.testing.assert_allclose(part.matrix, full.matrix[np.ix_(places, places)], atol=tolerance * largest)
    others = np.delete(full.matrix, places, axis=0)
    assert np.abs(others[:, 2:]).max() < 10 * np.sqrt(SEEN) * largest
