"""The whole pipeline on a small simulated season: products, incremental runs, what a changed key makes stale."""

import json
import sqlite3
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits

from lightcurver_ops.bookkeeping import frames
from lightcurver_ops.bookkeeping.engine import writing
from lightcurver_ops.config.observatory import Watch
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.operations.arrivals import notice_raw_files
from lightcurver_ops.simulation.comparison import compare
from lightcurver_ops.stages.pipeline import STAGE_NAMES, pipeline_state, run_pipeline, stage_number
from lightcurver_ops.storage.tables import read_table

PREPARED = "prepared_roi_cutouts/small_r"


def dump(work: Path) -> dict[str, list]:
    """All rows of all tables but the ledger of runs."""
    connection = sqlite3.connect(work / "database.sqlite3")
    names = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
    content = {name: sorted(map(repr, connection.execute(f'select * from "{name}"'))) for name in names}
    connection.close()
    content.pop("stage_runs")
    return content


def done(results):
    """stage: units made, of the stages that did something."""
    return {result.name: result.report.done for result in results if result.report}


def test_every_stage_leaves_its_products(reduced_season):
    work = reduced_season.work
    connection = sqlite3.connect(work / "database.sqlite3")
    count = {
        table: connection.execute(f'select count(*) from "{table}"').fetchone()[0]
        for table in ("frames", "footprints", "combined_footprint", "PSFs", "normalization_coefficients",
                      "absolute_zeropoints", "publications", "light_curve_points")
    }  # fmt: skip
    assert count == {
        "frames": 6, "footprints": 6, "combined_footprint": 1, "PSFs": 6, "normalization_coefficients": 6,
        "absolute_zeropoints": 6, "publications": 1, "light_curve_points": 12,
    }  # fmt: skip
    for table in ("stars", "stars_in_frames", "star_flux_in_frame", "catalog_star_photometry"):
        assert connection.execute(f"select count(*) from {table}").fetchone()[0] >= 8, table
    connection.close()
    with h5py.File(work / "regions.h5") as regions:
        frame = regions["frames"][sorted(regions["frames"])[0]]
        assert frame["data"]["ROI"].shape == (16, 16)
        star = next(name for name in frame["data"] if name != "ROI")
        for kind in ("noisemap", "cosmicsmask", "wcs", "image_pixel_coordinates", "frame_shape"):
            assert star in frame[kind]
        assert next(iter(frame["narrow_psf"].values())).shape == (32, 32)
    with h5py.File(work / f"{PREPARED}.h5") as prepared:
        for name in ("frame_id", "data", "noisemap", "psf", "seeing", "sky_level_electron_per_second", "mjd",
                     "global_zeropoint", "global_zeropoint_scatter", "relative_normalization_error", "wcs",
                     "pixel_scale", "subsampling_factor", "angle_to_north"):  # fmt: skip
            assert name in prepared
    epochs = read_table(work / f"{PREPARED}_photometry_per_epoch.csv")
    nights = read_table(work / f"{PREPARED}_photometry_per_night.csv")
    for label in ("A", "B"):
        for column in ("flux", "d_flux", "mag", "d_mag", "d_mag_down", "d_mag_up"):
            assert np.isfinite(epochs[f"{label}_{column}"]).all()
        for column in ("scatter_flux", "count_flux", "scatter_mag"):
            assert np.isfinite(nights[f"{label}_{column}"]).all()
    assert (len(epochs["mjd"]), len(nights["mjd"])) == (6, 3)
    astrometry = json.loads((work / f"{PREPARED}_astrometry.json").read_text())
    for label, (ra, dec) in reduced_season.truth.image_positions().items():
        offset = np.hypot(
            (astrometry[label]["ra"] - ra) * np.cos(np.radians(dec)), astrometry[label]["dec"] - dec
        )
        assert 3600 * offset < 0.05
    for ending in ("_high_res_model.fits", "_background.fits"):
        with fits.open(work / f"{PREPARED}{ending}") as hdus:
            assert hdus[0].data.shape == (32, 32)
            assert "CRVAL1" in hdus[0].header
            assert 24 < hdus[0].header["ZPT"] < 27


def test_the_light_curve_follows_the_truth(reduced_season):
    epochs = read_table(reduced_season.work / f"{PREPARED}_photometry_per_epoch.csv")
    for image in compare(reduced_season.truth, "r", epochs):
        # Six epochs only: the bias is that of a few, and the zero point's own error is in it.
        assert abs(image.bias) < 5 * image.photon_limit + 20
        assert image.scatter < 4 * image.photon_limit


def test_the_high_resolution_model_shows_the_images_where_they_are(reduced_season):
    from astropy.wcs import WCS

    with fits.open(reduced_season.work / f"{PREPARED}_high_res_model.fits") as hdus:
        image, wcs = hdus[0].data, WCS(hdus[0].header)
    y, x = np.unravel_index(np.argmax(image), image.shape)
    ra, dec = reduced_season.truth.image_positions()["A"]
    assert np.hypot(*(np.array(wcs.world_to_pixel_values(ra, dec)) - (x, y))) < 1.0


