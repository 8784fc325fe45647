"""What one epoch sees of points and background, against directly drawn images and against each other."""

import numpy as np
import pytest

from lightcurver_ops.numerics.psf.operators import narrow_from_full
from lightcurver_ops.numerics.roi import galaxy, render
from lightcurver_ops.numerics.roi.epoch import Layout, back_projected_variance
from lightcurver_ops.numerics.starlet import starlet
from lightcurver_ops.simulation.galaxies import draw_extended, sersic
from lightcurver_ops.simulation.psf import Psf

N, K = 16, 2
FINE = N * K
PSF = Psf(3.2, shear=(0.05, 0.0)).at()
CENTRE = (N - 1) / 2


@pytest.mark.parametrize("side", [48, 49])
def test_points_are_where_and_what_they_are_drawn(side):
    full = PSF.image(side / K, K)
    at = np.array([[0.3, -1.2], [2.0, 0.7]])
    images = render.point_images(narrow_from_full(full), at, N, K)[0]
    for position, image in zip(at, images, strict=True):
        drawn = PSF.star(N, *(CENTRE + position))
        np.testing.assert_allclose(image, drawn, atol=1.5e-3 * drawn.max())


def test_each_point_has_the_psf_of_its_place():
    shapes = [Psf(seeing).at() for seeing in (3.1, 3.2, 3.3)]
    left, middle, right = (shape.image(48 / K, K) for shape in shapes)
    slope = np.stack([(right - left) / 6, np.zeros_like(middle)])[None]  # per pixel along x
    at = np.array([[3.0, 0.5], [0.0, -3.0]])
    narrow = render.narrow_psfs(middle[None], slope, at, np.zeros(1))
    images = render.point_images(narrow, at[None], N, K)[0][0]
    for position, image, shape in zip(at, images, (shapes[2], shapes[1]), strict=True):
        drawn = shape.star(N, *(CENTRE + position))
        np.testing.assert_allclose(image, drawn, atol=4e-3 * drawn.max())  # the change is 6 % of the peak
    # Turned by 180 degrees, the first lies on the other side.
    turned = render.narrow_psfs(middle[None], slope, at, np.array([np.pi]))
    np.testing.assert_allclose(turned[0, 0], narrow_from_full(left), atol=5e-3 * left.max())
    # Without a slope it is one PSF for all.
    assert render.narrow_psfs(middle[None], None, at, np.zeros(1)).shape == (1, 48, 48)


@pytest.mark.parametrize("side", [40, 49])
def test_one_pixel_of_the_background_looks_like_a_point(side):
    full = PSF.image(side / K, K)
    shift = np.array([0.31, -0.17])
    operator = render.BackgroundView(full, shift, N, K).matrix(np.eye(N * K))
    u, v = 18, 13
    position = (np.array([[u, v]]) - (FINE - 1) / 2) / K + shift
    point = render.point_images(narrow_from_full(full), position, N, K)[0][0]
    np.testing.assert_allclose(operator[:, v * FINE + u].reshape(N, N), point, atol=1e-3 * point.max())


def test_background_images_are_the_operator_and_its_derivatives():
    rng = np.random.default_rng(1)
    full = PSF.image(40 / K, K)
    shift, h = np.array([0.2, -0.4]), rng.random((FINE, FINE))

    def seen(move):
        return (
            render.BackgroundView(full, shift + move, N, K).matrix(np.eye(N * K)).astype(float) @ h.ravel()
        ).reshape(N, N)

    light = render.Light.of(h, 0.0, 40)
    value, dx, dy = render.BackgroundView(full, shift, N, K).images(light)
    np.testing.assert_allclose(value, seen(0), rtol=1e-5)
    np.testing.assert_allclose(render.BackgroundView(full, shift, N, K).image(light), value, rtol=1e-12)
    step = 1e-2
    for derivative, axis in ((dx, 0), (dy, 1)):
        move = step * np.eye(2)[axis]
        numeric = (seen(move) - seen(-move)) / (2 * step)
        np.testing.assert_allclose(derivative, numeric, atol=2e-3 * np.abs(numeric).max())


def test_light_around_the_grid_shines_in():
    full = PSF.image(40 / K, K)
    wide = np.zeros((FINE + 16, FINE + 16))
    wide[20, 5] = 1.0  # 3 small pixels left of the grid
    light = render.Light.of(np.zeros((FINE, FINE)), 0.0, 40, wide)
    image = render.BackgroundView(full, np.zeros(2), N, K).images(light)[0]
    position = (np.array([[5, 20]]) - (FINE + 15) / 2) / K
    point = render.point_images(narrow_from_full(full), position, N, K)[0][0]
    np.testing.assert_allclose(image, point, atol=1e-3 * full.max())


