"""Stage 11 from night to night: what it keeps, when it goes on from that, and that the result is the same."""

import subprocess
from dataclasses import replace

import numpy as np
import pytest
from astropy.table import Table

from lightcurver_ops.numerics.roi import update
from lightcurver_ops.stages.calculate_normalization_coefficient import prepared_path
from lightcurver_ops.stages.pipeline import STAGE_NAMES, STAGES, run_pipeline
from lightcurver_ops.stages.roi_fit import epoch_keys, fit_prepared, scene_of
from lightcurver_ops.storage.prepared import read_prepared

LAST = STAGE_NAMES.index("model_calibrated_cutouts")


def light_curve(lens):
    return Table.read(prepared_path(lens.config, "r", "_photometry_per_epoch.csv"))


def test_a_frame_less_is_an_update_and_agrees_with_a_fit_from_scratch(season_copy, monkeypatch):
    monkeypatch.setattr(update, "FEWEST", 0)
    season = season_copy()
    last = float(max(season.truth.frames["mjd"]))
    # Kept out of the light curve alone: the coefficients, of so few frames, stay as they are.
    season.configure(roi_model={"constraints_on_frame_columns": {"mjd": [0, last - 0.001]}})
    lens = season.lens()
    stage = STAGES[LAST](lens)
    assert stage._memory("r", "ROI").exists()
    report = run_pipeline(lens)[LAST].report
    assert any("(an update)" in note for note in report.notes)
    updated = light_curve(lens)
    report = run_pipeline(lens, redo=LAST)[LAST].report
    assert not any("(an update)" in note for note in report.notes)
    scratch = light_curve(lens)
    lens.close()
    assert len(updated) == len(season.truth.frames) - 1
    for label in ("A", "B"):
        difference = np.abs(updated[f"{label}_flux"] - scratch[f"{label}_flux"])
        assert np.all(difference < 0.1 * scratch[f"{label}_d_flux"])


def test_keys_follow_pixels_masks_and_coefficients_that_matter(reduced_season):
    lens = reduced_season.lens()
    prepared = read_prepared(prepared_path(lens.config, "r"))
    scene = scene_of(lens.config, prepared)
    lens.close()
    first = epoch_keys(prepared, scene, ())
    assert len(set(first)) == len(prepared.mjd)
    assert epoch_keys(prepared, scene, first) == first

    def scaled(by):
        factor = 1 + by * prepared.relative_normalization_error
        return replace(
            prepared,
            coefficient=prepared.coefficient * factor,
            data=prepared.data / factor[:, None, None],
            noisemap=prepared.noisemap / factor[:, None, None],
        )

    assert epoch_keys(scaled(0.05), scene, first) == first
    assert not set(epoch_keys(scaled(0.5), scene, first)) & set(first)
    for factor in (1000.0, 1.1):  # a masked pixel, and a noisier one
        noisier = prepared.noisemap.copy()
        noisier[1, 3, 4] *= factor
        changed = epoch_keys(replace(prepared, noisemap=noisier), scene, first)
        assert [one == other for one, other in zip(changed, first, strict=True)].count(False) == 1
    slope = np.zeros((len(prepared.mjd), 2, *prepared.full_psf.shape[1:]))
    varying = epoch_keys(replace(prepared, psf_slope=slope), scene, first)
    assert not set(varying) & set(first)
    slope[1, 0, 5, 5] = 1e-3
    changed = epoch_keys(replace(prepared, psf_slope=slope), scene, varying)
    assert [one == other for one, other in zip(changed, varying, strict=True)].count(False) == 1
    scene.rotation = scene.rotation + np.pi
    assert not set(epoch_keys(prepared, scene, first)) & set(first)


def test_angles_are_rounded_by_less_than_shows(reduced_season):
    lens = reduced_season.lens()
    prepared = read_prepared(prepared_path(lens.config, "r"))
    angles = np.random.default_rng(4).uniform(-200, 200, len(prepared.mjd))
    angles[:4] = 17.0, 17.0 + 1e-3, 17.0 - 1e-3, 197.0
    scene = scene_of(lens.config, replace(prepared, angle_to_north=angles))
    lens.close()
    error = np.angle(np.exp(1j * (scene.rotation - np.radians(angles - angles[0]))))
    half = prepared.data.shape[1] / 2
    assert np.abs(error).max() * half <= 1.001 * scene.NEGLIGIBLE_PX
    assert np.abs(error[4:]).max() > 0
    assert list(scene.rotation[:3]) == [0.0, 0.0, 0.0]


def test_memory_that_cannot_be_written_costs_nothing_but_the_next_start(reduced_season, tmp_path, caplog):
    lens = reduced_season.lens()
    prepared = read_prepared(prepared_path(lens.config, "r"))
    config = lens.config
    lens.close()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(tmp_path)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode()}")
    try:
        fit = fit_prepared(config, prepared, scene_of(config, prepared), tmp_path / "memory.h5")
        assert not list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert fit.converged
    assert "will start from scratch" in caplog.text
