"""Gain and read noise of simulated and of real frames, as stage 1 compares them with the skies."""

import os
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from astropy.io import fits

from lightcurver_ops.numerics.background import subtract_background
from lightcurver_ops.simulation.detector import Detector
from lightcurver_ops.stages.gain_check import (
    contradicted_gains,
    contradicted_read_noises,
    remark_on_image,
    remark_on_read_noise,
)

HATP32 = Path(os.environ.get("LCOPS_HATP32") or Path(__file__).parents[3] / "shared" / "data" / "hatp32")
READ_NOISE, EXPTIME = 9.0, 60.0


def imported(skies, read_noise, gain=1.5, pedestal=0.0):
    """Rows of frames with skies of so many electrons, and their raw pixels; the configuration says this read noise."""
    detector, rng = Detector(gain, READ_NOISE, pedestal + 20), np.random.default_rng(2)
    rows, images = [], []
    for sky in skies:
        adu = detector.expose(np.full((128, 128), sky / EXPTIME), EXPTIME, rng).astype(float) - 20
        background = subtract_background(adu * gain / EXPTIME, 4, False, 3.0)
        images.append(adu)
        rows.append(
            SimpleNamespace(
                gain=gain,
                width=128,
                exptime=EXPTIME,
                read_noise=read_noise,
                sky_level_electron_per_second=background.sky_level,
                background_rms_electron_per_second=background.rms,
            )
        )
    return rows, images


DARK, BRIGHT = np.linspace(20, 150, 10), np.linspace(4000, 9000, 10)


@pytest.mark.parametrize("skies", [DARK, BRIGHT, [*DARK, *BRIGHT]])
@pytest.mark.parametrize("pedestal", [0.0, 300.0])
def test_right_numbers_are_not_doubted(skies, pedestal):
    rows, images = imported(skies, READ_NOISE, pedestal=pedestal)
    assert contradicted_gains(rows) == []
    assert contradicted_read_noises(rows) == []
    assert not any(remark_on_image(adu, 1.5) for adu in images)
    assert not any(remark_on_read_noise(adu, 1.5, READ_NOISE) for adu in images)


def test_a_read_noise_that_is_too_large():
    rows, images = imported(DARK, 3 * READ_NOISE)
    (said,) = contradicted_read_noises(rows)
    assert (
        "WARNING: the read noise of 10 frames is 27 electrons, but their faintest skies scatter by 1" in said
    )
    assert said.endswith(", photons included; check raw.read_noise and raw.header.gain")
    said = remark_on_read_noise(images[0], 1.5, 3 * READ_NOISE)
    assert said is not None
    assert "less than its read noise of 27.0 alone: is raw.read_noise too large?" in said


def test_a_read_noise_that_is_too_small():
    rows, images = imported(DARK, READ_NOISE / 3)
    (said,) = contradicted_read_noises(rows)
    assert "the read noise of 10 frames is 3 electrons, but their skies scatter by " in said
    assert "beside what grows with their light" in said
    assert remark_on_read_noise(images[0], 1.5, READ_NOISE / 3) is None


@pytest.mark.parametrize("read_noise", [READ_NOISE / 3, 3 * READ_NOISE, None])
def test_what_cannot_be_told_is_not_said(read_noise):
    rows, images = imported(BRIGHT, read_noise)
    assert contradicted_read_noises(rows) == []
    assert not any(remark_on_read_noise(adu, 1.5, read_noise) for adu in images)


def test_real_frames_are_not_doubted():
    """A CCD of 9 micrometres: 13 electrons, by its manufacturer; the gain was measured on these frames."""
    files = sorted((HATP32 / "raw").glob("*")) if HATP32.is_dir() else []
    if not files:
        pytest.skip(f"the frames of HAT-P-32 are not at {HATP32}: they may not be copied into the repository")
    images = [fits.getdata(path).astype(float) for path in files[::8]]
    for adu in images:
        assert remark_on_image(adu, 15.7) is None
        assert remark_on_read_noise(adu, 15.7, 13.0) is None
    # The pairs of frames say the same of the gain and leave room for that read noise.
    variances = [np.var((a - b)[np.abs(a - b) < 8]) / 2 for a, b in pairwise(images)]
    assert max(variances) ** 0.5 * 15.7 > 13.0
