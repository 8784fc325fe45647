"""`airflow backfill create` on SQLite metadata, without "database is locked".

Python's sqlite3 begins a transaction only at its first write, and none before a SAVEPOINT; a reader that then wants to
write while the scheduler does fails at once, whatever the time-out. Transactions that take their lock when they begin
wait for each other instead. Only for this command: elsewhere (`airflow db migrate`) it does harm.

`$AIRFLOW_HOME/config/airflow_local_settings.py` imports this module; `local.py` writes it.
"""

import sqlite3
import sys
from typing import Any

import sqlalchemy as sa

BUSY_TIMEOUT_S = 60


def cure() -> None:
    """Make the SQLite connections of this process take their lock when a transaction begins."""
    sa.event.listen(sa.engine.Engine, "connect", _on_connect)
    sa.event.listen(sa.engine.Engine, "begin", _on_begin)


def is_backfill_command(arguments: list[str]) -> bool:
    """Whether this process is `airflow backfill ...`."""
    return len(arguments) > 1 and arguments[1] == "backfill"


def _on_connect(connection: Any, _record: Any) -> None:
    if isinstance(connection, sqlite3.Connection):
        connection.isolation_level = None
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000}")


def _on_begin(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


if is_backfill_command(sys.argv):
    cure()
