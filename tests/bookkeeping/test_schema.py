"""The migrations make exactly the tables of tables.py, on both engines, and go back to nothing."""

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from lightcurver_ops.bookkeeping import schema
from lightcurver_ops.bookkeeping.engine import open_engine, reading
from lightcurver_ops.bookkeeping.tables import metadata
from lightcurver_ops.errors import ConfigurationError


def test_migrations_make_the_tables_of_the_code(engine):
    assert schema.current_revision(engine) is None
    schema.upgrade(engine)
    assert schema.current_revision(engine) == schema.newest_revision()
    with reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": "lcops_schema_version"})
        assert compare_metadata(context, metadata) == []


def test_upgrade_twice_changes_nothing_and_downgrade_leaves_nothing(engine):
    schema.upgrade(engine)
    schema.upgrade(engine)
    schema.downgrade(engine, "base")
    assert set(sa.inspect(engine).get_table_names()) <= {"lcops_schema_version"}
    schema.upgrade(engine)
    assert "frames" in sa.inspect(engine).get_table_names()


def test_the_original_names_of_tables_and_columns_are_kept(engine):
    schema.upgrade(engine)
    inspector = sa.inspect(engine)
    expected = {
        "frames": {"mjd", "exptime", "gain", "filter", "original_image_path", "image_relpath", "sources_relpath",
                   "plate_solved", "attempted_plate_solve", "pixel_scale", "eliminated", "airmass", "degrees_to_moon",
                   "moon_phase", "sun_altitude", "azimuth", "altitude", "seeing_pixels", "seeing_arcseconds",
                   "sky_level_electron_per_second", "background_rms_electron_per_second", "ellipticity", "comment",
                   "roi_in_footprint", "angle_to_north", "telescope_name"},
        "footprints": {"frame_id", "polygon"},
        "combined_footprint": {"hash", "largest", "common"},
        "stars": {"combined_footprint_hash", "name", "gaia_id", "ra", "dec", "gmag", "rmag", "bmag", "pmra", "pmdec",
                  "ref_epoch", "distance_to_roi_arcsec"},
        "stars_in_frames": {"frame_id", "star_gaia_id", "combined_footprint_hash"},
        "PSFs": {"frame_id", "combined_footprint_hash", "chi2", "psf_ref", "subsampling_factor",
                 "relative_loss_differential", "fwhm_moffat_arcseconds"},
        "star_flux_in_frame": {"frame_id", "star_gaia_id", "combined_footprint_hash", "flux", "flux_uncertainty",
                               "chi2"},
        "normalization_coefficients": {"frame_id", "combined_footprint_hash", "coefficient", "coefficient_uncertainty"},
        "catalog_star_photometry": {"star_gaia_id", "mag", "band", "catalog"},
        "absolute_zeropoints": {"frame_id", "combined_footprint_hash", "zeropoint", "zeropoint_uncertainty",
                                "source_catalog"},
    }  # fmt: skip
    for table, columns in expected.items():
        assert columns <= {column["name"] for column in inspector.get_columns(table)}, table


def test_every_column_says_its_unit_or_meaning():
    silent = [f"{table.name}.{column.name}" for table in metadata.tables.values() for column in table.columns
              if not column.comment]  # fmt: skip
    assert silent == []


def test_a_database_of_a_newer_version_is_left_alone(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'database.sqlite3'}")
    schema.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("update lcops_schema_version set version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="schema that this version of lightcurver-ops does not know"):
        schema.upgrade(engine)
    engine.dispose()
