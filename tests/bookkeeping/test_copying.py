"""Copies of lenses between the embedded files and one database: all rows or none, there and back the same."""

import multiprocessing
import os
import shutil
import signal
import sqlite3
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import ledger, schema
from lightcurver_ops.bookkeeping.copying import copy_lens, count_rows, rows_of
from lightcurver_ops.bookkeeping.engine import open_engine, reading, writing
from lightcurver_ops.bookkeeping.frames import all_frames
from lightcurver_ops.bookkeeping.photometry import points_of
from lightcurver_ops.bookkeeping.raw_files import known_raw_files, save_raw_files
from lightcurver_ops.bookkeeping.tables import frames, light_curve_points, metadata, publications
from lightcurver_ops.errors import ConfigurationError, TemporaryFailure
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.initialize_database import ensure_initialized
from lightcurver_ops.stages.pipeline import run_pipeline, stage_number
from tests.bookkeeping.conftest import RAW
from tests.bookkeeping.processes import copy_and_die
from tests.seasons import copied


def named(source: Path, path: Path, name: str) -> str:
    """URL of a copy of the file whose lens has another name."""
    shutil.copy(source, path)
    with sqlite3.connect(path) as connection:
        connection.execute("update lenses set name = ?", (name,))
        for table in metadata.sorted_tables:
            if "lens" in table.c:
                connection.execute(f'update "{table.name}" set lens = ?', (name,))
    connection.close()
    return f"sqlite:///{path}"


def dump(url: str) -> list[str]:
    """Everything in a file, as SQL: rows, tables, indexes."""
    with sqlite3.connect(sa.make_url(url).database) as connection:
        lines = sorted(connection.iterdump())
    connection.close()
    return lines


def contents(url: str) -> dict[str, list]:
    engine = open_engine(url)
    with reading(engine) as connection:
        names = sa.inspect(connection).get_table_names()
        found = {
            name: sorted(map(repr, connection.execute(sa.text(f'select * from "{name}"')).all()))
            for name in names
        }
    engine.dispose()
    return found


def test_several_lenses_there_and_back_is_the_identity(source, database_url, tmp_path):
    lenses_there = {name: named(source, tmp_path / f"{name}.db", name) for name in ("small", "b+1", "Ä")}
    for name, url in lenses_there.items():
        before = dump(url)
        copied = copy_lens(url, database_url, name)
        assert dump(url) == before
        assert copied.rows["frames"] == 6
        assert copied.rows["raw_files"] == 3
        assert all(count > 0 for count in copied.rows.values()), "every table is tried"
        assert copied.summary() == (
            f"{name}: {sum(copied.rows.values())} rows of {len(metadata.tables)} tables copied, then compared one by "
            "one: all equal"
        )
    engine = open_engine(database_url)
    with reading(engine) as connection:
        for name, url in lenses_there.items():
            assert [row.number for row in all_frames(connection, name)] == numbers_in(url)
            assert count_rows(connection, name)["light_curve_points"] == 12
        assert connection.execute(sa.select(sa.func.count()).select_from(frames)).scalar_one() == 18
    engine.dispose()
    for name, url in lenses_there.items():
        back = f"sqlite:///{tmp_path / name / 'back.db'}"
        copy_lens(database_url, back, name)
        assert dump(back) == dump(url)
    # And again: from a file with its own ids into the database from which it has come.
    engine = open_engine(database_url)
    before = contents(database_url)
    with writing(engine) as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(sa.delete(table).where(rows_of(table, "b+1")))
    engine.dispose()
    copy_lens(lenses_there["b+1"], database_url, "b+1")
    after = contents(database_url)
    assert {name: len(rows) for name, rows in after.items()} == {
        name: len(rows) for name, rows in before.items()
    }


def numbers_in(url: str) -> list[int]:
    with sqlite3.connect(sa.make_url(url).database) as connection:
        found = [row[0] for row in connection.execute("select id from frames order by mjd, image_relpath")]
    connection.close()
    return found


def test_what_is_made_after_the_copy_goes_on_with_free_ids_and_finds_its_way_back(
    source, database_url, tmp_path
):
    first, second = (named(source, tmp_path / f"{name}.db", name) for name in ("a", "b"))
    copy_lens(first, database_url, "a")
    copy_lens(second, database_url, "b")
    engine = open_engine(database_url)
    with writing(engine) as connection:
        for name in ("a", "b", "a"):
            number = len(known_raw_files(connection, name))
            save_raw_files(connection, [{**RAW, "lens": name, "path": f"/raw/new {number}"}])
        ids = [row.id for name in "ab" for row in known_raw_files(connection, name).values()]
        assert len(set(ids)) == 9
    engine.dispose()
    back = f"sqlite:///{tmp_path / 'back.db'}"
    copy_lens(database_url, back, "b")
    copy_lens(back, f"sqlite:///{tmp_path / 'again.db'}", "b")
    assert dump(f"sqlite:///{tmp_path / 'again.db'}") == dump(back)
    assert set(dump(second)) - set(dump(back)) == set()
    assert len(dump(back)) == len(dump(second)) + 1


