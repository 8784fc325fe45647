"""The joint model against STARRED's: the same images, the same objective, a solution at least as good."""

import numpy as np
import pytest

from lightcurver_ops.numerics.psf.operators import blur_matrix, narrow_from_full
from lightcurver_ops.numerics.roi.finish import finish
from lightcurver_ops.numerics.roi.fit import set_up
from lightcurver_ops.numerics.roi.iterate import everything
from lightcurver_ops.numerics.roi.points import points_only
from lightcurver_ops.numerics.roi.reference import fit_with_starred, starred_loss
from lightcurver_ops.numerics.roi.result import RoiOptions
from lightcurver_ops.numerics.roi.state import State
from lightcurver_ops.simulation.galaxies import draw_extended, sersic
from lightcurver_ops.simulation.psf import Psf

N, K, EPOCHS = 12, 2, 3
POSITIONS = np.array([[-1.8, 0.6], [1.7, -0.5]])
OPTIONS = RoiOptions(
    translation_sigma=0.0,
    galaxy=False,
    strength=1.0,
    strength_finest=3.0,
    max_iterations=2000,
    max_first_iterations=200,
)


def arguments(side, angles=None, shifts=None):
    rng = np.random.default_rng(5)
    data, psfs = [], []
    for seeing in (2.8, 3.3, 3.8):
        psf = Psf(seeing, shear=(0.04, 0.0)).at()
        centre = (N - 1) / 2
        image = 8000.0 * draw_extended((N, N), sersic(1.5, 1.0, 0.8, 0.0), psf.profile(), centre, centre)
        for place, flux in zip(POSITIONS, (20000.0, 12000.0), strict=True):
            image += flux * psf.star(N, *(centre + place))
        data.append(image)
        psfs.append(psf.image(side / K, K))
    data = np.array(data)
    sigma = np.sqrt(data + 50.0)
    data = data + sigma * rng.normal(size=data.shape)
    good = np.ones(data.shape, dtype=bool)
    good[1, 2, 3] = False
    data[1, 2, 3] = np.nan
    narrow = narrow_from_full(np.array(psfs))
    return (
        data,
        sigma,
        good,
        np.array(psfs),
        K,
        POSITIONS,
        shifts,
        angles,
        True,
        None,
        True,
        narrow,
        OPTIONS,
    )


@pytest.mark.parametrize("side", [23, 24])
def test_starred_sees_our_image_for_even_and_odd_psfs(side):
    """Shifts and rotations too, to STARRED's bilinear interpolation: its images of a turned point differ more."""
    angles, shifts = np.array([0.0, np.pi, 0.0]), np.array([[0.0, 0.0], [0.5, -0.5], [0.25, 0.0]])
    problem, state = set_up(*arguments(side, angles, shifts), like_starred=True)
    flux = np.array([20000.0, 12000.0])
    state = State(state.scene, state.locals._replace(flux=np.tile(flux, (EPOCHS, 1))))
    model, _, kwargs = starred_loss(problem, state, np.ones((5, N * K, N * K)))
    theirs = np.asarray(model.model(kwargs))
    ours = np.zeros_like(theirs)
    for block in problem.blocks(state):
        ours[block.place.chosen] = block.model
    for e, tolerance in ((0, 2e-3), (1, 2e-3), (2, 0.03)):
        np.testing.assert_allclose(theirs[e], ours[e], atol=tolerance * ours[e].max())


# With a PSF of even side STARRED's background lies half a small pixel beside ours: an odd one is compared.
def test_starreds_loss_of_our_solution_is_no_worse_than_of_its_own():
    problem, state = set_up(*arguments(23), like_starred=True)
    ours = everything(problem, points_only(problem, state).state)
    fit = finish(problem, ours)
    assert fit.converged
    # Our weights in its units: it multiplies by the epochs over k^2, and shares strengths by scale.
    weights = np.sqrt(ours.normal.starlet_variance) * K**2 / EPOCHS
    weights = np.concatenate([weights, weights[-1:]])
    theirs = fit_with_starred(problem, state, weights)

    def value(state):
        _, loss, kwargs = starred_loss(problem, state, weights)
        fixed = {
            "kwargs_analytic": {name: kwargs["kwargs_analytic"][name] for name in ("c_x", "c_y", "dx", "dy")}
        }
        function, parameters = loss(fixed, kwargs, True)
        return float(function(parameters.kwargs2args(kwargs)))

    own = value(ours.state)
    assert own == pytest.approx(fit.loss, rel=2e-3)
    assert own < 1.001 * theirs.loss
    # The optimiser has come close enough for this to be a comparison.
    assert theirs.loss < 1.05 * own
    assert np.all(np.abs(theirs.flux - fit.flux) < 5 * fit.flux_uncertainty + 0.05 * fit.flux)


def test_blur_matrix_links_the_two_psfs():
    _, _, _, full, *_ = arguments(24)
    blur = blur_matrix(24)
    np.testing.assert_allclose(blur @ narrow_from_full(full) @ blur.T, full, atol=1e-12)
