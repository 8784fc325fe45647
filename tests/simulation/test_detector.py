import numpy as np
import pytest

from lightcurver_ops.simulation.detector import Detector, bleed, cosmic_rays


def test_variance_is_photons_read_noise_and_rounding():
    detector = Detector(gain=2.0, readnoise=6.0, pedestal_adu=300.0, cosmic_rate=0.0)
    frame = detector.expose(np.full((400, 400), 10.0), 50.0, np.random.default_rng(1)).astype(float)
    assert frame.mean() == pytest.approx(300 + 500 / 2, abs=0.2)
    assert frame.var() == pytest.approx(500 / 4 + 9 + 1 / 12, rel=0.02)


def test_saturation_clips():
    detector = Detector(saturation_adu=4095.0, cosmic_rate=0.0)
    frame = detector.expose(np.array([[1e6, 1.0]]), 10.0, np.random.default_rng(1))
    assert frame.dtype == np.uint16
    assert frame[0, 0] == 4095
    assert frame[0, 1] < 100


def test_bleeding_keeps_the_charge_in_the_column():
    electrons = np.zeros((41, 3))
    electrons[20, 1] = 1500.0
    bled = bleed(electrons, 100.0)
    assert bled.sum() == pytest.approx(1500.0)
    assert bled.max() <= 100.0 + 1e-9
    assert bled[:, [0, 2]].sum() == 0
    rows = np.flatnonzero(bled[:, 1])
    assert abs(rows.mean() - 20) < 1
    assert rows.size == 15


def test_bleeding_shows_on_the_frame():
    rate = np.full((60, 20), 1.0)
    rate[30, 10] = 1e5
    options = {"saturation_adu": 1000.0, "gain": 1.0, "cosmic_rate": 0.0}
    plain, bled = (
        Detector(bleeding=bleeding, **options).expose(rate, 0.1, np.random.default_rng(2))
        for bleeding in (False, True)
    )
    assert (plain[:, 10] > 900).sum() == 1
    assert (bled[:, 10] > 900).sum() in range(9, 12)


def test_bad_column_is_dark():
    frame = Detector(bad_column=7).expose(np.full((50, 20), 20.0), 100.0, np.random.default_rng(1))
    others = np.delete(np.arange(20), 7)
    assert np.median(frame[:, 7]) == pytest.approx(0.3 * np.median(frame[:, others]), rel=0.02)


def test_cosmics_are_few_sharp_and_counted():
    image = cosmic_rays((500, 500), 50, np.random.default_rng(3))
    hit = image > 0
    assert 50 < hit.sum() < 1000
    assert np.median(image[hit]) > 200
    detector = Detector(cosmic_rate=0.06)
    frame = detector.expose(np.full((1000, 1000), 1.0), 300.0, np.random.default_rng(4)).astype(float)
    assert 18 / 2 < (frame > 200 + 10 * 12).sum() / 5 < 18 * 3  # some 18 tracks of a few pixels