def test_a_lens_goes_on_in_another_database(reduced_season, source, postgres_url, tmp_path):
    """Among other lenses its frames have other ids; its files know them by number, and stay up to date."""
    season = copied(reduced_season, tmp_path / "season")
    copy_lens(named(source, tmp_path / "other.db", "other"), postgres_url, "other")
    copy_lens(f"sqlite:///{season.work / 'database.sqlite3'}", postgres_url, "small")
    season.configure(database=postgres_url)
    lens = season.lens()
    results = run_pipeline(lens)
    made = {result.name for result in results if result.report is not None}
    assert made == {
        "read_convert_skysub_character_catalog"
    }  # the season was copied, its raw files are elsewhere
    run_pipeline(lens, redo=stage_number("prepare"))
    with reading(lens.engine) as connection:
        mjd = {row.id: row.mjd for row in all_frames(connection, "small")}
        number = {row.id: row.number for row in all_frames(connection, "small")}
        newest = connection.execute(
            sa.select(sa.func.max(publications.c.id)).where(publications.c.lens == "small")
        ).scalar_one()
        points = points_of(connection, newest)
    assert set(mjd) == {point.frame_id for point in points}
    assert min(mjd) > 6
    assert sorted(number.values()) == [1, 2, 3, 4, 5, 6]
    assert all(point.mjd == mjd[point.frame_id] for point in points)
    assert all(point.frame_number == number[point.frame_id] for point in points)
    lens.close()


def test_a_copy_that_is_there_is_compared_and_other_rows_are_refused_or_replaced(
    source, database_url, tmp_path
):
    url = named(source, tmp_path / "small.db", "small")
    copied = copy_lens(url, database_url, "small")
    again = copy_lens(url, database_url, "small")
    assert (again.was_there, again.rows) == (True, copied.rows)
    assert "is there already" in again.summary()
    with sqlite3.connect(tmp_path / "small.db") as connection:
        connection.execute("update frames set seeing_pixels = seeing_pixels * (1 + 3e-16) where id = 3")
        connection.execute("delete from alerts")
    connection.close()
    before = contents(database_url)
    with pytest.raises(
        ConfigurationError, match=r"small: .* has other rows of it \(6 frames, \d+ rows.*--replace"
    ):
        copy_lens(url, database_url, "small")
    assert contents(database_url) == before
    copy_lens(url, database_url, "small", replace=True)
    back = f"sqlite:///{tmp_path / 'back.db'}"
    copy_lens(database_url, back, "small")
    assert dump(back) == dump(url)


def test_a_lens_that_was_only_entered_is_no_obstacle(source, reduced_season, database_url, tmp_path):
    season = copied(reduced_season, tmp_path / "season")
    season.configure(database=database_url)
    lens = Lens(season.lens().config)
    ensure_initialized(lens)
    lens.close()
    copied_rows = copy_lens(f"sqlite:///{source}", database_url, "small").rows
    engine = open_engine(database_url)
    with reading(engine) as connection:
        assert count_rows(connection, "small") == copied_rows
    engine.dispose()


TRIGGERS = {
    "sqlite": ["create trigger spoil after insert on light_curve_points begin update light_curve_points "
               "set flux = flux + 1 where frame_id = new.frame_id and frame_id > 4; end"],
    "postgresql": ["create function spoil() returns trigger language plpgsql as "
                   "'begin if new.frame_id > 4 then new.flux := new.flux + 1; end if; return new; end'",
                   "create trigger spoil before insert on light_curve_points for each row execute function spoil()"],
}  # fmt: skip


def test_a_difference_leaves_the_target_as_it_was(source, database_url, tmp_path):
    copy_lens(named(source, tmp_path / "other.db", "other"), database_url, "other")
    engine = open_engine(database_url)
    with writing(engine) as connection:
        for statement in TRIGGERS[engine.dialect.name]:
            connection.exec_driver_sql(statement)
    engine.dispose()
    before = contents(database_url)
    with pytest.raises(
        ConfigurationError,
        match=r"small: .* does not give back what was .*light_curve_points \[.*flux is .* instead of .* and more",
    ):
        copy_lens(f"sqlite:///{source}", database_url, "small")
    assert contents(database_url) == before


def test_a_value_that_the_target_cannot_hold(source, postgres_url, tmp_path):
    url = named(source, tmp_path / "small.db", "small")
    with sqlite3.connect(tmp_path / "small.db") as connection:
        connection.execute("update frames set filter = ? where id = 2", ("x" * 41,))
    connection.close()
    with pytest.raises(ConfigurationError, match="a value does not fit into its column: value too long"):
        copy_lens(url, postgres_url, "small")
    assert contents(postgres_url) == {}


