"""The choices of the configuration, each run for real on the small season."""

import shutil
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import sqlalchemy as sa
import yaml
from astropy.io import fits
from astropy.wcs import WCS

from lightcurver_ops.bookkeeping import frames, photometry, stars
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.bookkeeping.tables import PSFs, metadata
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.simulation import FilterOptions, faults, simulate_season
from lightcurver_ops.simulation.lens_file import write_lens_file
from lightcurver_ops.stages.base import RunOptions
from lightcurver_ops.stages.pipeline import run_pipeline, stage_number
from lightcurver_ops.storage.tables import read_table
from tests.seasons import FAST, SMALL, Season

SOLVE, STARS, PSF = (stage_number(name) for name in ("plate_solving", "query_gaia", "psf_modeling"))
POINTS_ONLY = {"further_optimize_background": False}


def positions(lens):
    """Residual of the fitted scale and the ROI's place in each frame."""
    with reading(lens.engine) as connection:
        rows = frames.all_frames(connection, lens.name)
        return {
            row.image_relpath: (
                row.plate_solve_method,
                row.pixel_scale,
                row.roi_in_footprint,
                row.angle_to_north,
            )
            for row in rows
        }


def assert_solved(lens, method):
    for used, scale, inside, angle in positions(lens).values():
        assert used == method
        assert scale == pytest.approx(SMALL.plate_scale, rel=2e-3)
        assert inside
        assert angle == pytest.approx(next(iter(positions(lens).values()))[3], abs=0.3)


@pytest.mark.skipif(
    shutil.which("solve-field") is None, reason="no solve-field (Debian: apt install astrometry.net)"
)
def test_solve_field_with_an_index_of_the_catalogue(season):
    season.configure(plate_solving={"strategy": "plate_solve"})
    lens = season.lens()
    run_pipeline(lens, last=SOLVE)
    assert_solved(lens, "plate_solve")
    lens.close()


def test_solved_headers(tmp_path):
    truth = simulate_season(replace(SMALL, with_wcs=True, n_nights=1), tmp_path / "season")
    season = Season(tmp_path / "season", truth, write_lens_file(truth))
    season.configure(**FAST)
    lens = season.lens()
    run_pipeline(lens, last=SOLVE)
    with reading(lens.engine) as connection:
        rows = frames.all_frames(connection, lens.name)
    assert [row.plate_solved for row in rows] == [True, True]
    for row in rows:
        assert row.pixel_scale == pytest.approx(SMALL.plate_scale, rel=1e-3)
        assert row.plate_solve_rms_arcsec < 0.3
    lens.close()


def test_adapting_the_wcs_of_a_solved_frame(season):
    season.configure(plate_solving={"strategy": "adapt_wcs_from_reference"})
    lens = season.lens()
    with pytest.raises(ConfigurationError, match="needs a solved frame, and any frame is not"):
        run_pipeline(lens, last=SOLVE)
    lens.close()
    season.configure(plate_solving={"strategy": "alternate_gaia_solve", "min_success_fraction": 0.0})
    lens = season.lens()
    run_pipeline(lens, last=SOLVE, options=RunOptions(frames=(season.raw[1].name,)))
    lens.close()
    season.configure(
        plate_solving={"strategy": "adapt_wcs_from_reference", "reference_frame": season.raw[1].name}
    )
    lens = season.lens()
    run_pipeline(lens, last=SOLVE)
    solved = [value for name, value in positions(lens).items() if season.raw[1].stem not in name]
    assert len(solved) == 5
    for used, scale, inside, _ in solved:
        assert used == "adapt_wcs_from_reference"
        assert scale == pytest.approx(SMALL.plate_scale, rel=5e-3)
        assert inside
    lens.close()


@pytest.mark.parametrize("strategy", ["common_footprint_stars", "stars_per_frame"])
def test_stars_of_the_footprint(season, strategy):
    season.configure(stars={"strategy": strategy})
    lens = season.lens()
    run_pipeline(lens, last=STARS)
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        chosen = {star.gaia_id for star in stars.stars_of(connection, lens.name, selection)}
        per_frame = [
            set(stars.stars_in_frame(connection, row.id, selection))
            for row in frames.all_frames(connection, lens.name)
        ]
    assert len(chosen) >= 8
    assert set().union(*per_frame) <= chosen
    if strategy == "common_footprint_stars":
        # All frames see them; those at the edge may miss the half stamp that a cutout needs.
        assert len(set.intersection(*per_frame)) >= 0.5 * len(chosen)
    lens.close()


