"""Where the bookkeeping is: what the lens says, else the Airflow connection `lightcurver_db`.

Who only reads takes `lightcurver_db_read_only` first: the same database, for a role that cannot write.
"""

import os
from typing import Any

from lightcurver_ops.config.observatory import Orchestration
from lightcurver_ops.errors import ConfigurationError, TemporaryFailure

CONNECTION_ID = "lightcurver_db"
READ_ONLY_ID = "lightcurver_db_read_only"
REQUIRED = "LCOPS_REQUIRE_CONNECTION"
"""Variable of the environment that our image sets: a file in a container may be nobody else's, or gone tomorrow."""
_TLS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl")


def bookkeeping_url(connection_id: str = CONNECTION_ID) -> str | None:
    """SQLAlchemy URL of the connection `lightcurver_db`, or another one; None where there is no such connection.

    It may hold a password: never log it.

    Raises:
        ConfigurationError: the connection is of another kind than SQLite or Postgres.
    """
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection = Connection.get(connection_id)
    except AirflowNotFoundException:
        return None
    return _url_of(connection, connection_id)


def page_url(settings: Orchestration, *, decide: bool = False) -> str | None:
    """As `bookkeeping_url`, for a page: one that decides something writes, the others read, by a role of their own.

    Raises:
        ConfigurationError: the connection is of a kind that cannot be.
        TemporaryFailure: there is none, and the observatory wants it.
    """
    url = None if decide else bookkeeping_url(READ_ONLY_ID)
    return _checked(url or bookkeeping_url(), settings)


def task_url(settings: Orchestration) -> str | None:
    """As `bookkeeping_url`, for a task.

    Raises:
        StageRefused: the connection is of a kind that cannot be.
        StageFailed: there is none, and the observatory wants it: a short failure of Airflow's API looks the same, and
            the file that a lens has otherwise would be wrong.
    """
    from lightcurver_ops.airflow.child import StageFailed, StageRefused

    try:
        return _checked(bookkeeping_url(), settings)
    except ConfigurationError as error:
        raise StageRefused(str(error)) from error
    except TemporaryFailure as error:
        raise StageFailed(str(error)) from error


def _checked(url: str | None, settings: Orchestration) -> str | None:
    required = settings.require_connection
    if required is None:
        required = os.environ.get(REQUIRED, "").lower() == "true"
    if url is None and required:
        raise TemporaryFailure(
            f"there is no Airflow connection {CONNECTION_ID}, or Airflow's API did not give it, and without it the "
            "bookkeeping would be another one: create it, or say airflow.require_connection: false in the "
            "observatory's file"
        )
    return url


def _url_of(connection: Any, connection_id: str) -> str:
    if connection.conn_type == "sqlite":
        from airflow.providers.sqlite.hooks.sqlite import SqliteHook

        return SqliteHook(sqlite_conn_id=connection_id).get_uri()
    if connection.conn_type in ("postgres", "postgresql"):
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        url = PostgresHook(postgres_conn_id=connection_id).sqlalchemy_url
        # The hook hands these only to its own driver.
        tls = {key: value for key, value in connection.extra_dejson.items() if key in _TLS}
        url = url.set(drivername="postgresql+psycopg").update_query_dict(tls)
        return url.render_as_string(hide_password=False)
    raise ConfigurationError(
        f"the Airflow connection {connection_id} has the type {connection.conn_type!r}, expected sqlite or postgres"
    )