def test_a_killed_copy_leaves_the_target_as_it_was(source, database_url, tmp_path):
    copy_lens(named(source, tmp_path / "other.db", "other"), database_url, "other")
    before = contents(database_url)
    process = multiprocessing.get_context("spawn").Process(
        target=copy_and_die, args=(f"sqlite:///{source}", database_url)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert contents(database_url) == before
    copy_lens(f"sqlite:///{source}", database_url, "small")


class Interception:
    """Does something once, when a statement that begins so is about to be sent."""

    def __init__(self, beginning, action):
        self._beginning, self._action, self.done = beginning, action, False

    def __enter__(self):
        sa.event.listen(sa.engine.Engine, "before_cursor_execute", self._look)
        return self

    def __exit__(self, *_):
        sa.event.remove(sa.engine.Engine, "before_cursor_execute", self._look)

    def _look(self, connection, _cursor, statement, *_):
        if not self.done and statement.startswith(self._beginning):
            self.done = True
            self._action(connection)


def test_a_lost_connection_leaves_the_target_as_it_was_and_may_be_tried_again(source, postgres_url):
    def terminate(connection):
        pid = connection.connection.dbapi_connection.info.backend_pid
        admin = sa.create_engine(postgres_url)
        with admin.begin() as other:
            other.execute(sa.text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        admin.dispose()

    with (
        Interception("INSERT INTO star_flux_in_frame", terminate) as interception,
        pytest.raises(TemporaryFailure, match=r"the connection to .* was lost"),
    ):
        copy_lens(f"sqlite:///{source}", postgres_url, "small")
    assert interception.done
    assert contents(postgres_url) == {}
    assert copy_lens(f"sqlite:///{source}", postgres_url, "small").rows["frames"] == 6


def test_a_failed_copy_leaves_no_file(source, tmp_path):
    def interrupt(_connection):
        raise KeyboardInterrupt

    target = tmp_path / "new" / "database.sqlite3"
    with Interception("INSERT INTO star_flux_in_frame", interrupt), pytest.raises(KeyboardInterrupt):
        copy_lens(f"sqlite:///{source}", f"sqlite:///{target}", "small")
    assert list(target.parent.iterdir()) == []


def test_others_write_while_a_lens_is_copied(source, postgres_url, tmp_path):
    """They wait, and lose nothing: ids that the copy takes are not given to them."""
    copy_lens(named(source, tmp_path / "other.db", "other"), postgres_url, "other")
    failures = []

    def write():
        engine = open_engine(postgres_url)
        try:
            with writing(engine) as connection:
                rows = [{**RAW, "lens": "other", "path": f"/raw/late {k}"} for k in range(5)]
                save_raw_files(connection, rows)
        except Exception as error:
            failures.append(error)
        engine.dispose()

    writer = threading.Thread(target=write)
    with Interception("INSERT INTO frames", lambda _: writer.start()):
        copy_lens(f"sqlite:///{source}", postgres_url, "small")
    writer.join()
    assert failures == []
    engine = open_engine(postgres_url)
    with reading(engine) as connection:
        known = {name: known_raw_files(connection, name) for name in ("small", "other")}
    engine.dispose()
    assert (len(known["small"]), len(known["other"])) == (3, 8)


def test_what_cannot_be_copied(source, database_url, tmp_path):
    url = named(source, tmp_path / "small.db", "small")
    engine = open_engine(url)
    with pytest.raises(ConfigurationError, match="source and target are the same database"):
        copy_lens(url, url, "small")
    with pytest.raises(ConfigurationError, match=r"there is no .*nothing.db to copy from"):
        copy_lens(f"sqlite:///{tmp_path / 'nothing.db'}", database_url, "small")
    with pytest.raises(ConfigurationError, match="has no such lens"):
        copy_lens(url, database_url, "large")
    with writing(engine) as connection:
        ledger.begin_run(connection, "small", "plate_solving", 1)
    with pytest.raises(
        ConfigurationError, match=rf"plate_solving is at work on it \(process {os.getpid()}\)"
    ):
        copy_lens(url, database_url, "small")
    schema.downgrade(engine, "0003")
    with pytest.raises(ConfigurationError, match=r"has the schema 0003, expected \d+: `lcops db upgrade` it"):
        copy_lens(url, database_url, "small")
    engine.dispose()
    assert not (tmp_path / "nothing.db").exists()
    assert contents(database_url) == {}


def test_every_table_belongs_to_a_lens():
    for table in metadata.sorted_tables:
        assert "lenses.name = " in str(rows_of(table, "x")) or ".lens = " in str(rows_of(table, "x"))
    with pytest.raises(LookupError, match="stray belongs to no lens"):
        rows_of(sa.Table("stray", sa.MetaData(), sa.Column("x", sa.Integer)), "x")
    assert light_curve_points.name in str(
        sa.select(light_curve_points).where(rows_of(light_curve_points, "x"))
    )
