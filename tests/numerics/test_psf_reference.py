"""Our PSF fit against STARRED's: the same objective, a solution at least as good."""

from dataclasses import replace

import numpy as np
import pytest

from lightcurver_ops.numerics.psf.fit import fit_psfs
from lightcurver_ops.numerics.psf.reference import starred_loss
from tests.model_stamps import model_stamps


@pytest.fixture(scope="module")
def both():
    stamps = model_stamps(21, n_stars=4, size=16)
    good = np.ones(stamps.data.shape, dtype=bool)
    good[:, 1, 3, 12] = False
    ours = fit_psfs(stamps.data, stamps.noise, good, fwhm_guess=3.0, local_sky=False)
    theirs = fit_psfs(
        stamps.data,
        stamps.noise,
        good,
        fwhm_guess=3.0,
        solver="starred",
        n_iter_analytic=40,
        n_iter_pixels=800,
    )
    return stamps, ours, theirs


def test_starreds_loss_of_our_solution_is_no_worse_than_of_its_own(both):
    stamps, ours, theirs = both
    assert ours.used.all()
    np.testing.assert_array_equal(ours.good, theirs.good)
    values = [
        starred_loss(stamps.data[0], stamps.noise[0], ours.good[0], fits, 0, 2) for fits in (ours, theirs)
    ]
    # The loss that build_psf itself reports, as a check that we evaluate the same function.
    assert values[1] == pytest.approx(theirs.loss[0], rel=2e-3)
    assert values[0] < 1.001 * values[1]
    # Ours differs from STARRED's only by the weights: in closed form instead of 100 draws.
    assert ours.loss[0] == pytest.approx(values[0], rel=3e-3)


def test_both_solvers_agree_on_the_psf(both):
    stamps, ours, theirs = both
    assert np.abs(ours.full_psf - theirs.full_psf).sum() < 0.01
    np.testing.assert_allclose(ours.amplitude, theirs.amplitude, rtol=3e-3)
    np.testing.assert_allclose(ours.moffat[0, [0, 1, 3]], theirs.moffat[0, [0, 1, 3]], rtol=0.02)
    assert theirs.status == ["ok"]
    assert np.abs(theirs.full_psf - stamps.psf).sum() < 0.03


def test_starreds_loss_of_a_fit_with_backgrounds_is_that_of_the_data_without_them(both):
    stamps, ours, _ = both
    fits = replace(ours, background=np.array([[0.05, -0.02, 0.0, 0.03]]))
    values = [
        starred_loss(stamps.data[0] - sky[:, None, None], stamps.noise[0], ours.good[0], one, 0, 2)
        for sky, one in ((np.zeros(4), fits), (fits.background[0], ours))
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    without = starred_loss(stamps.data[0], stamps.noise[0], ours.good[0], ours, 0, 2)
    assert values[0] != pytest.approx(without, rel=1e-4)


def test_starreds_distortion_is_ours():
    """Its matrix acts on (y, x), and linear terms are all it has."""
    from starred.psf.psf import apply_distortion

    from lightcurver_ops.numerics.psf.distortion import distort

    stamps = model_stamps(22, n_stars=1, size=24)
    names = {"dilation_y": (0.02, -0.01), "dilation_x": (-0.03, 0.01), "shear": (0.01, 0.03)}
    place = np.array([0.8, -0.6])
    theirs = apply_distortion(stamps.narrow_psf[0], {k: np.array(v) for k, v in names.items()}, place)
    ours = np.zeros((1, 3, 5))
    ours[0, :, :2] = list(names.values())
    ours = distort(stamps.narrow_psf, ours.reshape(1, 15), place[None, None])[0, 0]
    moved = np.abs(np.asarray(theirs) - stamps.narrow_psf[0]).sum()
    assert np.abs(ours - theirs).sum() < 0.25 * moved
