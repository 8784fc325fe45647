"""Nights against a published worked example and against direct computation."""

import numpy as np
import pytest

from lightcurver_ops.numerics.nights import combine_nights, group_into_nights, magnitudes

# Four exposures of one night and their combination: the example notebook published with lightcurver
# (light curves of a quadruply imaged quasar with images A to D), rounded there to six decimals.
MJD = [59374.381451, 59374.38616, 59374.390862, 59374.395478]
FLUX = np.array(
    [
        [216.1315, 133.048813, 36.346588, 17.898394],
        [208.862274, 130.451233, 35.59346, 23.407118],
        [215.772339, 132.962738, 38.605995, 18.519173],
        [214.926422, 133.269562, 37.810364, 17.413828],
    ]
)
D_FLUX = np.array(
    [
        [1.073849, 1.149095, 1.085138, 0.980348],
        [1.093701, 1.136211, 1.044018, 0.953035],
        [1.061216, 1.082819, 0.958929, 0.887155],
        [1.166464, 1.140817, 1.003927, 0.916594],
    ]
)
ZEROPOINT = 25.241967


def test_published_night():
    night = combine_nights(FLUX, D_FLUX, MJD)
    assert night.mjd == pytest.approx([59374.388488], abs=1e-6)
    assert night.scatter_mjd == pytest.approx([0.00604], abs=1e-6)
    assert night.count.tolist() == [[4, 4, 4, 4]]
    assert night.flux[0, 0] == pytest.approx(213.942256, abs=3e-6)
    assert night.d_flux[0, 0] == pytest.approx(0.548319, abs=1e-6)
    assert night.scatter_flux[0, 0] == pytest.approx(2.973885, abs=2e-6)
    m = magnitudes(night.flux, night.d_flux, ZEROPOINT)
    assert m.mag[0, 1:] == pytest.approx([19.93691, 21.316096, 22.030199], abs=1e-6)
    assert m.d_mag[0, 1:] == pytest.approx([0.004617, 0.014888, 0.026274], abs=1e-6)
    scatter = magnitudes(night.flux, night.scatter_flux, ZEROPOINT).d_mag
    assert scatter[0, 1:] == pytest.approx([0.009355, 0.034932, 0.132986], abs=1e-6)


def test_nights_split_at_gaps_whatever_the_order():
    mjd = np.array([10.1, 10.2, 10.9, 11.75, 9.2])
    assert group_into_nights(mjd).tolist() == [1, 1, 1, 2, 0]
    assert group_into_nights(mjd[::-1]).tolist() == [0, 2, 1, 1, 1]
    assert group_into_nights([]).tolist() == []
    with pytest.raises(ValueError, match="finite"):
        group_into_nights([1.0, np.nan])


def test_clipping_is_per_image_and_invalid_fluxes_are_left_out():
    rng = np.random.default_rng(3)
    flux = 100 + rng.normal(0, 1, (8, 2))
    flux[3, 0] += 60.0
    d = np.full((8, 2), 1.0)
    d[5, 1] = np.nan
    night = combine_nights(flux, d, np.linspace(50.0, 50.2, 8), clip=2.0)
    assert not night.kept[3, 0]
    assert night.kept[3, 1]
    assert not night.kept[5, 1]
    kept = night.kept[:, 0]
    assert night.flux[0, 0] == pytest.approx(flux[kept, 0].mean())
    assert night.d_flux[0, 0] == pytest.approx(1 / np.sqrt(kept.sum()))
    assert night.scatter_flux[0, 0] == pytest.approx(flux[kept, 0].std())


def test_one_epoch_and_no_usable_flux():
    night = combine_nights([[5.0, np.nan]], [[0.5, 1.0]], [3.0])
    assert night.flux[0, 0] == 5.0
    assert night.scatter_flux[0, 0] == 0.0
    assert np.isnan(night.scatter_mjd[0])
    assert np.isnan(night.flux[0, 1])
    assert np.isnan(night.d_flux[0, 1])
    assert night.count.tolist() == [[1, 0]]


def test_mean_of_other_quantities():
    night = combine_nights(np.ones((3, 1)), np.ones((3, 1)), [1.0, 1.1, 5.0])
    assert night.mean_of([1.0, 2.0, 7.0]).tolist() == [1.5, 7.0]


def test_magnitudes_of_odd_fluxes():
    m = magnitudes([100.0, 1.0, 0.0, -4.0], [1.0, 2.0, 1.0, 1.0], 25.0)
    assert m.mag[:2].tolist() == [20.0, 25.0]
    assert m.d_mag_down[0] == pytest.approx(2.5 * np.log10(1.01))
    assert m.d_mag_up[0] == pytest.approx(-2.5 * np.log10(0.99))
    assert np.isinf(m.d_mag_up[1])
    for field in (m.mag, m.d_mag, m.d_mag_down, m.d_mag_up):
        assert np.isnan(field[2:]).all()


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"\[E, J\]"):
        combine_nights(np.ones((3, 2)), np.ones((3, 1)), [1.0, 2.0, 3.0])


def test_covariance_of_the_means():
    """Three exposures of a night and one of another, against the means written as a product of matrices."""
    flux = np.array([[10.0, 5.0], [11.0, 5.2], [9.5, 4.8], [10.0, np.nan]])
    d_flux = np.array([[1.0, 0.5], [2.0, 0.7], [1.5, 0.4], [1.0, 1.0]])
    covariance = np.array([np.diag(d**2) for d in d_flux])
    covariance[:3, 0, 1] = covariance[:3, 1, 0] = [0.3, -0.4, 0.2]
    covariance[3] = [[1.0, np.nan], [np.nan, np.nan]]
    night = combine_nights(flux, d_flux, [1.0, 1.1, 1.2, 5.0])
    found = night.covariance_of(covariance)
    share = d_flux[:3] ** -2 / np.sum(d_flux[:3] ** -2, axis=0)
    np.testing.assert_allclose(found[0], np.einsum("ej,ejk,ek->jk", share, covariance[:3], share))
    np.testing.assert_allclose(np.sqrt(np.diag(found[0])), night.d_flux[0])
    assert found[1, 0, 0] == pytest.approx(1.0)
    assert np.isnan(found[1, 0, 1])
    assert np.isnan(found[1, 1, 1])
