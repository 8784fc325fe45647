"""Trailed, double and clouded frames are refused with the right reason, and no good frame is."""

from pathlib import Path

import pytest

from lightcurver_ops.bookkeeping import ledger, photometry, stars
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.simulation import faults
from lightcurver_ops.stages.pipeline import pipeline_state, run_pipeline
from lightcurver_ops.stages.usage import usage, usage_up_to_photometry

FAULTS = {
    "trailed": (
        faults.trailed,
        {"length": 12},
        r"the PSF is trailed: by 0\.\d\d of a star's stamp, above 0\.4 \(psf\.max_trail\)",
    ),
    "double": (faults.trailed, {"length": 6, "double": True}, r"the PSF is double: .* above 0\.15"),
    "cloud": (
        faults.clouded,
        {"transparency": 0.05},
        r"normalization coefficient 0\.0\d+ outside 0\.1 to 10",
    ),
    "dark": (faults.clouded, {"transparency": 0.005}, r"too faint for a PSF \(clouds\?\)|no match"),
}


def reasons(lens, function=usage):
    with reading(lens.engine) as connection:
        return {
            Path(item.frame.image_relpath).stem: item.reason for item in function(connection, lens.config)
        }


def test_bad_frames_are_refused_and_good_ones_are_not(season_copy):
    import re

    season = season_copy()
    good = [path.stem for path in season.raw]
    for number, (name, (fault, options, _)) in enumerate(FAULTS.items()):
        fault(season.raw[number], season.directory / f"raw/z_{name}.fits", **options)
    season.configure(plate_solving={"min_success_fraction": 0.5}, roi_model={"do_ROI_model": False})
    lens = season.lens()
    run_pipeline(lens)
    found = reasons(lens)
    assert [found[name] for name in good] == [None] * len(good)
    for name, (_, _, pattern) in FAULTS.items():
        assert re.search(pattern, found[f"z_{name}"] or ""), (name, found[f"z_{name}"])
    # They must not shift the normalization of the others either.
    assert reasons(lens, usage_up_to_photometry)["z_trailed"] == found["z_trailed"]
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        psfs = photometry.psfs_of(connection, lens.name, selection)
        modelled = ledger.done_hashes(connection, lens.name, "psf_modeling")
    assert all(psf.doubleness is not None for psf in psfs.values())
    lens.close()

    # Other limits: no PSF is made again, what follows is.
    season.configure(psf={"max_trail": None, "max_doubleness": None, "max_misfit": None})
    lens = season.lens()
    outdated = {state.stage for state in pipeline_state(lens) if state.outdated()}
    assert outdated == {
        "calculate_normalization_coefficient",
        "calculate_absolute_zeropoints",
        "prepare_calibrated_cutouts",
    }
    run_pipeline(lens)
    with reading(lens.engine) as connection:
        assert ledger.done_hashes(connection, lens.name, "psf_modeling") == modelled
    found = reasons(lens)
    for name in ("trailed", "double"):
        assert "trailed:" not in (found[f"z_{name}"] or "")
        assert "double:" not in (found[f"z_{name}"] or "")
    lens.close()


@pytest.mark.parametrize(
    "key", ["max_elongation", "max_trail", "max_doubleness", "max_misfit", "min_signal_to_noise"]
)
def test_limits_out_of_range(season, key):
    from lightcurver_ops.errors import ConfigurationError

    season.configure(psf={key: -1.0})
    with pytest.raises(ConfigurationError, match=f"psf.{key}"):
        season.lens()
