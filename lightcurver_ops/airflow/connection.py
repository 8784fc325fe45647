"""Where the bookkeeping is: the Airflow connection `lightcurver_db`, else what the lens says."""

from typing import Any

CONNECTION_ID = "lightcurver_db"


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


def _url_of(connection: Any) -> str:
    from lightcurver_ops.errors import ConfigurationError

    if connection.conn_type == "sqlite":
        from airflow.providers.sqlite.hooks.sqlite import SqliteHook

        return SqliteHook(sqlite_conn_id=CONNECTION_ID).get_uri()
    if connection.conn_type in ("postgres", "postgresql"):
        from airflow.providers.postgres.hooks.postgres import PostgresHook

        url = PostgresHook(postgres_conn_id=CONNECTION_ID).sqlalchemy_url
        return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    raise ConfigurationError(
        f"the Airflow connection {CONNECTION_ID} has the type {connection.conn_type!r}, expected sqlite or postgres"
    )
