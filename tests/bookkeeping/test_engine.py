"""Connections: settings, transactions, and messages that name the database but never a password."""

import multiprocessing
import os

import pytest
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import schema
from lightcurver_ops.bookkeeping.engine import open_engine, reading, writing
from lightcurver_ops.bookkeeping.tables import lenses
from lightcurver_ops.errors import ConfigurationError, TemporaryFailure

LENS = {"name": "demo", "roi_ra": 1.0, "roi_dec": 2.0, "workdir": "/data"}


def test_sqlite_settings(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'deep' / 'er' / 'database.sqlite3'}")
    with reading(engine) as connection:

        def pragma(name):
            return connection.exec_driver_sql(f"PRAGMA {name}").scalar()

        assert pragma("journal_mode") == "wal"
        assert pragma("foreign_keys") == 1
        assert pragma("busy_timeout") == 60_000
    engine.dispose()


def test_a_failed_transaction_leaves_nothing(engine):
    schema.upgrade(engine)

    def fail_after_insert():
        with writing(engine) as connection:
            connection.execute(sa.insert(lenses).values(**LENS))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_after_insert()
    with reading(engine) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(lenses)).scalar() == 0


def test_foreign_keys_are_enforced(engine):
    schema.upgrade(engine)
    with pytest.raises(sa.exc.IntegrityError), writing(engine) as connection:
        connection.execute(
            sa.text("insert into combined_footprint (lens, hash, largest, common, n_frames, inputs_hash, code_version, "
                    "made_at) values ('nobody', 'x', '', '', 0, 'h', 'v', '2026-01-01')")
        )  # fmt: skip


@pytest.mark.parametrize(
    "url", ["nonsense", "martian://user:secret@host/db", "postgresql+nodriver://u:secret@h/d"]
)
def test_a_url_that_is_none(url):
    with pytest.raises(ConfigurationError, match="not a URL that SQLAlchemy knows") as error:
        open_engine(url)
    assert "secret" not in str(error.value)


def test_a_server_that_does_not_answer_may_answer_later_and_the_password_stays_secret():
    engine = open_engine("postgresql://user:secret@127.0.0.1:1/nothing")
    with pytest.raises(TemporaryFailure, match="does not answer") as error, reading(engine):
        pass
    assert "secret" not in str(error.value)
    engine.dispose()


def test_a_database_without_schema_says_what_to_do(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'database.sqlite3'}")
    with (
        pytest.raises(ConfigurationError, match=r"no up-to-date schema.*lcops run"),
        reading(engine) as connection,
    ):
        connection.execute(sa.select(lenses))
    engine.dispose()


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match="working directory cannot be made"):
        open_engine(f"sqlite:///{tmp_path / 'file' / 'work' / 'database.sqlite3'}")


def _insert(url, start, count):
    engine = open_engine(url)
    for number in range(start, start + count):
        with writing(engine) as connection:
            before = connection.execute(sa.select(sa.func.count()).select_from(lenses)).scalar()
            connection.execute(
                sa.insert(lenses).values(**(LENS | {"name": f"lens{number}", "roi_ra": before}))
            )
    engine.dispose()
    os._exit(0)


def test_two_writers_wait_for_each_other(engine, database_url):
    schema.upgrade(engine)
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_insert, args=(database_url, 100 * k, 30)) for k in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    with reading(engine) as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(lenses)).scalar() == 90
