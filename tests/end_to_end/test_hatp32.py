"""Real frames: 48 exposures of HAT-P-32 during a transit, with the configuration that the repository ships."""

import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.config import load_lens
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.pipeline import run_pipeline
from lightcurver_ops.stages.usage import usage
from lightcurver_ops.storage.tables import read_table

pytestmark = pytest.mark.end_to_end

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("LCOPS_HATP32") or ROOT.parent / "shared" / "data" / "hatp32")
BEFORE_AND_AFTER = (58107.155, 58107.275)
BOTTOM = (58107.18, 58107.245)


@pytest.fixture(scope="module")
def lens(tmp_path_factory):
    if not (DATA / "raw").is_dir():
        pytest.skip(f"the frames of HAT-P-32 are not at {DATA}: they may not be copied into the repository")
    directory = tmp_path_factory.mktemp("hatp32")
    content = yaml.safe_load((ROOT / "examples" / "hatp32.yaml").read_text())
    content["workdir"] = str(directory / "work")
    content["raw"]["raw_dirs"] = [str(DATA / "raw")]
    content["stars"]["gaia_catalog_file"] = str(DATA / "catalogue.ecsv")
    content["compute"] = {"processes": 2, "diagnostics": False}
    path = directory / "hatp32.yaml"
    path.write_text(yaml.safe_dump(content))
    lens = Lens(load_lens(path))
    run_pipeline(lens)
    yield lens
    lens.close()


def test_the_frames_are_solved_and_used(lens):
    with reading(lens.engine) as connection:
        usages = usage(connection, lens.config)
    assert len(usages) == 48
    assert sum(item.reason is None for item in usages) >= 46
    for item in usages:
        assert item.frame.pixel_scale == pytest.approx(5.164, abs=0.01)
        assert abs(item.frame.angle_to_north) > 170
        assert item.frame.plate_solve_rms_arcsec < 0.5 * item.frame.pixel_scale


def test_the_transit_is_seen(lens):
    (path,) = (lens.workdir / "prepared_roi_cutouts").glob("*_photometry_per_epoch.csv")
    table = read_table(path)
    mjd, flux = table["mjd"], table["star_flux"]
    outside = (mjd < BEFORE_AND_AFTER[0]) | (mjd > BEFORE_AND_AFTER[1])
    inside = (mjd > BOTTOM[0]) & (mjd < BOTTOM[1])
    relative = flux / np.median(flux[outside])
    scatter = 1.4826 * np.median(np.abs(relative[outside] - np.median(relative[outside])))
    depth = 1 - np.median(relative[inside])
    print(f"out of transit {100 * scatter:.2f} %, depth {100 * depth:.2f} %, quoted "
          f"{100 * np.median(table['star_d_flux'] / flux):.2f} %")  # fmt: skip
    assert scatter < 0.008
    assert 0.020 < depth < 0.028
