"""Where the bookkeeping is: what the lens says, else the Airflow connection `lightcurver_db`.

Who only reads takes `lightcurver_db_read_only` first: the same database, for a role that cannot write.
"""

from typing import Any

from lightcurver_ops.config.observatory import Orchestration
from lightcurver_ops.errors import ConfigurationError

CONNECTION_ID = "lightcurver_db"
READ_ONLY_ID = "lightcurver_db_read_only"
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


def read_only_url() -> str | None:
    """As `bookkeeping_url`, for one who only reads."""
    return bookkeeping_url(READ_ONLY_ID) or bookkeeping_url()


def task_url(settings: Orchestration) -> str | None:
    """As `bookkeeping_url`, for a task.

    Raises:
        StageRefused: the connection is of a kind that cannot be.
        StageFailed: there is none, and the observatory wants it: a short failure of Airflow's API looks the same, and
            the file that a lens has otherwise would be wrong.
    """
    from lightcurver_ops.airflow.child import StageFailed, StageRefused

    try:
        url = bookkeeping_url()
    except ConfigurationError as error:
        raise StageRefused(str(error)) from error
    if url is None and settings.require_connection:
        raise StageFailed(
            f"there is no Airflow connection {CONNECTION_ID}, and the observatory's file says that there must be "
            "(airflow.require_connection): create it, or say false"
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