def test_a_changed_cut_makes_a_new_selection_beside_the_old(season_copy):
    season = season_copy()
    season.configure(stars={"max_gmag": 19.0}, roi_model=POINTS_ONLY)
    lens = season.lens()
    with reading(lens.engine) as connection:
        old = stars.current_selection(connection, lens.name)
    run_pipeline(lens)
    with reading(lens.engine) as connection:
        new = stars.current_selection(connection, lens.name)
        assert new != old
        assert (
            len(stars.stars_of(connection, lens.name, old))
            > len(stars.stars_of(connection, lens.name, new))
            >= 5
        )
        assert len(photometry.per_frame(connection, PSFs, lens.name, old)) == 6
        assert len(photometry.per_frame(connection, PSFs, lens.name, new)) == 6
    lens.close()


def test_chosen_stars_and_a_name_that_none_has(season_copy):
    season = season_copy()
    season.configure(
        stars={"stars_to_use_psf": ["a", "b", "d"], "stars_to_exclude_norm": ["a"]}, roi_model=POINTS_ONLY
    )
    lens = season.lens()
    run_pipeline(lens, last=PSF)
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        for psf in photometry.psfs_of(connection, lens.name, selection).values():
            assert set(psf.psf_ref.removeprefix("psf_").split("_")) <= {"a", "b", "d"}
    lens.close()
    season.configure(stars={"stars_to_use_psf": ["a", "nobody"]})
    lens = season.lens()
    with pytest.raises(ConfigurationError, match="no reference star is called 'nobody'; there are a, b, c"):
        run_pipeline(lens)
    lens.close()


@pytest.mark.end_to_end
def test_starred_as_the_reference_solver(season_copy):
    season = season_copy()
    ours = read_table(season.work / "prepared_roi_cutouts/small_r_photometry_per_epoch.csv")
    season.configure(
        psf={"solver": "starred", "n_iter_analytic": 40, "n_iter_pixels": 300},
        roi_model={"solver": "starred", "n_iter_translations": 30, "n_iter_all": 150},
    )
    lens = season.lens()
    run_pipeline(lens)
    theirs = read_table(season.work / "prepared_roi_cutouts/small_r_photometry_per_epoch.csv")
    # Few iterations of gradient descent: near, not at, the same light curve.
    for label in ("A", "B"):
        assert np.median(np.abs(theirs[f"{label}_mag"] - ours[f"{label}_mag"])) < 0.3
    lens.close()


def test_field_distortion_background_and_fixed_positions(season_copy):
    season = season_copy()
    season.configure(
        psf={"field_distortion": True},
        star_photometry={"uniform_background_per_epoch": False},
        roi_model={**POINTS_ONLY, "fix_point_source_astrometry": True},
    )
    lens = season.lens()
    run_pipeline(lens)
    table = read_table(season.work / "prepared_roi_cutouts/small_r_photometry_per_epoch.csv")
    assert len(table["mjd"]) == 6
    assert np.isfinite(table["A_mag"]).all()
    lens.close()


def test_a_background_around_stars_common_to_all_epochs(season_copy):
    season = season_copy()
    season.configure(
        stars={"stars_to_use_norm": 2, "max_gmag": 18.0, "stars_to_use_psf": 3, "min_number_stars": 2},
        star_photometry={"starlet_global_background": True},
        roi_model={"do_ROI_model": False},
    )
    lens = season.lens()
    run_pipeline(lens)
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        assert len(photometry.coefficients_of(connection, lens.name, selection)) == 6
    lens.close()


def test_constraints_take_frames_out_with_a_reason(season_copy):
    from lightcurver_ops.stages.usage import usage

    season = season_copy()
    with reading((lens := season.lens()).engine) as connection:
        worst = max(row.seeing_arcseconds for row in frames.all_frames(connection, lens.name))
    lens.close()
    season.configure(
        roi_model={**POINTS_ONLY, "constraints_on_frame_columns": {"seeing_arcseconds": [0, worst - 1e-6]}}
    )
    lens = season.lens()
    run_pipeline(lens)
    with reading(lens.engine) as connection:
        reasons = [item.reason for item in usage(connection, lens.config) if item.reason]
    assert len(reasons) == 1
    assert "seeing_arcseconds = " in reasons[0]
    assert "constraints_on_frame_columns" in reasons[0]
    lens.close()
    season.configure(roi_model={"constraints_on_frame_columns": {"seing": [0, 1]}})
    lens = season.lens()
    with pytest.raises(ConfigurationError, match="the frames table has no column 'seing'; it has id, lens"):
        run_pipeline(lens)
    lens.close()


