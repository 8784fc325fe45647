"""Connections: the embedded SQLite file and Postgres behind one function."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DataError, DBAPIError, OperationalError

from lightcurver_ops.bookkeeping.network_disks import network_disk_of
from lightcurver_ops.errors import ConfigurationError, LightcurverError, TemporaryFailure

BUSY_TIMEOUT_S = 60
# SQLSTATEs of Postgres.
_NO_SUCH_TABLE_OR_COLUMN = ("42P01", "42703")
_NOT_ALLOWED = ("42501", "25006")
_CONFLICT = ("40001", "40P01")
_LOCKED = "55P03"
_DISK_FULL = "53100"
# What no other try cures, of a server that lets nobody in: here libpq gives no SQLSTATE.
_REFUSED = (
    "authentication failed",
    "no password supplied",
    "does not exist",
    "no pg_hba.conf entry",
    "permission denied for database",
    "is not permitted to log in",
)
_OPTIONS_SHOWN = {"host", "port", "sslmode", "service"}
# A connection that the network dropped silently is noticed after a minute, and a lock is not waited for for ever.
_POSTGRES_CONNECTION = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}


def open_engine(url: str) -> sa.Engine:
    """An engine for the bookkeeping.

    SQLite: write-ahead log, foreign keys on, a busy timeout, and transactions that take their lock when they
    begin, so that two writers wait for each other instead of failing at commit.

    Raises:
        ConfigurationError: the URL cannot be understood, the directory of the file cannot be written, or
            is on a network disk.
    """
    try:
        parsed = parsed_url(url)
        engine = sa.create_engine(parsed, **_options(parsed))
    except (sa.exc.ArgumentError, sa.exc.NoSuchModuleError, ModuleNotFoundError, ValueError) as error:
        raise _no_url(error) from None
    if parsed.get_backend_name() == "sqlite":
        _prepare_directory(parsed.database)
        sa.event.listen(engine, "connect", _configure_sqlite)
        sa.event.listen(engine, "begin", _begin_immediate)
    else:
        sa.event.listen(engine, "begin", _limit_waiting)
    return engine


def parsed_url(url: str) -> sa.URL:
    """A URL taken apart; ``postgresql://`` means the driver that we have.

    Raises:
        ConfigurationError: it cannot be understood.
    """
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:
        raise _no_url(error) from None
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername == "postgresql" else parsed


def _no_url(error: Exception) -> ConfigurationError:
    # The URL may hold a password: it is not repeated.
    return ConfigurationError(
        f"database: this is not a URL that SQLAlchemy knows ({type(error).__name__}); "
        "write sqlite:////path/to/file or postgresql+psycopg://user@host/name"
    )


def _options(url: sa.URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_TIMEOUT_S}}
    own = {key: value for key, value in _POSTGRES_CONNECTION.items() if key not in url.query}
    return {"pool_pre_ping": True, "connect_args": own}


def is_absent(url: str) -> bool:
    """Whether this is the URL of an embedded file that is not there yet; to open it would make it."""
    file = file_of(url)
    return file is not None and not file.exists()


def file_of(url: str) -> Path | None:
    """The embedded file of a URL; None where it is of a server.

    Raises:
        ConfigurationError: the URL cannot be understood.
    """
    parsed = parsed_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


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
    if disk := network_disk_of(directory):
        raise ConfigurationError(
            f"bookkeeping: {database} lies on a network disk ({disk}), where SQLite loses data as soon as two machines "
            "use it: copy it, while nothing runs, to a disk of the one machine that uses it and write "
            "`database: sqlite:////path/to/file`, or take Postgres"
        )


def _configure_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # The driver must not begin transactions on its own: _begin_immediate does.
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous = NORMAL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    # SQLite's busy timeout does not cover this switch where another process is writing to a new file.
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _begin_immediate(connection: sa.Connection) -> None:
    connection.exec_driver_sql(
        "BEGIN IMMEDIATE" if not connection.get_execution_options().get("read_only") else "BEGIN"
    )


def _limit_waiting(connection: sa.Connection) -> None:
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{BUSY_TIMEOUT_S}s'")


@contextmanager
def reading(engine: sa.Engine, *, snapshot: bool = False) -> Iterator[sa.Connection]:
    """A transaction that only reads: never waits for a writer on SQLite, and cannot write on Postgres.

    Args:
        engine: of the bookkeeping.
        snapshot: see one state throughout on Postgres, too, whatever others commit meanwhile.
    """
    options: dict[str, Any] = {"read_only": True, "postgresql_readonly": True}
    if snapshot and engine.dialect.name == "postgresql":
        options["isolation_level"] = "REPEATABLE READ"
    with (
        _explained(engine),
        engine.connect().execution_options(**options) as connection,
        connection.begin(),
    ):
        yield connection


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A transaction that commits at the end, or leaves nothing."""
    with _explained(engine), engine.begin() as connection:
        yield connection


