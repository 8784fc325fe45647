"""Errors of the joint model in two parts: what scatters from epoch to epoch, and what all epochs share."""

import numpy as np
import pytest

from lightcurver_ops.numerics.roi.finish import finish
from lightcurver_ops.numerics.roi.fit import fit_roi, set_up
from lightcurver_ops.numerics.roi.points import points_only
from lightcurver_ops.numerics.roi.result import RoiOptions
from lightcurver_ops.simulation.psf import Psf

K = 2
SKY = 40.0
SIZE = 14
PAIR = np.array([[-0.9, 0.1], [0.9, -0.2]])  # less than the seeing apart: the positions are in the fluxes
FLUX = np.array([60000.0, 30000.0])
WIDTHS = np.array([2.4, 4.6, 2.8, 4.2, 2.6, 4.4])


@pytest.fixture(scope="module")
def pair():
    """Two blended images in epochs of different seeing, without noise: model [E, n, n], sigma, PSFs, translations."""
    rng = np.random.default_rng(1)
    shifts = rng.normal(0, 0.2, (len(WIDTHS), 2))
    images, psfs = [], []
    for width, shift in zip(WIDTHS, shifts, strict=True):
        psf = Psf(width).at()
        at = PAIR + shift + (SIZE - 1) / 2
        images.append(sum(flux * psf.star(SIZE, *place) for flux, place in zip(FLUX, at, strict=True)))
        psfs.append(psf.image(2 * SIZE, K))
    model = np.array(images)
    return model, np.sqrt(model + SKY), np.array(psfs), shifts


def fitted(pair, data, **others):
    _, sigma, psfs, shifts = pair
    good = np.ones(data.shape, dtype=bool)
    return fit_roi(
        data,
        sigma,
        good,
        psfs,
        subsampling=K,
        positions=PAIR,
        translations=shifts,
        optimise_background=False,
        **others,
    )


def normal_equations(pair):
    """The whole normal matrix of 5 unknowns an epoch (fluxes, translation, sky) and 4 positions, by differences."""
    model, sigma, psfs, shifts = pair
    options = RoiOptions()
    problem, state = set_up(
        model, sigma, np.ones(model.shape, dtype=bool), psfs, K, PAIR, shifts, None, False, None, False, None,
        options, like_starred=False,
    )  # fmt: skip
    state = points_only(problem, state).state
    count, per = len(model), 5
    start = np.concatenate(
        [np.column_stack([state.locals.flux, state.locals.translation, state.locals.sky]).ravel(),
         state.scene.positions.ravel()]
    )  # fmt: skip
    steps = np.concatenate([np.tile([1.0, 1.0, 1e-3, 1e-3, 0.1], count), np.full(4, 1e-3)])

    def image(unknowns):
        own, positions = unknowns[: per * count].reshape(count, per), unknowns[per * count :].reshape(2, 2)
        local = state.locals._replace(flux=own[:, :2], translation=own[:, 2:4], sky=own[:, 4])
        scene = type(state.scene)(positions, *(getattr(state.scene, name) for name in
                                               ("mean", "theta", "structure", "frame")))  # fmt: skip
        seen = np.zeros_like(model)
        for block in problem.blocks(type(state)(scene, local)):
            seen[block.place.chosen] = block.model
        return (seen / sigma).ravel()

    rows = np.array(
        [
            (image(start + h * one) - image(start - h * one)) / (2 * h)
            for h, one in zip(steps, np.eye(len(start)), strict=True)
        ]
    )
    prior = np.zeros(len(start))
    for e in range(count):
        prior[per * e + 2 : per * e + 4] = options.translation_sigma**-2
        prior[per * e + 4] = 1 / (options.sky_sigma * np.median(sigma[e])) ** 2
    return rows @ rows.T + np.diag(prior), finish(problem, points_only(problem, state))


def test_both_parts_are_those_of_the_whole_normal_matrix(pair):
    matrix, fit = normal_equations(pair)
    count, per = len(WIDTHS), 5
    places = np.array([[per * e, per * e + 1] for e in range(count)])
    whole = np.linalg.inv(matrix)
    own = [slice(per * e, per * (e + 1)) for e in range(count)]
    local = np.array([np.linalg.inv(matrix[part, part])[:2, :2] for part in own])
    # Between epochs, only what is common links fluxes; within one, its own noise is added.
    linked = np.array([[whole[np.ix_(a, b)] for b in places] for a in places])
    linked[np.arange(count), np.arange(count)] -= local
    weight = 1 / np.einsum("ejj->ej", local)
    weight /= weight.sum(axis=0)
    common = np.einsum("ej,fk,efjk->jk", weight, weight, linked)
    np.testing.assert_allclose(fit.common_flux_covariance, common, rtol=2e-3)
    np.testing.assert_allclose(fit.common_flux_uncertainty, np.sqrt(np.diag(common)), rtol=1e-3)
    with_mean = np.einsum("ej,efjk->fjk", weight, linked)  # covariance of the mean with epoch f
    expected = np.array(
        [local[e] + linked[e, e] - with_mean[e] - with_mean[e].T + common for e in range(count)]
    )
    np.testing.assert_allclose(fit.flux_covariance, expected, rtol=2e-3)
    # It is no small matter here, neither in all epochs nor in the differences between them.
    assert np.all(fit.common_flux_uncertainty > 0.5 * fit.flux_uncertainty.min(axis=0))
    assert np.max(fit.flux_covariance / local) > 1.005  # more than twice what is tolerated above


def test_scatter_and_offset_are_what_the_two_parts_say(pair):
    """Over realisations of the noise; the mean of both in one would be wrong for either."""
    model, sigma, _, _ = pair
    rng = np.random.default_rng(2)
    ratios, offsets = [], []
    for _ in range(60):
        fit = fitted(pair, model + rng.normal(size=model.shape) * sigma)
        error, difference = fit.flux_uncertainty, fit.flux - FLUX
        weight = error**-2 / np.sum(error**-2, axis=0)
        mean = np.sum(weight * difference, axis=0)
        ratios.append(np.sum(((difference - mean) / error) ** 2, axis=0) / (len(WIDTHS) - 1))
        offsets.append(mean / np.hypot(fit.common_flux_uncertainty, np.sum(error**-2, axis=0) ** -0.5))
    assert np.sqrt(np.mean(ratios)) == pytest.approx(
        1.0, abs=0.07
    )  # known to 0.04: the images mirror each other
    assert np.sqrt(np.mean(np.square(offsets))) == pytest.approx(1.0, abs=0.15)


def test_nothing_is_common_where_nothing_common_is_free(pair):
    fit = fitted(pair, pair[0], fix_astrometry=True)
    assert not fit.common_flux_covariance.any()
    np.testing.assert_array_equal(fit.common_flux_uncertainty, 0.0)
