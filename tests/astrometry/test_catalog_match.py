"""Solving against catalogue stars: right where it answers, silent where it cannot know."""

from dataclasses import replace

import numpy as np
import pytest

from lightcurver_ops.astrometry.base import Catalogue
from lightcurver_ops.astrometry.catalog_match import CatalogMatchSolver
from lightcurver_ops.astrometry.geometry import plate_scale
from lightcurver_ops.astrometry.verification import verify
from lightcurver_ops.errors import BadFrame

SOLVER = CatalogMatchSolver()
SHORT = CatalogMatchSolver(max_tiles=9)  # what cannot be solved need not be searched for long


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", [0.0, 37.0, 180.0, 271.0])
def test_any_rotation_and_both_parities(sim, angle, mirrored):
    model, request = sim.frame(1, angle=angle, mirrored=mirrored)
    solution = SOLVER.solve(request)
    assert sim.corner_errors_px(solution.wcs, model).max() < 0.4
    assert solution.n_matched > 20


def test_the_residuals_are_those_of_the_centroids(sim):
    # 0.2 px in each coordinate; a fit of 6 parameters to n pairs leaves the share 1 - 3/n of the variance.
    ratios = []
    for seed in range(12):
        model, request = sim.frame(seed)
        solution = SOLVER.solve(request)
        ratios.append((solution.rms_arcsec / model.scale) ** 2 / (2 * 0.2**2 * (1 - 3 / solution.n_matched)))
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize("scale", [0.41, 0.5, 1.0, 1.55])
def test_the_scale_is_fitted_wherever_it_lies_in_a_wide_interval(sim, scale):
    model, request = sim.frame(2, interval=(0.4, 1.6), scale=scale)
    solution = SOLVER.solve(request)
    assert plate_scale(solution.wcs, request.shape) == pytest.approx(scale, rel=1e-3)
    assert sim.corner_errors_px(solution.wcs, model).max() < 0.5


@pytest.mark.parametrize("centre", [(0.01, 30.0), (359.99, -50.0), (77.0, 89.97), (200.0, -89.99)])
def test_across_ra_zero_and_at_the_poles(sim, centre):
    model, request = sim.frame(3, centre=centre)
    assert sim.corner_errors_px(SOLVER.solve(request).wcs, model).max() < 0.5


def test_a_hint_several_fields_away_within_the_radius(sim):
    rng = np.random.default_rng(4)
    sky = sim.random_sky(rng, (150.0, 2.0), 0.8, 6000)
    model = sim.camera((150.3, 2.3), 0.7, 15.0)
    request = sim.make_request(rng, model, sky, (0.6, 0.8), hint=(150.0, 2.0), radius=0.5)
    assert sim.corner_errors_px(SOLVER.solve(request).wcs, model).max() < 0.5


def test_half_the_stars_missing_and_as_many_false(sim):
    model, request = sim.frame(5, lost=0.5, false=50)
    assert sim.corner_errors_px(SOLVER.solve(request).wcs, model).max() < 0.6


def test_the_matrix_may_have_unequal_scales(sim):
    rng = np.random.default_rng(6)
    sky = sim.random_sky(rng, (10.0, -20.0), 0.3, 1500)
    square = sim.camera((10.0, -20.0), 0.7, 33.0)
    model = replace(square, cd=square.cd @ np.diag([1.01, 1.0]))
    solution = SOLVER.solve(sim.make_request(rng, model, sky, (0.6, 0.8)))
    assert sim.corner_errors_px(solution.wcs, model).max() < 0.5


@pytest.mark.parametrize("seed", range(12))
def test_a_few_stars_are_solved_right_or_not_at_all(sim, seed):
    model, request = sim.frame(100 + seed, stars_per_frame=8, false=8)
    try:
        solution = SOLVER.solve(request)
    except BadFrame:
        return
    assert sim.corner_errors_px(solution.wcs, model).max() < 1.5


@pytest.mark.parametrize("seed", range(2))
def test_another_sky_is_never_accepted(sim, seed):
    _, request = sim.frame(200 + seed, stars_per_frame=20, radius=0.05)
    rng = np.random.default_rng(seed)
    other = sim.random_sky(rng, (request.hint_ra, request.hint_dec), 0.3, 500)
    with pytest.raises(BadFrame, match="no match"):
        SHORT.solve(replace(request, catalogue=other))


@pytest.mark.parametrize("interval", [(0.2, 0.3), (0.75, 0.95), (1.3, 1.5)])
def test_a_wrong_scale_interval_is_never_accepted(sim, interval):
    _, request = sim.frame(7, stars_per_frame=20, radius=0.02)
    with pytest.raises(BadFrame, match="no match"):
        SHORT.solve(replace(request, plate_scale_interval=interval))


def test_a_hint_on_the_other_side_of_the_sky_finds_no_stars(sim):
    _, request = sim.frame(8)
    with pytest.raises(BadFrame, match=r"too few stars.* 0 of \d+ catalogue stars"):
        SOLVER.solve(replace(request, hint_ra=300.0, hint_dec=-40.0))


def test_a_frame_further_than_the_radius_is_not_accepted(sim):
    _, request = sim.frame(9, hint=(150.0, 2.06), radius=0.02)
    with pytest.raises(BadFrame):
        SHORT.solve(request)


def test_clumped_stars_do_not_make_chance_look_certain(sim):
    rng = np.random.default_rng(10)
    _, request = sim.frame(10, stars_per_frame=60, radius=0.05)
    clump_x, clump_y = rng.normal(325, 12, 150), rng.normal(250, 12, 150)
    sky = Catalogue(
        150.0 + rng.normal(0, 0.0025, 150), 2.0 + rng.normal(0, 0.0025, 150), rng.uniform(12, 18, 150)
    )
    with pytest.raises(BadFrame):
        SHORT.solve(replace(request, x=clump_x, y=clump_y, flux=rng.uniform(1, 9, 150), catalogue=sky))


def test_no_catalogue_no_interval_no_sources(sim):
    _, request = sim.frame(11)
    with pytest.raises(BadFrame, match="no catalogue"):
        SOLVER.solve(replace(request, catalogue=None))
    with pytest.raises(BadFrame, match="plate_scale_interval"):
        SOLVER.solve(replace(request, plate_scale_interval=None))
    empty = np.array([])
    with pytest.raises(BadFrame, match="0 sources"):
        SOLVER.solve(replace(request, x=empty, y=empty, flux=empty))


def test_real_frames(hatp32_requests):
    for request in hatp32_requests:
        solution = SOLVER.solve(request)
        check = verify(solution.wcs, request.shape, request.x, request.y, request.catalogue)
        assert check.n_matched >= 20
        assert check.rms_pixels < 0.5
        assert check.log10_chance < -20
        assert plate_scale(solution.wcs, request.shape) == pytest.approx(5.164, abs=0.01)


def test_real_frames_with_a_wrong_scale_interval(hatp32_requests):
    for interval in ((2.0, 2.8), (5.3, 6.0), (9.0, 12.0)):
        with pytest.raises(BadFrame):
            SHORT.solve(replace(hatp32_requests[0], plate_scale_interval=interval))
