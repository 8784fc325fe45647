"""The migrations make exactly the tables of tables.py, on both engines, and go back to nothing."""

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from lightcurver_ops.bookkeeping import attempts, schema
from lightcurver_ops.bookkeeping import frames as frame_rows
from lightcurver_ops.bookkeeping.copying import copy_lens
from lightcurver_ops.bookkeeping.engine import open_engine, reading, restructuring, writing
from lightcurver_ops.bookkeeping.tables import VERSION_TABLE, lenses, metadata
from lightcurver_ops.errors import ConfigurationError, LightcurverError


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


def test_frames_outlive_the_migrations_of_plate_solving(engine):
    schema.upgrade(engine, "0003")
    frame = {"lens": "x", "original_image_path": "a.fits", "image_relpath": "frames/a.fits", "sources_relpath": "s",
             "pixel_hash": "h", "mjd": 58000.5, "exptime": 10.0, "gain": 1.5, "filter": "r", "width": 100, "height": 90,
             "n_sources": 12, "inputs_hash": "i", "code_version": "0", "made_at": "2026-01-01 00:00:00+00:00",
             "plate_solve_rms_arcsec": 0.25}  # fmt: skip
    columns, values = ", ".join(frame), ", ".join(f":{name}" for name in frame)
    with engine.begin() as connection:
        connection.execute(sa.text("insert into lenses values ('x', 1.0, 2.0, '/work')"))
        connection.execute(sa.text(f"insert into frames ({columns}) values ({values})"), frame)
    schema.upgrade(engine)
    attempt = {"strategy": "plate_solve", "hint": "ROI", "outcome": "failed", "reason": "no", "seconds": 1.5}
    with writing(engine) as connection:
        (row,) = frame_rows.all_frames(connection, "x")
        assert (row.plate_solve_rms_arcsec, row.plate_solve_rms_pixels, row.plate_solve_hint) == (
            0.25,
            None,
            None,
        )
        attempts.save_attempts(connection, row.id, [attempt, attempt])
        attempts.save_attempts(connection, row.id, [attempt])  # the last try takes the place of the former
        (one,) = attempts.attempts_of(connection, [row.id])[row.id]
        assert (one.number, one.reason, one.rms_pixels) == (1, "no", None)
    schema.downgrade(engine, "0003")
    assert "plate_solve_attempts" not in sa.inspect(engine).get_table_names()
    with reading(engine) as connection:
        kept = connection.execute(sa.text("select * from frames")).mappings().one()
    assert {name: kept[name] for name in frame if name != "made_at"} == {
        n: v for n, v in frame.items() if n != "made_at"
    }
    assert "plate_solve_hint" not in kept


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


def rows_in(engine):
    """table: its rows, as columns that the database has now."""
    found = {}
    with reading(engine) as connection:
        there = sa.MetaData()
        there.reflect(connection)
        for table in there.tables.values():
            if table.name != VERSION_TABLE:
                rows = connection.execute(sa.select(table).order_by(*table.primary_key.columns)).mappings()
                found[table.name] = [dict(row) for row in rows]
    return found


def restricted(rows, to):
    """Rows of one revision in the tables and columns that another one has, too."""
    return {
        table: [{name: value for name, value in row.items() if name in to[table][0]} for row in rows[table]]
        for table in rows
        if table in to
    }


@pytest.fixture
def filled_engine(source, database_url):
    """A database of two lenses, the second one with other ids, rows in every table."""
    engine = open_engine(database_url)
    copy_lens(f"sqlite:///{source}", database_url, "small")
    with writing(engine) as connection:
        connection.execute(
            sa.insert(lenses), {"name": "other", "roi_ra": 1.0, "roi_dec": 2.0, "workdir": "/"}
        )
    yield engine
    engine.dispose()


@pytest.mark.parametrize("revision", ["0009", "0003", "0002", "0001"])
def test_rows_survive_the_way_down_and_up(filled_engine, revision):
    """Only what an older revision has no place for is lost, and no row that refers to a table that was changed."""
    before = rows_in(filled_engine)
    assert all(before.values()), "every table has rows"
    schema.downgrade(filled_engine, revision)
    assert schema.current_revision(filled_engine) == revision
    down = rows_in(filled_engine)
    gone = {"control_stars", "withheld_light_curves"}
    if revision != "0009":
        gone |= {"plate_solve_attempts", "decisions", "publication_summaries"}
    if revision == "0001":
        gone |= {"raw_files", "star_exclusions", "alerts"}
    assert set(before) - set(down) == gone
    assert down == restricted(before, down)
    schema.upgrade(filled_engine)
    after = rows_in(filled_engine)
    assert set(after) == set(before)
    assert restricted(after, down) == down
    lost = [
        (table, name, row[name], old[name])
        for table, rows in after.items()
        for row, old in zip(rows, before[table], strict=table not in gone)
        for name in row.keys() - (down[table][0].keys() if table in down else set())
    ]
    assert all(value in (None, 0) for _, _, value, _ in lost)
    assert {table for table, rows in after.items() if not rows} == gone
    with reading(filled_engine) as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, metadata) == []
    with (
        pytest.raises(sa.exc.IntegrityError),
        writing(filled_engine) as connection,
    ):  # keys are still enforced
        connection.execute(sa.text("insert into footprints select 4711, polygon, center_ra, center_dec, inputs_hash, "
                                   "code_version, made_at from footprints limit 1"))  # fmt: skip


def test_a_migration_that_fails_changes_nothing(filled_engine):
    """Somebody else's view keeps a column from being dropped (Postgres), a table of its name a copy (SQLite)."""
    with writing(filled_engine) as connection:
        on_sqlite = connection.dialect.name == "sqlite"
        connection.exec_driver_sql("create view mine as select excess from star_normalization")
        if on_sqlite:
            connection.exec_driver_sql("create table _alembic_tmp_star_normalization (x integer)")
    before = rows_in(filled_engine)
    with pytest.raises((sa.exc.DBAPIError, LightcurverError)):
        schema.downgrade(filled_engine, "0001")
    assert schema.current_revision(filled_engine) == schema.newest_revision()
    assert rows_in(filled_engine) == before


def test_a_reference_to_nothing_stops_a_change_of_tables(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'database.sqlite3'}")
    schema.upgrade(engine)

    def spoil():
        with restructuring(engine) as connection:
            connection.execute(sa.text("insert into footprints values (5, '', 1, 1, 'h', 'v', '2026-01-01')"))

    with pytest.raises(
        ConfigurationError, match="1 rows would refer to rows that do not exist, the first one in footp"
    ):
        spoil()
    assert rows_in(engine)["footprints"] == []
    engine.dispose()