@contextmanager
def restructuring(engine: sa.Engine) -> Iterator[sa.Connection]:
    """As `writing`, for changes of whole tables.

    SQLite changes a table by copying it, and dropping the old one would take along the rows that refer to it: foreign
    keys are off meanwhile, and checked before the commit.

    Raises:
        ConfigurationError: a row would refer to one that does not exist.
    """
    if engine.dialect.name != "sqlite":
        with writing(engine) as connection:
            yield connection
        return
    with _explained(engine), engine.connect() as connection:
        connection.detach()  # closed at the end, rather than given back without foreign keys
        driver = connection.connection.dbapi_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.execute("PRAGMA foreign_keys = OFF")  # ignored within a transaction
        with connection.begin():
            before = _dangling(connection)
            yield connection
            if lost := _dangling(connection) - before:
                raise ConfigurationError(
                    f"bookkeeping: {shown(engine)}: {len(lost)} rows would refer to rows that do not exist, the first "
                    f"one in {min(lost)[0]}; nothing was changed: restore a backup of the file"
                )


def _dangling(connection: sa.Connection) -> set[tuple[str, int, str]]:
    return {(row[0], row[1], row[2]) for row in connection.exec_driver_sql("PRAGMA foreign_key_check")}


@contextmanager
def _explained(engine: sa.Engine) -> Iterator[None]:
    """Database errors in the words of errors.py; what they say of none of these stays as it is."""
    try:
        yield
    except DBAPIError as error:
        translate = _of_sqlite if engine.dialect.name == "sqlite" else _of_postgres
        translated = translate(error, shown(engine))
        if translated is None:
            raise
        raise translated from error


def _of_sqlite(error: DBAPIError, shown: str) -> LightcurverError | None:
    if not isinstance(error, OperationalError):
        return None
    text = str(error.orig)
    if "readonly" in text or "unable to open" in text:
        return ConfigurationError(
            f"bookkeeping: {shown} cannot be written: {text}; give this user the right to write the working directory, "
            "or choose another workdir"
        )
    if "full" in text or "disk I/O" in text:
        return _cannot_grow(text, shown)
    if "locked" in text:
        return _was_locked(text, shown)
    if "no such table" in text or "no such column" in text or "has no column" in text:
        return _without_schema(text, shown)
    return TemporaryFailure(f"bookkeeping: {shown} does not answer: {text}")


def _of_postgres(error: DBAPIError, shown: str) -> LightcurverError | None:
    code = getattr(error.orig, "sqlstate", None)
    text = " ".join(str(error.orig).split())
    if code in _NO_SUCH_TABLE_OR_COLUMN:
        return _without_schema(text, shown)
    if code in _NOT_ALLOWED:
        return ConfigurationError(
            f"bookkeeping: this role must not do that in {shown}: {text}; the owner of the tables upgrades them with "
            "`lcops db upgrade` and gives rights with `lcops db roles`"
        )
    if isinstance(error, DataError):
        return ConfigurationError(f"bookkeeping: {shown}: a value does not fit into its column: {text}")
    if code in _CONFLICT:
        return TemporaryFailure(
            f"bookkeeping: {shown}: two processes changed the same rows at the same time: {text}; run again"
        )
    if code == _LOCKED:
        return _was_locked(text, shown)
    if code == _DISK_FULL or "No space left" in text:
        return _cannot_grow(text, shown)
    if code is None and any(refusal in text for refusal in _REFUSED):
        return ConfigurationError(
            f"bookkeeping: {shown} lets us not in: {text}; correct user, password (~/.pgpass) or name of the database"
        )
    if code is None and "connection option" in text:
        return ConfigurationError(f"bookkeeping: {shown}: {text}; correct the options of its URL")
    if error.connection_invalidated:
        return TemporaryFailure(f"bookkeeping: the connection to {shown} was lost: {text}; run again")
    if isinstance(error, OperationalError):
        return TemporaryFailure(f"bookkeeping: {shown} does not answer: {text}")
    return None


def _cannot_grow(text: str, shown: str) -> TemporaryFailure:
    return TemporaryFailure(f"bookkeeping: {shown} cannot grow: {text}; free some space and run again")


def _was_locked(text: str, shown: str) -> TemporaryFailure:
    return TemporaryFailure(
        f"bookkeeping: {shown} was locked for {BUSY_TIMEOUT_S} s by another process: {text}"
    )


def _without_schema(text: str, shown: str) -> ConfigurationError:
    return ConfigurationError(
        f"bookkeeping: {shown} has no up-to-date schema: {text}; `lcops db upgrade` brings it up to date"
    )


def shown(database: sa.Engine | str) -> str:
    """A database without its password, wherever its URL has it: of its options, those that are none are left.

    Raises:
        ConfigurationError: a text that is no URL.
    """
    url = database.url if isinstance(database, sa.Engine) else parsed_url(database)
    secrets = [key for key in url.query if key not in _OPTIONS_SHOWN]
    return url.difference_update_query(secrets).render_as_string(hide_password=True)