def test_a_second_run_does_nothing_and_changes_nothing(reduced_season):
    before = dump(reduced_season.work)
    files = {
        path: path.stat().st_mtime_ns for path in reduced_season.work.rglob("*") if "sqlite3" not in path.name
    }
    lens = reduced_season.lens()
    assert done(run_pipeline(lens)) == {}
    states = pipeline_state(lens)
    lens.close()
    assert [state.count("done") for state in states] == [len(state.units) for state in states]
    assert dump(reduced_season.work) == before
    assert {path: path.stat().st_mtime_ns for path in files} == files


CHANGES = {
    "compute.psf_batch": ({"compute": {"psf_batch": 3}}, {}),
    "plate_solving.min_success_fraction": ({"plate_solving": {"min_success_fraction": 0.9}}, {}),
    "telescope.elevation": ({"telescope": {"elevation": 100.0}}, {"read_convert_skysub_character_catalog": 6}),
    "stars.min_number_stars": ({"stars": {"min_number_stars": 5}}, {"query_gaia_for_stars": 1}),
    "stars.stars_to_exclude_norm": (
        {"stars": {"stars_to_exclude_norm": ["a"]}},
        {"calculate_normalization_coefficient": 1, "calculate_absolute_zeropoints": 1, "prepare_calibrated_cutouts": 1,
         "model_calibrated_cutouts": 1},
    ),
    "zero_points.photometric_band": (
        {"zero_points": {"photometric_band": "G"}},
        {"calculate_absolute_zeropoints": 1, "prepare_calibrated_cutouts": 1, "model_calibrated_cutouts": 1},
    ),
    "roi_model.regularisation": (
        {"roi_model": {"regularisation": {"scales": 2.0}}}, {"model_calibrated_cutouts": 1}
    ),
    "star_photometry.uniform_background_per_epoch": (
        {"star_photometry": {"uniform_background_per_epoch": False}},
        {"star_photometry": 6, "calculate_normalization_coefficient": 1, "calculate_absolute_zeropoints": 1,
         "prepare_calibrated_cutouts": 1, "model_calibrated_cutouts": 1},
    ),
    "roi_model.do_ROI_model": ({"roi_model": {"do_ROI_model": False}}, {}),
}  # fmt: skip


def test_a_changed_key_remakes_exactly_what_depends_on_it(season_copy):
    season = season_copy()
    season.configure(roi_model={"further_optimize_background": False})  # quick, and as good for this purpose
    original = season.config_path.read_text()
    run = season.lens()
    run_pipeline(run)
    run.close()
    for key, (change, expected) in CHANGES.items():
        season.configure(**change)
        lens = season.lens()
        outdated = {state.stage for state in pipeline_state(lens) if state.outdated()}
        assert set(expected) <= outdated, key
        assert done(run_pipeline(lens)) == expected, key
        assert not any(state.outdated() for state in pipeline_state(lens)), key
        lens.close()
    assert season.config_path.read_text() != original


def states_of(season, **how):
    """stage: the units and how they stand."""
    lens = season.lens()
    try:
        return {state.stage: state.units for state in pipeline_state(lens, **how)}
    finally:
        lens.close()


def test_the_bookkeeping_alone_knows_how_the_stages_stand(season_copy):
    season = season_copy()
    lens = season.lens()
    before = states_of(season, as_known=True)
    assert before[STAGE_NAMES[1]] == {}  # a copy forgets what was imported, and nobody has noticed raw files
    run_pipeline(lens, last=1)
    assert states_of(season, as_known=True) == states_of(season)
    notice_raw_files(lens, Watch(settle_seconds=0))
    assert states_of(season, as_known=True) == states_of(season)
    for change in ({"raw": {"trim_vertical": 1}}, {"roi_model": {"do_ROI_model": False}}):
        season.configure(**change)
        assert states_of(season, as_known=True) == states_of(season)
    assert set(states_of(season)[STAGE_NAMES[1]].values()) == {"stale"}
    season.configure(raw={"trim_vertical": 0})
    known = states_of(season)
    (season.directory / "raw").rename(season.directory / "elsewhere")
    catalogue = lens.config.stars.gaia_catalog_file
    catalogue.rename(catalogue.with_suffix(".away"))
    assert states_of(season, as_known=True) == known  # a catalogue that is not to be seen says nothing
    catalogue.with_suffix(".away").rename(catalogue)
    catalogue.write_bytes(catalogue.read_bytes() + b"\n")
    assert set(states_of(season, as_known=True)[STAGE_NAMES[2]].values()) == {"stale"}
    lens.close()


