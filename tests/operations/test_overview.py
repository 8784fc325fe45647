"""All lenses at a glance: the counts of the last night, failures, light curves; on both kinds of database."""

import math
import re
from datetime import timedelta

import pytest
import sqlalchemy as sa

from benchmarks.bookkeeping import Shape, fill
from lightcurver_ops.bookkeeping import all_lenses as rows
from lightcurver_ops.bookkeeping import decisions, frames, ledger, schema
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.tables import frames as frames_table
from lightcurver_ops.bookkeeping.tables import (
    lenses,
    light_curve_points,
    products,
    publication_summaries,
    publications,
    raw_files,
)
from lightcurver_ops.operations.overview import REJECTED, USED, WAITING, overview
from lightcurver_ops.stages.pipeline import STAGE_NAMES

NIGHTS, PER_NIGHT = 4, 5
FIRST, OTHER, LAST = "J0000-0015", "J0001-0115", "J0002-0215"
NEVER = {"night_of": lambda _lens, _mjd: None}


@pytest.fixture
def filled(engine):
    """Three lenses with four nights of five frames, of which one a night has no plate solution."""
    fill(engine, 3, Shape(frames=NIGHTS * PER_NIGHT, per_night=PER_NIGHT, stars=3))
    return engine


def last_frames(connection, lens=OTHER):
    return frames.all_frames(connection, lens)[-PER_NIGHT:]


