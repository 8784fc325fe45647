import numpy as np
import pytest

from lightcurver_ops.errors import BadFrame
from lightcurver_ops.numerics.seeing import seeing_pixels


@pytest.mark.parametrize("truth", [1.8, 2.5, 4.0, 9.0])
@pytest.mark.parametrize("n_stars", [15, 60, 1000])
def test_stars_stand_out_from_cosmics_and_galaxies(truth, n_stars):
    results = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        stars = truth * (1 + 0.05 * rng.standard_normal(n_stars))
        cosmics = rng.uniform(0.7, 0.75 * truth, n_stars // 3)
        galaxies = truth * rng.uniform(1.2, 5.0, n_stars // 3)
        results.append(seeing_pixels(np.concatenate([stars, cosmics, galaxies])))
    np.testing.assert_allclose(np.median(results), truth, rtol=0.02)
    assert np.max(np.abs(np.array(results) / truth - 1)) < 0.15


def test_many_cosmics_of_one_width_are_no_seeing():
    rng = np.random.default_rng(1)
    flux = 10 ** rng.uniform(1.3, 3.8, 40)
    stars = 6.0 * (1 + 0.2 * np.log10(flux)) * (1 + 0.03 * rng.standard_normal(40))
    cosmics = rng.normal(1.65, 0.05, 60)
    fwhm, flux = np.concatenate([stars, cosmics]), np.concatenate([flux, rng.uniform(12, 18, 60)])
    assert seeing_pixels(fwhm) < 2.0  # what the widths alone say
    assert 7.0 < seeing_pixels(fwhm, flux=flux) < 11.0


def test_flagged_and_elongated_sources_are_left_aside():
    stars, blends = np.full(40, 4.0), np.full(60, 6.5)
    fwhm = np.concatenate([stars, blends])
    flag = np.concatenate([np.zeros(40, int), np.ones(60, int)])
    assert seeing_pixels(fwhm) == 6.5
    assert seeing_pixels(fwhm, flag=flag) == 4.0
    assert seeing_pixels(fwhm, ellipticity=0.8 * flag) == 4.0


def test_few_sources_give_their_median():
    assert seeing_pixels(np.array([3.0, 4.0, 20.0, np.nan, -1.0])) == 4.0


def test_identical_widths():
    assert seeing_pixels(np.full(50, 3.3)) == 3.3


@pytest.mark.parametrize("fwhm", [[], [np.nan, 0.0]])
def test_no_source_eliminates_the_frame(fwhm):
    with pytest.raises(BadFrame, match="no source"):
        seeing_pixels(np.array(fwhm))