def test_a_starting_background_of_another_size_is_refused(season_copy):
    season = season_copy()
    np.save(season.work / "start.npy", np.zeros((10, 10)))
    season.configure(roi_model={"starting_background": "start.npy"})
    lens = season.lens()
    with pytest.raises(ConfigurationError, match=r"start.npy: its shape is \(10, 10\), expected \(32, 32\)"):
        run_pipeline(lens)
    np.save(season.work / "start.npy", np.zeros((32, 32)))
    season.configure(roi_model={"further_optimize_background": False})
    lens.close()
    lens = season.lens()
    run_pipeline(lens)
    lens.close()


def sharp_image(season, path, *, scale=0.05, side=200, light=True):
    """An image of a galaxy at the ROI, as another telescope has it."""
    config = season.lens().config
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = config.roi.ra, config.roi.dec
    wcs.wcs.crpix = [(side + 1) / 2] * 2
    angle = np.radians(35.0)
    turn = np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    wcs.wcs.cd = turn * scale / 3600
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    galaxy = 1e-3 * np.exp(-np.sqrt((x**2 + y**2) * scale**2 / 0.4**2)) * light
    fits.writeto(path, galaxy.astype(np.float32), wcs.to_header(), overwrite=True)


def test_a_sharp_image_of_the_lens_is_laid_on_the_model(season_copy):
    season = season_copy()
    sharp_image(season, season.work / "hst.fits")
    season.configure(roi_model={"starting_background": "hst.fits"})
    with closing(season.lens()) as lens:
        run_pipeline(lens)
    with fits.open(season.work / "prepared_roi_cutouts/small_r_background.fits") as hdus:
        background, wcs = hdus[0].data, WCS(hdus[0].header)
    y, x = np.mgrid[: len(background), : len(background)]
    place = [float((axis * background).sum() / background.sum()) for axis in (x, y)]
    ra, dec = wcs.pixel_to_world_values(*place)
    config = season.lens().config
    away = [(ra - config.roi.ra) * np.cos(np.radians(config.roi.dec)), dec - config.roi.dec]
    assert 3600 * np.hypot(*away) < 0.3
    # As bright as the data say, not as the image does.
    assert 10.0 < background.sum() < 1000.0
    assert background.min() > -0.02 * background.max()


@pytest.mark.parametrize(
    ("image", "keys", "message"),
    [
        ({"scale": 0.4}, {}, r"its pixels of 0.4 arcsec are larger than the model's of"),
        ({"side": 30}, {}, "it does not cover the region of interest"),
        ({"light": False}, {}, "there is nothing in the region of interest"),
        (
            {},
            POINTS_ONLY,
            "the brightness of an image with a WCS is fitted: that needs further_optimize_background",
        ),
        ({}, {"solver": "starred"}, "the brightness of an image with a WCS is fitted"),
    ],
)
def test_an_image_of_the_lens_that_cannot_be_used_is_refused(season_copy, image, keys, message):
    season = season_copy()
    sharp_image(season, season.work / "hst.fits", **image)
    season.configure(roi_model={"starting_background": "hst.fits", **keys})
    with closing(season.lens()) as lens, pytest.raises(ConfigurationError, match=message):
        run_pipeline(lens)


def test_two_filters_in_one_working_directory(tmp_path):
    options = replace(
        SMALL, n_nights=2, exposures_per_night=1, filters=(FilterOptions("r"), FilterOptions("i", 25.2))
    )
    truth = simulate_season(options, tmp_path / "season")
    season = Season(tmp_path / "season", truth, write_lens_file(truth))
    season.configure(**FAST, roi_model=POINTS_ONLY)
    lens = season.lens()
    run_pipeline(lens)
    with reading(lens.engine) as connection:
        assert photometry.published_filters(connection, lens.name) == ["i", "r"]
    for name in ("i", "r"):
        table = read_table(season.work / f"prepared_roi_cutouts/small_{name}_photometry_per_epoch.csv")
        assert len(table["mjd"]) == 2
    lens.close()
    content = yaml.safe_load(season.config_path.read_text())
    content["zero_points"] = {"photometric_band": {"r": "r_sdss"}}
    season.config_path.write_text(yaml.safe_dump(content))
    lens = season.lens()
    with pytest.raises(ConfigurationError, match="photometric_band has no entry for the filter i"):
        run_pipeline(lens)
    lens.close()


def test_which_frames_are_solved_again(season):
    faults.other_field(season.raw[0], season.directory / "raw" / "elsewhere.fits")
    season.configure(plate_solving={"min_success_fraction": 0.5})

    def selected(which):
        season.configure(plate_solving={"frames": which})
        lens = season.lens()
        (result,) = run_pipeline(lens, first=SOLVE, last=SOLVE)
        lens.close()
        return result.report.selected if result.report else 0

    lens = season.lens()
    run_pipeline(lens, last=SOLVE)
    lens.close()
    assert selected("all_never_attempted") == 0
    assert selected("all_not_plate_solved") == 1
    assert selected("all_not_eliminated") == 7


