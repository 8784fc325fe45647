import numpy as np

from lightcurver_ops.numerics.noise import inflate_masked, noise_map


def test_noise_is_the_scatter_of_poisson_realisations():
    rng = np.random.default_rng(3)
    exptime, sky, read_noise = 50.0, 20.0, 6.0
    for rate in (0.0, 5.0, 400.0):
        electrons = rng.poisson((sky + rate) * exptime, 200_000) + read_noise * rng.standard_normal(200_000)
        rms = np.sqrt(sky * exptime + read_noise**2) / exptime
        expected = noise_map(np.full((1, 1), rate), rms, exptime)[0, 0]
        np.testing.assert_allclose(np.std(electrons / exptime - sky), expected, rtol=0.01)


def test_negative_pixels_have_a_noise_and_nan_stays():
    noise = noise_map(np.array([[-4.0, np.nan]]), 0.5, 10.0)
    np.testing.assert_allclose(noise[0, 0], np.sqrt(25 + 40) / 10)
    assert np.isnan(noise[0, 1])


def test_masked_pixels_lose_their_weight_but_stay_finite():
    data = np.array([[1.0, 2.0], [np.nan, 4.0]])
    noise = np.array([[0.1, 0.2], [0.3, np.nan]])
    good = np.array([[True, False], [True, True]])
    out_data, out_noise = inflate_masked(data, noise, good)
    np.testing.assert_allclose(out_data, [[1.0, 2.0], [0.0, 0.0]])
    np.testing.assert_allclose(out_noise, [[0.1, 200.0], [100.0, 100.0]])
