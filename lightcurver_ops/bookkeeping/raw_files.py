"""Queries about raw files: which were noticed, and to which observing night they belong."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping.ledger import as_utc, upsert
from lightcurver_ops.bookkeeping.tables import frames, products, raw_files


def known_raw_files(connection: sa.Connection, lens: str) -> dict[str, sa.Row]:
    """path: row, of every raw file of a lens that was noticed."""
    rows = connection.execute(sa.select(raw_files).where(raw_files.c.lens == lens))
    return {row.path: row for row in rows}


def save_raw_files(connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    """Insert files, or replace what is known of those at the same path that changed.

    Two tasks may notice the same file at the same time: the first one's row stays, with its time.
    """
    upsert(connection, raw_files, rows, ["lens", "path"], where_other=("size", "modified", "read_as"))


def untouched(connection: sa.Connection, lens: str) -> list[sa.Row]:
    """Raw files that were noticed, and that no stage has seen."""
    seen = sa.union(
        sa.select(products.c.unit).where(products.c.lens == lens),
        sa.select(frames.c.original_image_path).where(frames.c.lens == lens),
    )
    query = sa.select(raw_files).where(raw_files.c.lens == lens, raw_files.c.path.not_in(seen))
    return list(connection.execute(query))


def forget(connection: sa.Connection, ids: list[int]) -> None:
    """Forget raw files, given by their numbers."""
    if ids:
        row: sa.BindParameter[int] = sa.bindparam("row")
        connection.execute(sa.delete(raw_files).where(raw_files.c.id == row), [{"row": one} for one in ids])


def raw_files_of_night(connection: sa.Connection, lens: str, night: str) -> list[sa.Row]:
    """The raw files of a night, by time."""
    query = sa.select(raw_files).where(raw_files.c.lens == lens, raw_files.c.night == night)
    return list(connection.execute(query.order_by(raw_files.c.mjd, raw_files.c.path)))


def raw_files_by_id(connection: sa.Connection, lens: str, ids: list[int]) -> list[sa.Row]:
    """Raw files by their numbers."""
    query = sa.select(raw_files).where(raw_files.c.lens == lens, raw_files.c.id.in_(ids))
    return list(connection.execute(query.order_by(raw_files.c.mjd, raw_files.c.path)))


def nights_of(connection: sa.Connection, lens: str) -> list[str]:
    """The nights that have a raw file, in order."""
    night = raw_files.c.night
    query = sa.select(night).where(raw_files.c.lens == lens, night.is_not(None)).distinct().order_by(night)
    return list(connection.scalars(query))


def last_noticed(connection: sa.Connection, lens: str) -> datetime | None:
    """When the newest raw file of a lens was noticed, UTC."""
    query = sa.select(sa.func.max(raw_files.c.noticed_at)).where(raw_files.c.lens == lens)
    last = connection.execute(query).scalar()
    return None if last is None else as_utc(last)


def last_night_until(connection: sa.Connection, lens: str, night: str) -> str | None:
    """The latest night, this one included, that has a raw file."""
    query = sa.select(sa.func.max(raw_files.c.night)).where(
        raw_files.c.lens == lens, raw_files.c.night <= night
    )
    return connection.execute(query).scalar()
