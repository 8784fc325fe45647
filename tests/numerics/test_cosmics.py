import numpy as np
import pytest

from lightcurver_ops.numerics.cosmics import bad_rows_and_columns, good_pixels, good_stamps
from lightcurver_ops.numerics.cutouts import cutout
from lightcurver_ops.numerics.noise import noise_map

EXPTIME, SKY = 100.0, 20.0
RMS = np.sqrt(SKY * EXPTIME + 25) / EXPTIME


def star_field(fwhm, *, moffat=False, side=240, seed=1):
    """Stars up to a signal-to-noise of 1000, and well apart: image, noise, positions."""
    rng = np.random.default_rng(seed)
    image, positions = np.zeros((side, side)), []
    offsets = (np.arange(7) + 0.5) / 7 - 0.5
    y, x = np.mgrid[-14:15, -14:15]
    for cy in range(20, side - 20, 33):
        for cx in range(20, side - 20, 33):
            dx, dy = rng.uniform(-0.5, 0.5, 2)
            squared = (x[..., None, None] + offsets - dx) ** 2 + (
                y[..., None, None] + offsets[:, None] - dy
            ) ** 2
            if moffat:
                profile = (1 + squared * 4 * (2 ** (1 / 3) - 1) / fwhm**2) ** -3.0
            else:
                profile = np.exp(-4 * np.log(2) * squared / fwhm**2)
            profile = profile.mean(axis=(2, 3))
            image[cy - 14 : cy + 15, cx - 14 : cx + 15] += (
                10 ** rng.uniform(1.5, 4.0) * profile / profile.sum()
            )
            positions.append((cx, cy))
    electrons = rng.poisson((image + SKY) * EXPTIME) + 5 * rng.standard_normal(image.shape)
    data = electrons / EXPTIME - SKY
    return data, noise_map(data, RMS, EXPTIME), positions


@pytest.mark.parametrize(
    ("fwhm", "moffat"), [(1.3, False), (1.6, False), (2.0, True), (3.0, True), (5.0, True)]
)
def test_cores_of_stars_are_not_masked(fwhm, moffat):
    data, noise, positions = star_field(fwhm, moffat=moffat)
    good = good_pixels(data, noise, fwhm=fwhm)
    cores = np.array([good[y - 2 : y + 3, x - 2 : x + 3].all() for x, y in positions])
    assert cores.mean() >= 0.97
    assert (~good).mean() < 1e-3


def test_cores_survive_without_knowing_the_seeing():
    data, noise, positions = star_field(1.6)
    good = good_pixels(data, noise)
    assert all(good[y - 1 : y + 2, x - 1 : x + 2].all() for x, y in positions)


@pytest.mark.parametrize("fwhm", [1.6, 3.0])
def test_cosmics_are_found_also_beside_stars(fwhm):
    data, _, positions = star_field(fwhm)
    hits = []
    for x, y in positions[::2]:
        # A single pixel, a track across the wing of the star, and a track on the sky.
        hits += [
            (y - 9, x + 4),
            *((y + 5 + k, x + 3) for k in range(4)),
            *((y - 13, x - 6 + k) for k in range(5)),
        ]
    rows, columns = np.array(hits).T
    data[rows, columns] += 40 * RMS
    good = good_pixels(data, noise_map(data, RMS, EXPTIME), fwhm=fwhm)
    assert (~good[rows, columns]).mean() > 0.97


def test_a_hit_on_the_core_is_not_taken_for_a_star():
    data, _, positions = star_field(3.0)
    struck = positions[::3]
    for x, y in struck:
        data[y, x] += 4 * data[y - 1 : y + 2, x - 1 : x + 2].max()
    good = good_pixels(data, noise_map(data, RMS, EXPTIME), fwhm=3.0)
    assert sum(not good[y, x] for x, y in struck) >= 0.9 * len(struck)


def test_stamps_agree_with_the_whole_frame_and_see_their_borders():
    data, noise, positions = star_field(3.0)
    x, y = positions[8]
    _, (x0, y0) = cutout(data, x, y, 24)
    data[y0, x0 + 4 : x0 + 8] += 40 * RMS
    data[y0 + 10, x0 + 23] += 40 * RMS
    noise = noise_map(data, RMS, EXPTIME)
    stamp = good_stamps(data, noise, [(x0, y0)], 24)[0]
    assert not stamp[0, 4:8].any()
    assert not stamp[10, 23]
    whole = good_pixels(data, noise)[y0 : y0 + 24, x0 : x0 + 24]
    assert (stamp != whole).sum() <= 3


def test_stamps_outside_of_the_frame_are_not_good():
    data, noise, _ = star_field(3.0)
    stamps = good_stamps(data, noise, [(-10, 50), (500, 500)], 24)
    assert not stamps[0, :, :10].any()
    assert stamps[0, :, 12:].mean() > 0.98
    assert not stamps[1].any()


def test_saturated_and_non_finite_pixels_are_not_good():
    data, noise, _ = star_field(3.0)
    saturated = np.zeros(data.shape, dtype=bool)
    saturated[50, 60] = True
    data[70, 80], noise[90, 100], noise[110, 120] = np.nan, np.inf, 0.0
    good = good_pixels(data, noise, saturated=saturated, clean_cosmics=False, mask_bad_rows_and_columns=False)
    assert sorted(map(tuple, np.argwhere(~good).tolist())) == [(50, 60), (70, 80), (90, 100), (110, 120)]


@pytest.mark.parametrize("transposed", [False, True])
def test_hot_dead_and_stuck_lines(transposed):
    data, _, _ = star_field(4.0)
    data[:, 30] += 3 * RMS
    data[:, 77:79] = -SKY
    data[:, 140] = 0.0
    data[:, 200] = np.nan
    if transposed:
        data = data.T
    bad = bad_rows_and_columns(data, noise_map(data, RMS, EXPTIME))
    lines = bad.all(axis=1 if transposed else 0)
    np.testing.assert_array_equal(np.flatnonzero(lines), [30, 77, 78, 140, 200])
    assert bad.sum() == 5 * 240


def test_good_lines_are_left_alone():
    data, noise, _ = star_field(6.0, moffat=True)
    assert not bad_rows_and_columns(data, noise).any()
    gradient = np.linspace(0, 30 * RMS, 240)
    assert not bad_rows_and_columns(data + gradient, noise).any()
    coarse = np.round(data / RMS) * RMS
    assert not bad_rows_and_columns(coarse, noise).any()


def test_nothing_usable_at_all():
    nothing = np.full((40, 40), np.nan)
    assert not good_pixels(nothing, nothing).any()
