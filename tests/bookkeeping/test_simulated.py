"""The simulated bookkeeping of the benchmark of scale is like that of a lens that was reduced."""

import pytest
import sqlalchemy as sa

from benchmarks.bookkeeping import Shape, fill, rows_and_bytes
from lightcurver_ops.bookkeeping import schema
from lightcurver_ops.bookkeeping.engine import open_engine
from lightcurver_ops.bookkeeping.tables import metadata
from lightcurver_ops.stages.pipeline import STAGE_NAMES

# What depends on the instrument, on what went wrong, or on how the lens came into its database.
MAY_BE_MISSING = {"frames.warnings", "frames.telescope_imager_name", "frames.eliminated_by", "frames.comment"}
PER_FRAME = (
    "PSFs",
    "footprints",
    "normalization_coefficients",
    "absolute_zeropoints",
    "plate_solve_attempts",
)


@pytest.fixture(scope="module")
def real(source):
    engine = open_engine(f"sqlite:///{source}")
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    engine = open_engine(f"sqlite:///{tmp_path_factory.mktemp('simulated') / 'database.sqlite3'}")
    fill(engine, 2, Shape(frames=20, per_night=5, stars=8, versions=3))
    yield engine
    engine.dispose()


def known(engine) -> dict[str, set[str]]:
    """table: columns that have a value somewhere."""
    found = {}
    with engine.connect() as connection:
        for table in metadata.sorted_tables:
            counts = connection.execute(sa.select(*(sa.func.count(column) for column in table.columns))).one()
            names = {column.name for column, count in zip(table.columns, counts, strict=True) if count}
            if names:
                found[table.name] = names
    return found


def test_every_table_and_column_of_a_reduced_lens_has_values(real, simulated):
    expected, found = known(real), known(simulated)
    assert expected.keys() - {"withheld_light_curves"} <= found.keys()  # that is what went wrong
    lacking = {
        f"{table}.{column}" for table in expected.keys() & found for column in expected[table] - found[table]
    }
    assert lacking <= {"products.run_id"}  # it would be one of many runs


def test_stages_make_products_for_the_same_units(real, simulated):
    query = "select distinct stage, case when unit like '%/%' then 'frame' else unit end from products"
    with real.connect() as one, simulated.connect() as other:
        expected, found = (set(map(tuple, each.exec_driver_sql(query))) for each in (one, other))
    assert found == expected
    assert {stage for stage, _ in found} == set(STAGE_NAMES)


def test_rows_are_as_long_as_real_ones(real, simulated):
    """By the longest tables; what a row takes on disk is measured where these are large."""
    for name in ("frames", "products", "star_flux_in_frame", "PSFs", "publications", "light_curve_points"):
        table = metadata.tables[name]
        length = sum(
            sa.func.coalesce(sa.func.length(sa.cast(column, sa.Text)), 0) for column in table.columns
        )
        with real.connect() as one, simulated.connect() as other:
            expected, found = (each.execute(sa.select(sa.func.avg(length))).scalar() for each in (one, other))
        assert 0.6 < found / expected < 1.7, (name, found, expected)


def test_counts_follow_from_the_shape(engine):
    shape = Shape(frames=12, per_night=4, stars=3, versions=5, with_points=2)
    names = fill(engine, 2, shape)
    assert schema.current_revision(engine) == schema.newest_revision()
    counts = {name: rows for name, (rows, _) in rows_and_bytes(engine).items()}
    assert counts["lenses"] == len(names) == 2
    assert counts["frames"] == counts["raw_files"] == counts["plate_solve_attempts"] == 24
    assert shape.used == 9
    for name in PER_FRAME[:4]:
        assert counts[name] == 18, name
    assert counts["star_flux_in_frame"] == counts["stars_in_frames"] == 18 * 3
    assert counts["publications"] == 10
    assert counts["light_curve_points"] == 2 * 2 * 9 * 4
    assert all(size > 0 for _, size in rows_and_bytes(engine).values())
