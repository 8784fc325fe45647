"""The same by jax as by numpy: on its CPU here, on a GPU where there is one."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.numerics import device, photometry
from lightcurver_ops.numerics.roi import block
from lightcurver_ops.numerics.roi.block import follow
from lightcurver_ops.numerics.roi.fit import fit_roi, set_up
from lightcurver_ops.numerics.roi.normal import NormalMatrix
from lightcurver_ops.numerics.roi.result import RoiOptions
from lightcurver_ops.numerics.roi.state import Steps
from lightcurver_ops.simulation.roi import roi_stamps
from lightcurver_ops.simulation.stamps import star_stamps

# One block of four and one of three that is filled up; with numpy blocks of 16.
EPOCHS, BLOCK, SIZE = 7, 4, 10


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    fine = 2 * SIZE
    monkeypatch.setattr(device, "BATCH_BYTES", BLOCK * block.WIDE_ARRAYS * 4 * SIZE**2 * fine**2)


@pytest.fixture(scope="module")
def roi():
    return roi_stamps(
        11,
        EPOCHS,
        SIZE,
        2,
        positions=((-1.9, 0.8), (1.6, -0.7)),
        magnitudes=(18.6, 19.4),
        galaxy_magnitude=20.0,
    )


def problem_of(roi, angles):
    """With bad pixels in one epoch, nothing but bad pixels in another, and everything away from where it starts."""
    good = np.ones(roi.data.shape, dtype=bool)
    good[1, 3:5, 4:8], good[5] = False, False
    data = np.where(good, roi.data, np.nan)
    problem, state = set_up(
        data,
        roi.noise,
        good,
        roi.psf,
        2,
        roi.positions + 0.05,
        roi.translations,
        angles,
        False,
        None,
        True,
        roi.narrow_psf,
        RoiOptions(),
        like_starred=False,
    )
    rng = np.random.default_rng(5)
    local = state.locals._replace(
        flux=roi.data.sum(axis=(1, 2))[:, None] * rng.uniform(0.2, 0.4, (EPOCHS, 2)),
        translation=state.locals.translation + rng.normal(0, 0.1, (EPOCHS, 2)),
        sky=rng.normal(0, 1, EPOCHS),
    )
    theta = problem.prior.theta + np.array([50.0, 0.5, -0.3, 0.0, 0.0, 0.1, 0.0])
    scene = replace(state.scene, theta=theta, structure=rng.normal(0, 0.1, (2 * SIZE, 2 * SIZE)))
    return problem, replace(state, scene=scene, locals=local)


def everything_of(problem, state):
    """What the iterations ask of the epochs, as arrays."""
    layout, rng = problem.layout, np.random.default_rng(6)
    at = np.concatenate([state.scene.positions.ravel()[: layout.moved], state.scene.background.ravel()])
    normal, steps, followers = NormalMatrix.empty(layout, problem.modes), Steps(problem), []
    found = {"rhs": 0.0, "loss": 0.0, "model": np.zeros_like(problem.epochs.data)}
    shared = rng.normal(size=(layout.moved + 5,) * 2)
    shared, rows = shared @ shared.T, rng.normal(size=(len(shared), len(at)))
    mean = rng.normal(size=(layout.sources, len(shared)))
    found["covariance"] = np.zeros((problem.count, layout.sources, layout.sources))
    for one in problem.blocks(state):
        normal.add(one, at, layout)
        steps.take(one)
        found["rhs"] = found["rhs"] + one.rhs()
        found["loss"] += one.loss
        found["model"][one.place.chosen] = one.model
        found["covariance"][one.place.chosen] = one.flux_covariance(shared, rows, mean)
        followers.append(one.follower())
    normal.complete()
    change = problem.lights(rng.random(state.scene.background.shape))
    found["followed"] = follow(followers, problem.epochs, rng.normal(size=layout.moved), change, layout)
    found |= {name: getattr(steps, name) for name in ("step", "response", "variance")}
    return found, normal


def same(one, other, tolerance):
    """Within a relative tolerance of the largest value, epoch by epoch where the first axis is the epochs'."""
    one, other = np.asarray(one), np.asarray(other)
    np.testing.assert_array_equal(np.isnan(one), np.isnan(other))
    axes = tuple(range(1, one.ndim)) if one.ndim and len(one) == EPOCHS else None
    size = np.nanmax(np.abs(other), axis=axes, keepdims=True, initial=1e-300)
    assert np.all((np.abs(one - other) <= tolerance * size) | np.isnan(one))


