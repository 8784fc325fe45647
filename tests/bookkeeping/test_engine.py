"""Connections: settings, transactions, and messages that name the database but never a password."""

import sqlite3
import threading

import pytest
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import schema
from lightcurver_ops.bookkeeping.engine import open_engine, reading, shown, writing
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


def test_a_new_file_that_another_process_writes_to_is_waited_for(tmp_path):
    file = tmp_path / "database.sqlite3"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE made_by_the_other (number INTEGER)")
    other.execute("BEGIN IMMEDIATE")
    ends = threading.Timer(0.3, other.execute, ["COMMIT"])
    ends.start()
    engine = open_engine(f"sqlite:///{file}")
    with reading(engine) as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    ends.join()
    engine.dispose()
    other.close()


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
        pytest.raises(ConfigurationError, match=r"no up-to-date schema.*lcops db upgrade"),
        reading(engine) as connection,
    ):
        connection.execute(sa.select(lenses))
    engine.dispose()


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigurationError, match="working directory cannot be made"):
        open_engine(f"sqlite:///{tmp_path / 'file' / 'work' / 'database.sqlite3'}")


def test_a_full_disk_may_be_free_again(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'database.sqlite3'}")
    schema.upgrade(engine)

    def write():
        with writing(engine) as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")  # SQLite's own limit: what it has now
            connection.execute(sa.insert(lenses), [{**LENS, "name": f"{k:05d}"} for k in range(10_000)])

    with pytest.raises(TemporaryFailure, match=r"cannot grow: .*full; free some space and run again"):
        write()
    with reading(engine) as connection:
        assert connection.execute(sa.select(lenses)).all() == []
    engine.dispose()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:geheim@h/x",
        "postgresql+psycopg://u@h/x?password=geheim&application_name=a",
        "postgresql+psycopg://u@h/x?sslpassword=geheim",
    ],
)
def test_no_password_is_shown_wherever_the_url_has_it(url):
    assert "geheim" not in shown(url)
    assert shown(url).startswith("postgresql+psycopg://u")
    engine = open_engine(url)
    assert "geheim" not in shown(engine)
    engine.dispose()


def test_settings_of_the_url_go_before_ours():
    given = open_engine("postgresql://u@h/x?connect_timeout=3&keepalives_idle=7")
    arguments = given.dialect.create_connect_args(given.url)[1]
    assert (arguments["connect_timeout"], arguments["keepalives_idle"]) == ("3", "7")
    given.dispose()


def test_of_a_url_only_options_that_are_no_secrets_are_shown():
    url = "postgresql+psycopg://me:hidden@db/x?nonsense=hidden&sslpassword=hidden&sslmode=require"
    assert shown(url) == "postgresql+psycopg://me:***@db/x?sslmode=require"
