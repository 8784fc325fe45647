"""Stage 11 from night to night: what it keeps, when it goes on from that, and that the result is the same."""

from dataclasses import replace

import numpy as np
from astropy.table import Table

from lightcurver_ops.stages.calculate_normalization_coefficient import prepared_path
from lightcurver_ops.stages.pipeline import STAGE_NAMES, run_pipeline
from lightcurver_ops.stages.roi_fit import epoch_keys
from lightcurver_ops.storage.prepared import read_prepared

LAST = STAGE_NAMES.index("model_calibrated_cutouts")


def light_curve(lens):
    return Table.read(prepared_path(lens.config, "r", "_photometry_per_epoch.csv"))


def test_a_frame_less_is_an_update_and_agrees_with_a_fit_from_scratch(season_copy):
    season = season_copy()
    last = float(max(season.truth.frames["mjd"]))
    # Kept out of the light curve alone: the coefficients, of so few frames, stay as they are.
    season.configure(roi_model={"constraints_on_frame_columns": {"mjd": [0, last - 0.001]}})
    lens = season.lens()
    assert prepared_path(lens.config, "r", "_memory_ROI.h5").exists()
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
    lens.close()
    first = epoch_keys(prepared, ())
    assert len(set(first)) == len(prepared.mjd)
    assert epoch_keys(prepared, first) == first

    def scaled(by):
        factor = 1 + by * prepared.relative_normalization_error
        return replace(
            prepared,
            coefficient=prepared.coefficient * factor,
            data=prepared.data / factor[:, None, None],
            noisemap=prepared.noisemap / factor[:, None, None],
        )

    assert epoch_keys(scaled(0.05), first) == first
    assert not set(epoch_keys(scaled(0.5), first)) & set(first)
    masked = prepared.noisemap.copy()
    masked[1, 3, 4] *= 1000
    changed = epoch_keys(replace(prepared, noisemap=masked), first)
    assert [one == other for one, other in zip(changed, first, strict=True)].count(False) == 1
