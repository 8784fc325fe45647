"""Where the bookkeeping is: the Airflow connection `lightcurver_db`, else what the lens says."""

from typing import Any

from lightcurver_ops.config.observatory import Orchestration
from lightcurver_ops.errors import ConfigurationError

CONNECTION_ID = "lightcurver_db"
_TLS = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl")


def bookkeeping_url() -> str | None:
    """SQLAlchemy URL of the connection `lightcurver_db`; None where there is no such connection.

    It may hold a password: never log it.

    Raises:
        ConfigurationError: the connection is of another kind than SQLite or Postgres.
    """
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection = Connection.get(CONNECTION_ID)
    except AirflowNotFoundException:
        return None
    return _url_of(connection)


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


def _url_of(connection: Any) -> str:
    if connection.conn_type == "sqlite":
        from airflow.providers.sqlite.hooks.sqlite import SqliteHook

        return SqliteHook(sqlite_conn_id=CONNECTION_ID).get_uri()
    if connection.conn_type in ("postgres", "postgresql"):
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        url = PostgresHook(postgres_conn_id=CONNECTION_ID).sqlalchemy_url
        # The hook hands these only to its own driver.
        tls = {key: value for key, value in connection.extra_dejson.items() if key in _TLS}
        url = url.set(drivername="postgresql+psycopg").update_query_dict(tls)
        return url.render_as_string(hide_password=False)
    raise ConfigurationError(
        f"the Airflow connection {CONNECTION_ID} has the type {connection.conn_type!r}, expected sqlite or postgres"
    )
