"""Connections: the embedded SQLite file and Postgres behind one function."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError

from lightcurver_ops.errors import ConfigurationError, TemporaryFailure

BUSY_TIMEOUT_S = 60
_NO_SUCH_TABLE_OR_COLUMN = ("42P01", "42703")
"""SQLSTATE of Postgres."""


def open_engine(url: str) -> sa.Engine:
    """An engine for the bookkeeping.

    SQLite: write-ahead log, foreign keys on, a busy timeout, and transactions that take their lock when they
    begin, so that two writers wait for each other instead of failing at commit.

    Raises:
        ConfigurationError: the URL cannot be understood, or the directory of the file cannot be written.
    """
    try:
        parsed = sa.make_url(url)
        if parsed.get_backend_name() == "postgresql" and parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        engine = sa.create_engine(parsed, **_options(parsed))
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError, ValueError) as error:
        # The URL may hold a password: it is not repeated.
        raise ConfigurationError(
            f"database: this is not a URL that SQLAlchemy knows ({type(error).__name__}); "
            "write sqlite:////path/to/file or postgresql+psycopg://user@host/name"
        ) from None
    if parsed.get_backend_name() == "sqlite":
        _prepare_directory(parsed.database)
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_immediate)
    return engine


def _options(url: sa.URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_TIMEOUT_S}}
    return {"pool_pre_ping": True, "connect_args": {"connect_timeout": 10}}


def _prepare_directory(database: str | None) -> None:
    if not database or database == ":memory:":
        return
    directory = Path(database).parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"{directory}: the working directory cannot be made: {error.strerror}; choose another workdir, or give "
            "this user the right to write there"
        ) from error


def _configure_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # The driver must not begin transactions on its own: _begin_immediate does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql(
        "BEGIN IMMEDIATE" if not connection.get_execution_options().get("read_only") else "BEGIN"
    )


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that only reads: never waits for a writer on SQLite."""
    with (
        _explained(engine),
        engine.connect().execution_options(read_only=True) as connection,
        connection.begin(),
    ):
        yield connection


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that commits at the end, or leaves nothing."""
    with _explained(engine), engine.begin() as connection:
        yield connection


@contextmanager
def _explained(engine: sa.Engine) -> Iterator[None]:
    """Database errors in the words of errors.py."""
    try:
        yield
    except OperationalError as error:
        raise _translated(error, engine) from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise TemporaryFailure(
                f"bookkeeping: the connection to {_shown(engine)} was lost: {error.orig}"
            ) from error
        if getattr(error.orig, "sqlstate", None) in _NO_SUCH_TABLE_OR_COLUMN:
            raise _without_schema(str(error.orig).splitlines()[0], _shown(engine)) from error
        raise


def _translated(error: OperationalError, engine: sa.Engine) -> Exception:
    text = str(error.orig)
    shown = _shown(engine)
    if "readonly" in text or "unable to open" in text:
        return ConfigurationError(
            f"bookkeeping: {shown} cannot be written: {text}; give this user the right to write the working directory, "
            "or choose another workdir"
        )
    if "full" in text or "disk I/O" in text:
        return TemporaryFailure(f"bookkeeping: {shown} cannot grow: {text}; free some space and run again")
    if "locked" in text:
        return TemporaryFailure(
            f"bookkeeping: {shown} was locked for {BUSY_TIMEOUT_S} s by another process: {text}"
        )
    if "no such table" in text or "no such column" in text:
        return _without_schema(text, shown)
    return TemporaryFailure(f"bookkeeping: {shown} does not answer: {text}")


def _without_schema(text: str, shown: str) -> ConfigurationError:
    return ConfigurationError(
        f"bookkeeping: {shown} has no up-to-date schema: {text}; run `lcops run` on it once"
    )


def _shown(engine: sa.Engine) -> str:
    """The database without its password."""
    return engine.url.render_as_string(hide_password=True)