def test_eliminating_a_frame_updates_the_joint_stages_alone(season_copy):
    season = season_copy()
    lens = season.lens()
    run_pipeline(lens)
    with writing(lens.engine) as connection:
        row = frames.all_frames(connection, lens.name)[2]
        frames.eliminate(connection, [row.id], "satellite trail", "user test")
    made = done(run_pipeline(lens))
    assert "psf_modeling" not in made
    assert made["model_calibrated_cutouts"] == 1
    epochs = read_table(season.work / f"{PREPARED}_photometry_per_epoch.csv")
    assert len(epochs["mjd"]) == 5
    with writing(lens.engine) as connection:
        frames.restore(connection, [row.id])
    run_pipeline(lens)
    assert len(read_table(season.work / f"{PREPARED}_photometry_per_epoch.csv")["mjd"]) == 6
    connection = sqlite3.connect(season.work / "database.sqlite3")
    assert [row[0] for row in connection.execute("select version from publications order by id")][-2:] == [
        2,
        3,
    ]
    connection.close()
    lens.close()


def test_redo_makes_a_stage_and_all_after_it_again_with_the_same_result(season_copy):
    season = season_copy()
    lens = season.lens()
    run_pipeline(lens)
    before = read_table(season.work / f"{PREPARED}_photometry_per_epoch.csv")
    made = done(run_pipeline(lens, redo=stage_number("star_photometry")))
    assert list(made) == list(STAGE_NAMES[7:])
    after = read_table(season.work / f"{PREPARED}_photometry_per_epoch.csv")
    for column in before:
        np.testing.assert_allclose(after[column], before[column], rtol=1e-9)
    lens.close()


def test_every_configuration_key_belongs_to_a_stage_or_is_known_to_change_nothing():
    from lightcurver_ops.config import LensConfig
    from lightcurver_ops.config.base import Section
    from lightcurver_ops.stages.pipeline import STAGES

    def leaves(model, prefix=""):
        for name, field in model.model_fields.items():
            nested = [item for item in (field.annotation, *getattr(field.annotation, "__args__", ()))
                      if isinstance(item, type) and issubclass(item, Section)]  # fmt: skip
            if nested and not prefix:
                yield from leaves(nested[0], f"{name}.")
            else:
                yield prefix + name

    covered = [key for stage in STAGES for key in stage.config_keys]
    without = {
        # Which frames are tried, when the stage fails, where a secret is: no product depends on these.
        "plate_solving.frames", "plate_solving.min_success_fraction", "plate_solving.astrometry_net_api_key_file",
        "plate_solving.solve_field_timeout", "raw.max_pixels",
        # They act through what they choose: files, stars, frames.
        "raw.raw_dirs", "raw.files_match_pattern", "raw.header_parser", "stars.gaia_catalog_file",
        # Where the bytes come from, and how they are verified: the ETags say which they are.
        "raw.s3_endpoint_url", "raw.s3_etag_is_md5", "raw.cache_dir",
        # It is compared with the sky, and hashed where it is given.
        "raw.read_noise",
        "stars.stars_to_use_psf", "stars.stars_to_exclude_psf", "stars.stars_to_use_control",
        "compute.processes", "compute.psf_batch", "compute.diagnostics",
        # The releases are in the catalogues' identities, which are hashed; the rest says how they are reached.
        *(key for key in leaves(LensConfig) if key.startswith("catalogs.")),
        # Where the rows are, and when work is done: never what it gives.
        "database", "database_read_only",
        *(key for key in leaves(LensConfig) if key.startswith("operations.")),
    }  # fmt: skip
    uncovered = {
        key
        for key in leaves(LensConfig)
        if not any(key == own or key.startswith(f"{own}.") for own in covered)
    }
    assert uncovered == without


def test_stages_are_found_by_number_name_and_beginning():

    assert stage_number("6") == stage_number("psf_modeling") == stage_number("psf") == 6
    with pytest.raises(
        ConfigurationError, match=r"there is no stage 'psf_modelling'; did you mean 'psf_modeling'\?"
    ):
        stage_number("psf_modelling")
    with pytest.raises(ConfigurationError, match="there is no stage 'calculate'"):
        stage_number("calculate")


def test_status_after_an_elimination_names_what_will_be_made_and_no_more(season_copy):
    season = season_copy()
    season.configure(roi_model={"further_optimize_background": False})
    lens = season.lens()
    run_pipeline(lens)
    with writing(lens.engine) as connection:
        row = frames.all_frames(connection, lens.name)[0]
        frames.eliminate(connection, [row.id], "satellite trail", "user test")
    expected = {state.stage for state in pipeline_state(lens) if state.outdated()}
    assert expected == set(done(run_pipeline(lens)))
    lens.close()


def test_a_failure_that_is_over_is_no_longer_the_last_word(season_copy):
    season = season_copy()
    lens = season.lens()
    run_pipeline(lens)
    lens.close()
    catalogue = season.directory / "catalogue.ecsv"
    season.configure(stars={"gaia_catalog_file": str(season.directory / "none.ecsv")})
    lens = season.lens()
    with pytest.raises(ConfigurationError, match="does not exist"):
        run_pipeline(lens)
    assert {state.stage for state in pipeline_state(lens) if state.last_status == "failed"} == {
        "plate_solving"
    }
    lens.close()
    season.configure(stars={"gaia_catalog_file": str(catalogue)})
    lens = season.lens()
    assert done(run_pipeline(lens)) == {}
    assert not [state.stage for state in pipeline_state(lens) if state.last_status == "failed"]
    lens.close()