def test_epochs_of_the_joint_model_are_the_same(roi, monkeypatch):
    problem, state = problem_of(roi, np.array([0.0, 0.01, np.pi, 0.0, 0.02, -1.0, np.pi / 2]))
    monkeypatch.setenv(device.CHOICE, "numpy")
    plain, of_numpy = everything_of(problem, state)
    monkeypatch.setenv(device.CHOICE, "jax")
    compiled, of_jax = everything_of(problem, state)
    assert np.isnan(plain["covariance"][5]).all()
    for name, value in plain.items():
        same(compiled[name], value, 1e-9)
    # In single precision, as they are meant to be; the response and the variance are not.
    assert of_jax.matrix.dtype == of_numpy.matrix.dtype == np.float32
    for name, tolerance in (
        ("matrix", 2e-6),
        ("rhs", 2e-6),
        ("starlet_variance", 1e-6),
        ("flux_response", 1e-9),
    ):
        same(getattr(of_jax, name), getattr(of_numpy, name), tolerance)
    same(of_jax.flux_weight, of_numpy.flux_weight, 1e-9)
    assert of_jax.epochs == of_numpy.epochs == EPOCHS


def test_a_fit_of_the_joint_model_is_the_same(roi, monkeypatch):
    """From nothing known to the result: the iterations end where they end with numpy, within their tolerance."""
    options = RoiOptions(galaxy=False)
    angles = np.where(
        np.arange(EPOCHS) < 3, 0.0, np.pi + 0.01
    )  # a block of both, and one that is turned alike
    arguments = {
        "subsampling": 2,
        "positions": roi.positions + 0.05,
        "rotation": angles,
        "narrow_psf": roi.narrow_psf,
        "options": options,
    }
    good = np.ones(roi.data.shape, dtype=bool)
    monkeypatch.setenv(device.CHOICE, "numpy")
    plain = fit_roi(roi.data, roi.noise, good, roi.psf, **arguments)
    monkeypatch.setenv(device.CHOICE, "jax")
    compiled = fit_roi(roi.data, roi.noise, good, roi.psf, **arguments)
    assert compiled.converged == plain.converged
    assert compiled.n_iter == plain.n_iter
    # The normal matrix is in single precision, and what ends the iterations is a fiftieth of an uncertainty.
    assert np.abs(compiled.flux - plain.flux).max() < 1e-3 * plain.flux_uncertainty.min()
    np.testing.assert_allclose(compiled.flux_uncertainty, plain.flux_uncertainty, rtol=1e-4)
    np.testing.assert_allclose(compiled.flux_covariance, plain.flux_covariance, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(
        compiled.common_flux_covariance, plain.common_flux_covariance, rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(compiled.positions, plain.positions, atol=1e-5)
    assert compiled.loss == pytest.approx(plain.loss, rel=1e-6)


@pytest.mark.parametrize(("sky", "per_star"), [(True, False), (False, True)])
def test_star_photometry_is_the_same(monkeypatch, sky, per_star):
    """Five frames of three stars: padded to batches of two frames of four."""
    stamps = star_stamps(3, n_frames=5, n_stars=3, size=12, magnitudes=(16.0, 21.0))
    good = np.ones(stamps.data.shape, dtype=bool)
    good[0, 1, 5:7, 3:8], good[2, 2] = False, False
    data, psf = stamps.data.copy(), stamps.psf.copy()
    data[3, 0, 6, 6] += 300 * stamps.noise[3, 0, 6, 6]  # a cosmic
    data[4, 1, 0, 0] = np.nan
    psf[1] = np.nan
    if per_star:
        psf = np.stack([psf, psf * 1.01, psf * 0.99], axis=1)
    monkeypatch.setattr(device, "BATCH_BYTES", 8 * 8 * photometry.WIDE_ARRAYS * 12 * psf.shape[-1])

    def measured(choice, max_iter):
        monkeypatch.setenv(device.CHOICE, choice)
        return photometry.fit_star_fluxes(
            data, stamps.noise, good, psf, subsampling=2, uniform_background=sky, max_iter=max_iter
        )

    # Where it starts, the formulas agree to rounding.
    plain, compiled = measured("numpy", 0), measured("jax", 0)
    for name in ("flux", "flux_uncertainty", "x", "y", "background", "chi2", "n_good"):
        np.testing.assert_allclose(getattr(compiled, name), getattr(plain, name), rtol=1e-9, atol=1e-9)
    # Whether the last step, of less than a hundredth of an uncertainty, lowers the cost, rounding decides.
    plain, compiled = measured("numpy", 30), measured("jax", 30)
    assert np.isnan(plain.flux[1]).all()
    assert np.isnan(plain.flux[2, 2])
    assert plain.n_good[3, 0] < 144
    np.testing.assert_array_equal(compiled.n_good, plain.n_good)
    np.testing.assert_array_equal(compiled.converged, plain.converged)
    np.testing.assert_array_equal(np.isnan(compiled.flux), np.isnan(plain.flux))
    assert np.nanmax(np.abs(compiled.flux - plain.flux) / plain.flux_uncertainty) < 1e-2
    np.testing.assert_allclose(compiled.flux_uncertainty, plain.flux_uncertainty, rtol=1e-4)


def layout_of(roi):
    return problem_of(roi, None)[0].layout


@pytest.mark.parametrize(("count", "size"), [(3, 4), (4, 4), (20, 4)])
def test_blocks_hold_every_epoch_once_and_those_turned_alike_together(roi, monkeypatch, count, size):
    monkeypatch.setenv(device.CHOICE, "jax")
    angle = np.random.default_rng(2).permutation(np.repeat([0.0, 0.1], [count - 1, 1]))
    found = list(block.places(angle, layout_of(roi), device.device()))
    assert {len(place.padded) for place in found} == {size}
    chosen = np.concatenate([place.chosen for place in found])
    np.testing.assert_array_equal(np.sort(chosen), np.arange(count))
    assert angle[chosen[-1]] == 0.1


def test_unknown_choice_is_an_error(monkeypatch):
    monkeypatch.setenv(device.CHOICE, "cuda")
    with pytest.raises(
        ConfigurationError, match=r"LCOPS_ARRAYS is 'cuda': expected 'auto', 'numpy' or 'jax'"
    ):
        device.device()


def test_without_a_plugin_jax_is_not_imported():
    """What a GPU costs those who have none: nothing."""
    code = (
        "import sys, importlib.util as u; from lightcurver_ops.numerics import device, photometry\n"
        "from lightcurver_ops.numerics.roi import fit\n"
        "none = u.find_spec('jax_plugins') is None\n"
        "assert device.device().xp.__name__ == ('numpy' if none else device.device().xp.__name__)\n"
        "assert 'jax' not in sys.modules or not none"
    )
    environment = {name: value for name, value in os.environ.items() if name != device.CHOICE}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_jax_is_taken_where_there_is_a_gpu(monkeypatch):
    monkeypatch.delenv(device.CHOICE, raising=False)
    for gpu, fixed in ((True, True), (False, False)):
        monkeypatch.setattr(device, "has_gpu", lambda gpu=gpu: gpu)
        assert device.device().fixed is fixed


def test_precision_is_double_whatever_the_process_has_set():
    import jax

    def third(x, *, xp):
        return x @ x / xp.asarray(3.0)

    with jax.enable_x64(False):
        found = device.JaxDevice().call(third, np.full((2, 2), 1.0 / 3.0))
        assert found.dtype == np.float64
    np.testing.assert_allclose(np.asarray(found), 2.0 / 27.0, rtol=1e-15)
