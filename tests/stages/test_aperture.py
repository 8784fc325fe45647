"""Stars in apertures, through the stages: the same coefficients, and single stars as bright as by the joint model."""

import numpy as np
import pytest
import sqlalchemy as sa
import yaml

from lightcurver_ops.bookkeeping import photometry, stars
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.bookkeeping.tables import frames, star_flux_in_frame
from lightcurver_ops.config import load_lens
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.numerics.aperture import MULTIPLES
from lightcurver_ops.stages.light_curve_products import published_columns
from lightcurver_ops.stages.pipeline import pipeline_state, run_pipeline, stage_number
from lightcurver_ops.storage.tables import read_table
from tests.seasons import copied

PHOTOMETRY, MODEL = stage_number("star_photometry"), stage_number("model_calibrated_cutouts")
CONTROLS = "prepared_roi_cutouts/small_r_control_stars.csv"


@pytest.fixture
def measured(controlled_season, tmp_path):
    """The small season with apertures, and what was measured before: coefficients, the control stars' table."""
    season = copied(controlled_season, tmp_path / "apertures")
    before = coefficients(season), read_table(season.work / CONTROLS)
    images = yaml.safe_load(season.config_path.read_text())["roi"]["point_sources"]
    season.configure(
        roi={"point_sources": {"A": images["A"]}},
        star_photometry={"method": "aperture"},
        roi_model={"method": "aperture"},
    )
    lens = season.lens()
    results = run_pipeline(lens)
    lens.close()
    return season, results, *before


def coefficients(season):
    lens = season.lens()
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        found = photometry.coefficients_of(connection, lens.name, selection)
    lens.close()
    return np.array([found[frame].coefficient for frame in sorted(found)])


def test_apertures_follow_the_seeing_and_give_the_same_coefficients_and_control_stars(measured):
    season, results, before, by_model = measured
    (note,) = [note for note in results[PHOTOMETRY].report.notes if note.startswith("aperture of")]
    multiple = float(note.split()[2])
    assert multiple in MULTIPLES
    np.testing.assert_allclose(coefficients(season), before, rtol=0.01)
    lens = season.lens()
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        psfs = photometry.psfs_of(connection, lens.name, selection)
        scale = dict(connection.execute(sa.select(frames.c.id, frames.c.pixel_scale)).all())
        for row in connection.execute(sa.select(star_flux_in_frame)):
            fwhm = psfs[row.frame_id].fwhm_moffat_arcseconds / scale[row.frame_id]
            assert row.aperture_radius == pytest.approx(multiple * fwhm)
        publication = photometry.publication_of(connection, lens.name, "r")
        labels, epochs, _ = published_columns(connection, publication.id)
    assert labels == ["A"]
    assert np.isfinite(epochs["A_flux"]).sum() == 6
    assert not {state.stage for state in pipeline_state(lens) if state.outdated()}
    lens.close()
    table = read_table(season.work / CONTROLS)
    assert list(table) == list(by_model)
    for column in (name for name in table if name.endswith("_d_flux")):
        star = column.removesuffix("_d_flux")
        difference = table[f"{star}_flux"] - by_model[f"{star}_flux"]
        assert np.abs(difference / table[column]).max() < 4
        assert np.all((table[column] > 0.9 * by_model[column]) & (table[column] < 2 * by_model[column]))


def test_a_fixed_aperture_needs_no_other_frame(measured):
    season, *_ = measured
    season.configure(star_photometry={"aperture_fwhm": 1.5})
    lens = season.lens()
    results = run_pipeline(lens, last=PHOTOMETRY)
    lens.close()
    assert not [note for note in results[PHOTOMETRY].report.notes if note.startswith("aperture of")]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"roi_model": {"method": "aperture"}},
            "roi_model.method is aperture and star_photometry.method is psf: the",
        ),
        (
            {"star_photometry": {"method": "aperture"}},
            "roi_model.method is joint and star_photometry.method is ap",
        ),
        (
            {"roi_model": {"method": "aperture"}, "star_photometry": {"method": "aperture"}},
            "roi_model.method is aperture and roi.point_sources names 2 images: an aperture holds the light",
        ),
    ],
)
def test_methods_are_not_mixed_and_images_not_blended(season, keys, message):
    season.configure(**keys)
    with pytest.raises(ConfigurationError, match=message):
        load_lens(season.config_path)