def test_sky_subtracted_frames_and_masked_sources(season):
    def first_frame():
        lens = season.lens()
        run_pipeline(lens, last=stage_number("read_convert"))
        with reading(lens.engine) as connection:
            row = frames.all_frames(connection, lens.name)[0]
        lens.close()
        return row

    plain = first_frame()
    season.configure(background={"mask_sources_before_background": True, "n_boxes": 6})
    masked = first_frame()
    assert masked.inputs_hash != plain.inputs_hash
    assert masked.sky_level_electron_per_second == pytest.approx(
        plain.sky_level_electron_per_second, rel=0.02
    )
    season.configure(background={"do_background_subtraction": False})
    kept = first_frame()
    assert kept.sky_level_electron_per_second == pytest.approx(plain.sky_level_electron_per_second, rel=0.02)
    assert kept.background_rms_electron_per_second == pytest.approx(
        plain.background_rms_electron_per_second, rel=0.1
    )


def test_without_the_smooth_galaxy_the_images_gain_its_light(season_copy):
    season = season_copy()
    path = season.work / "prepared_roi_cutouts/small_r_photometry_per_epoch.csv"
    with_galaxy = read_table(path)
    season.configure(roi_model={"smooth_galaxy": False})
    lens = season.lens()
    run_pipeline(lens)
    lens.close()
    assert read_table(path)["A_flux"].sum() > with_galaxy["A_flux"].sum()


# A publication's hashes are those of its snapshot, which says when everything was made.
def test_a_model_that_has_not_converged_says_so(season_copy):
    season = season_copy()
    season.configure(roi_model={"n_iter_all": 1})
    lens = season.lens()
    report = run_pipeline(lens)[-1].report
    with reading(lens.engine) as connection:
        publication = photometry.publication_of(connection, lens.name, "r")
    lens.close()
    assert any(note.startswith("r: 6 epochs, NOT converged, chi2 ") for note in report.notes)
    assert not publication.converged


ENGINE_OR_TIME = {
    "made_at", "started_at", "finished_at", "noticed_at", "attempted_at", "seconds", "host", "pid", "process",
    "cpu_seconds", "peak_mib", "files", "rows_sha256",
}  # fmt: skip


def rows_of_season(season):
    """table: every row, its ids as what they refer to, its paths those of no directory in particular."""
    lens = season.lens()
    with reading(lens.engine) as connection:
        raw = {
            table.name: [dict(row) for row in connection.execute(sa.select(table)).mappings()]
            for table in metadata.sorted_tables
        }
    lens.close()
    names = {
        "frames.id": {row["id"]: row["image_relpath"] for row in raw["frames"]},
        "publications.id": {row["id"]: (row["filter"], row["version"]) for row in raw["publications"]},
        "stage_runs.id": {
            row["id"]: (row["stage"], e) for e, row in enumerate(sorted(raw["stage_runs"], key=lambda row: row["id"]))
        },
    }  # fmt: skip

    def plain(table, name, value):
        for key in table.c[name].foreign_keys:
            if key.target_fullname in names and value is not None:
                return names[key.target_fullname][value]
        if f"{table.name}.{name}" in names:
            return names[f"{table.name}.{name}"][value]
        return value.replace(str(season.work), "") if isinstance(value, str) else value

    return {
        table.name: sorted(
            ({name: plain(table, name, value) for name, value in row.items() if name not in ENGINE_OR_TIME}
             for row in raw[table.name]),
            key=repr,
        )
        for table in metadata.sorted_tables
    }  # fmt: skip


@pytest.mark.end_to_end
def test_on_postgres_the_same_rows_as_on_sqlite(season, reduced_season, postgres_url):
    """To the last bit: no result depends on the order in which an engine gives its rows."""
    # The same raw files and catalogue, another working directory.
    season.config_path.write_text(reduced_season.config_path.read_text())
    season.configure(database=postgres_url, workdir=str(season.work))
    lens = season.lens()
    run_pipeline(lens)
    assert not (season.work / "database.sqlite3").exists()
    lens.close()
    mine, theirs = rows_of_season(season), rows_of_season(reduced_season)
    for rows in (mine, theirs):  # the working directory is an input of the first stage
        (first,) = (row for row in rows["products"] if row["stage"] == "initialize_database")
        first.pop("inputs_hash")
    assert sum(map(len, mine.values())) > 300
    for table, rows in theirs.items():
        assert mine[table] == rows, table
