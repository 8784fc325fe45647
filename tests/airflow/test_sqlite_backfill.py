"""`airflow backfill create` on SQLite: a reader that then writes, while another process writes."""

import contextlib
import sqlite3
import subprocess
import sys

import pytest

from lightcurver_ops.airflow.sqlite_backfill import is_backfill_command

# As Airflow's own code does: a transaction that reads, then writes within a savepoint. The other one writes between.
READER = """
import sys
sys.argv = [*sys.argv[1:]]  # what the command line of Airflow would be
path = sys.argv.pop()
import lightcurver_ops.airflow.sqlite_backfill
import sqlalchemy as sa
engine = sa.create_engine(f"sqlite:///{path}", connect_args={"timeout": 20})
with engine.begin() as connection, connection.begin_nested():
    read = connection.execute(sa.text("select x from t")).scalar_one()
    print("read", flush=True)
    sys.stdin.readline()
    connection.execute(sa.text("update t set x = :x"), {"x": read + 1})
print("done")
"""
WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=20)
print("ready", flush=True)
with connection:
    connection.execute("update t set x = x + 10")
print("written")
"""


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "airflow.db"
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("pragma journal_mode = wal")  # as Airflow's metadata
        connection.execute("create table t (x integer)")
        connection.execute("insert into t values (0)")
    connection.close()
    return path


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def collide(database, *command):
    """(how the reader ended, what it said, what is in the table), after another process wanted to write meanwhile."""
    reader = start(READER, "airflow", *command, database)
    assert reader.stdout.readline().strip() == "read"
    writer = start(WRITER, database)
    assert writer.stdout.readline().strip() == "ready"
    # Without the cure the writer gets through at once; with it, it waits for the reader.
    with contextlib.suppress(subprocess.TimeoutExpired):
        writer.wait(1)
    _, said = reader.communicate("go on\n", timeout=60)
    assert writer.communicate(timeout=60)[0].strip() == "written"
    assert writer.returncode == 0
    connection = sqlite3.connect(database)
    (value,) = connection.execute("select x from t").fetchone()
    connection.close()
    return reader.returncode, said, value


def test_without_the_cure_the_database_is_locked(database):
    status, said, value = collide(database, "dags", "list")
    assert status != 0
    assert "database is locked" in said
    assert value == 10  # the writer's alone


def test_with_the_cure_both_succeed_one_after_the_other(database):
    status, said, value = collide(database, "backfill", "create")
    assert status == 0, said
    assert value == 11


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["airflow", "backfill", "create", "--dag-id", "x"], True),
        (["airflow", "backfill"], True),
        (["airflow", "db", "migrate"], False),
        (["airflow", "scheduler"], False),
        (["airflow", "dags", "list", "backfill"], False),
        (["backfill"], False),
        (["airflow"], False),
        ([], False),
    ],
)
def test_only_the_command_backfill_is_cured(arguments, expected):
    assert is_backfill_command(arguments) is expected


CURED = """
import sys
sys.argv = sys.argv[1:]
import lightcurver_ops.airflow.sqlite_backfill as cure
import sqlalchemy as sa
engine = sa.create_engine("sqlite://")
with engine.connect() as connection:
    timeout = connection.exec_driver_sql("pragma busy_timeout").scalar_one()
print(sa.event.contains(sa.engine.Engine, "begin", cure._on_begin), timeout)
"""


@pytest.mark.parametrize(("command", "expected"), [("backfill", "True 60000"), ("db", "False 5000")])
def test_importing_the_module_is_enough(command, expected):
    process = start(CURED, "airflow", command)
    assert process.communicate(timeout=60)[0].strip() == expected