def test_rotation_keeps_flux_and_place():
    h = np.zeros((FINE, FINE))
    h[19, 24] = 2.0
    grid = np.arange(FINE) - (FINE - 1) / 2
    for angle in (0.02, 1.0, np.pi + 0.003):
        turned = (render.rotation_operator(angle, FINE) @ h.ravel()).reshape(FINE, FINE)
        assert turned.sum() == pytest.approx(2.0, rel=1e-6)
        centroid = np.array([(turned.sum(0) @ grid), (turned.sum(1) @ grid)]) / 2.0
        np.testing.assert_allclose(
            centroid, render.rotate(np.array([[grid[24], grid[19]]]), angle)[0], atol=1e-5
        )


def test_half_and_quarter_turns_are_permutations():
    h = np.random.default_rng(0).random((FINE, FINE))
    half = (render.rotation_operator(np.pi, FINE) @ h.ravel()).reshape(FINE, FINE)
    np.testing.assert_allclose(half, h[::-1, ::-1], rtol=1e-6)
    quarter = (render.rotation_operator(np.pi / 2, FINE) @ h.ravel()).reshape(FINE, FINE)
    np.testing.assert_allclose(quarter, np.rot90(h, -1), rtol=1e-6)


def test_high_resolution_sources():
    image = render.high_resolution_sources(np.array([[1.3, -2.0]]), np.array([5.0]), N, K)
    grid = (np.arange(FINE) - (FINE - 1) / 2) / K
    assert image.sum() == pytest.approx(5.0, rel=1e-4)
    assert image.sum(0) @ grid / 5.0 == pytest.approx(1.3, abs=1e-3)
    assert image.sum(1) @ grid / 5.0 == pytest.approx(-2.0, abs=1e-3)
    assert render.high_resolution_sources(np.zeros((0, 2)), np.zeros(0), N, K).shape == (FINE, FINE)


def test_starlet_noise_is_that_of_back_projected_draws():
    rng = np.random.default_rng(3)
    weight = rng.uniform(0.5, 2.0, (N, N))
    weight[4:7, 9] = 0.0
    full = PSF.image(40 / K, K)
    layout = Layout(N, K, 0, 0.0, False, False, True)
    operator = render.BackgroundView(full, np.zeros(2), N, K).matrix(np.eye(N * K)).astype(float)
    draws = rng.normal(size=(600, N * N)) * np.sqrt(weight.ravel())
    coefficients = starlet((draws @ operator).reshape(-1, FINE, FINE))[:, :-1]
    ratio = coefficients.std(axis=0) / np.sqrt(
        back_projected_variance(weight[None], full[None], layout=layout)
    )
    # At the edge the transform of the whole background sees zeros outside: compare inside.
    inside = ratio[:3, 8:-8, 8:-8]
    np.testing.assert_allclose(inside.mean(axis=(1, 2)), 1.0, atol=0.03)
    np.testing.assert_allclose(inside, 1.0, atol=0.2)


def test_galaxy_profile_is_the_drawn_galaxy():
    full = PSF.image(64 / K, K)
    theta = np.array([100.0, 0.9, -0.5, np.log(4.0), np.log(1.5), 0.1, 0.0])
    h = galaxy.profile(theta, galaxy.Frame.of(FINE))
    image = render.BackgroundView(full, np.zeros(2), N, K).images(render.Light.of(h, 0.0, 64))[0]
    # e = (1 - q) / (1 + q); the drawn radius is along the major axis, ours the mean of the axes.
    q = 0.9 / 1.1
    x, y = CENTRE + 0.45, CENTRE - 0.25
    drawn = 100.0 * draw_extended((N, N), sersic(1.5, 2.0 / np.sqrt(q), q, 0.0), PSF.profile(), x, y)
    inner = np.s_[4:12, 4:12]
    np.testing.assert_allclose(image[inner], drawn[inner], rtol=0.02)


def test_galaxy_turns_with_the_scene():
    theta = np.array([100.0, 3.2, -1.1, np.log(4.0), np.log(1.5), 0.2, 0.1])
    frame = galaxy.Frame.of(FINE)
    turned = galaxy.profile(galaxy.turned(theta, np.pi / 2), frame)
    np.testing.assert_allclose(turned, np.rot90(galaxy.profile(theta, frame), -1), rtol=1e-6, atol=1e-8)