def test_a_reduced_night_is_counted(filled):
    found = overview(filled, **NEVER)
    with reading(filled) as connection:
        seeing = sorted(row.seeing_arcseconds for row in last_frames(connection))
    assert list(found) == [FIRST, OTHER, LAST]
    for one in found.values():
        assert one.night == "2023-02-28"
        assert one.counts == {USED: PER_NIGHT - 1, REJECTED: 1, WAITING: 0}
        assert one.n_in == PER_NIGHT
        assert one.seeing == pytest.approx(seeing[PER_NIGHT // 2])
        assert [curve.version for curve in one.curves] == [20]
        assert one.n_epochs == NIGHTS * (PER_NIGHT - 1)
        assert one.largest_change == 1.53
    assert [failure.stage for failure in found[FIRST].failures] == ["psf_modeling"]
    assert not found[OTHER].failures


def test_what_is_not_in_the_curve_waits_or_was_rejected(filled):
    with writing(filled) as connection:
        _, eliminated, failed, left_out, new = last_frames(connection)
        gone = [one.id for one in (eliminated, failed, left_out, new)]
        connection.execute(sa.delete(light_curve_points).where(light_curve_points.c.frame_id.in_(gone)))
        frames.eliminate(connection, [eliminated.id], "clouds", "user me")
        of_unit = (products.c.lens == OTHER) & (products.c.stage == STAGE_NAMES[7])
        later = ledger.now() + timedelta(days=1)
        connection.execute(
            sa.update(products).where(of_unit, products.c.unit == new.image_relpath).values(made_at=later)
        )
        connection.execute(
            sa.update(products).where(of_unit, products.c.unit == left_out.image_relpath)
            .values(made_at=ledger.now() - timedelta(days=9999))
        )  # fmt: skip
        connection.execute(
            sa.update(products).where(products.c.lens == OTHER, products.c.unit == failed.image_relpath)
            .values(status=ledger.QUARANTINED)
        )  # fmt: skip
        row = {"lens": OTHER, "path": "/raw/more", "size": 1, "modified": "", "mjd": eliminated.mjd,
               "night": "2023-02-28", "read_as": "", "noticed_at": ledger.now()}  # fmt: skip
        connection.execute(sa.insert(raw_files).values(**row))
    counts = overview(filled, **NEVER)[OTHER].counts
    assert counts == {USED: 0, REJECTED: 4, WAITING: 2}
    assert overview(filled, **NEVER)[LAST].counts[USED] == PER_NIGHT - 1


def test_raw_files_that_were_not_imported_wait_or_were_rejected(filled):
    with writing(filled) as connection:
        *_, broken, new = last_frames(connection)
        connection.execute(sa.delete(light_curve_points))
        for frame in (broken, new):
            connection.execute(sa.delete(frames_table).where(frames_table.c.id == frame.id))
        own = (products.c.lens == OTHER) & (products.c.stage == STAGE_NAMES[1])
        connection.execute(
            sa.update(products).where(own, products.c.unit == broken.original_image_path)
            .values(status=ledger.QUARANTINED)
        )  # fmt: skip
        connection.execute(sa.delete(products).where(own, products.c.unit == new.original_image_path))
    # Of the frames that are there, one has no plate solution, and the curve is as old as their fluxes.
    assert overview(filled, **NEVER)[OTHER].counts == {USED: 0, REJECTED: 2, WAITING: 3}


def test_the_newest_curve_of_each_filter_counts(filled):
    with writing(filled) as connection:
        (newest,) = (row for row in rows.newest_publications(connection) if row.lens == OTHER)
        for name, version in (("a", 2), ("z", 1), ("a", 1)):
            row = {column: getattr(newest, column) for column in ("lens", "made_at")}
            row |= {
                "filter": name,
                "version": version,
                "configuration": "{}",
                "inputs_hash": "",
                "code_version": "",
            }
            connection.execute(sa.insert(publications).values(**row))
    curves = overview(filled, **NEVER)[OTHER].curves
    assert [(curve.filter, curve.version) for curve in curves] == [("a", 2), ("r", 20), ("z", 1)]


@pytest.mark.parametrize(("status", "fails"), [("done", False), ("failed", True), ("interrupted", True)])
def test_a_stage_has_failed_where_its_last_run_has(filled, status, fails):
    with writing(filled) as connection:
        for one in ("failed", status):
            run = ledger.begin_run(connection, OTHER, STAGE_NAMES[3], 1)
            ledger.end_run(connection, run, one, n_done=0, n_failed=1, message="why")
    failures = overview(filled, **NEVER)[OTHER].failures
    assert [(failure.stage, failure.message) for failure in failures] == [(STAGE_NAMES[3], "why")] * fails


def test_no_query_reads_a_large_table_as_a_whole(filled):
    """Their plans: without any scan of a table that grows with frames, nights or versions."""
    statements = []
    sa.event.listen(filled, "before_cursor_execute", lambda *call: statements.append(call[2:4]))
    overview(filled, **NEVER)
    small = {"lenses", "pairs", "last_nights", "begin", "last"}
    with reading(filled) as connection:
        rows.follow_indexes(connection)
        for statement, parameters in statements:
            if not statement.lstrip().upper().startswith(("SELECT", "WITH")):
                continue
            prefix = "EXPLAIN " if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
            plan = connection.exec_driver_sql(prefix + statement, parameters).all()
            for line in (str(one[-1]) for one in plan):
                if found := re.search(
                    r"(?:Seq Scan on|^SCAN) (\w+)\b(?! USING (?:COVERING )?INDEX ix_stage_runs_failed)", line
                ):
                    assert found[1] in small or "CONSTANT ROW" in line, (line, statement)


def test_without_raw_files_the_night_follows_from_the_frames(filled):
    with writing(filled) as connection:
        connection.execute(sa.delete(raw_files))
    one = overview(filled, lambda lens, mjd: f"{lens} {int(mjd)}")[OTHER]
    assert one.night == f"{OTHER} {60000 + NIGHTS - 1}"
    assert one.n_in == PER_NIGHT


def test_a_light_curve_without_a_summary_is_read(filled):
    with writing(filled) as connection:
        connection.execute(sa.delete(publication_summaries))
    (curve,) = overview(filled, **NEVER)[OTHER].curves
    assert curve.n_epochs == NIGHTS * (PER_NIGHT - 1)
    assert set(curve.images) == set("ABCD")
    assert curve.images["A"]["mag"] == pytest.approx(25 - 2.5 * math.log10(400 * 1.05), abs=0.06)
    assert curve.images["A"]["sigma"] is not None
    assert len(curve.images["A"]["course"]) == NIGHTS


def test_a_lens_without_anything_is_there(engine):
    schema.upgrade(engine)
    with writing(engine) as connection:
        row = {"name": "new", "roi_ra": 1.0, "roi_dec": 1.0, "workdir": "/nowhere"}
        connection.execute(sa.insert(lenses).values(**row))
    one = overview(engine, **NEVER)["new"]
    assert (one.night, one.n_in, one.seeing, one.curves) == (None, 0, None, [])


def test_the_version_changes_with_every_entry(filled):
    def version():
        with reading(filled) as connection:
            return rows.version_of(connection)

    seen = [version()]
    assert version() == seen[0]
    with writing(filled) as connection:
        run = ledger.begin_run(connection, OTHER, STAGE_NAMES[1], 3)
    seen.append(version())
    with writing(filled) as connection:
        ledger.end_run(connection, run, "done", n_done=3, n_failed=0, message="")
    seen.append(version())
    with writing(filled) as connection:
        decisions.enter(connection, OTHER, decisions.EXCLUDE, [("1", "a")], "x", "me")
    seen.append(version())
    assert len(set(seen)) == len(seen)
