"""Queries about raw files: which were noticed, and to which observing night they belong."""

from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping.ledger import upsert
from lightcurver_ops.bookkeeping.tables import raw_files


def known_raw_files(connection: sa.Connection, lens: str) -> dict[str, sa.Row]:
    """path: row, of every raw file of a lens that was noticed."""
    rows = connection.execute(sa.select(raw_files).where(raw_files.c.lens == lens))
    return {row.path: row for row in rows}


def save_raw_files(connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    """Insert files, or replace what is known of those at the same path that changed.

    Two tasks may notice the same file at the same time: the first one's row stays, with its time.
    """
    upsert(connection, raw_files, rows, ["lens", "path"], where_other=("size", "modified", "read_as"))


def raw_files_of_night(connection: sa.Connection, lens: str, night: str) -> list[sa.Row]:
    """The raw files of a night, by time."""
    query = sa.select(raw_files).where(raw_files.c.lens == lens, raw_files.c.night == night)
    return list(connection.execute(query.order_by(raw_files.c.mjd, raw_files.c.path)))


def raw_files_by_id(connection: sa.Connection, lens: str, ids: list[int]) -> list[sa.Row]:
    """Raw files by their numbers."""
    query = sa.select(raw_files).where(raw_files.c.lens == lens, raw_files.c.id.in_(ids))
    return list(connection.execute(query.order_by(raw_files.c.mjd, raw_files.c.path)))


def last_night_until(connection: sa.Connection, lens: str, night: str) -> str | None:
    """The latest night, this one included, that has a raw file."""
    query = sa.select(sa.func.max(raw_files.c.night)).where(
        raw_files.c.lens == lens, raw_files.c.night <= night
    )
    return connection.execute(query).scalar()
