"""Copies of a lens between databases: all its rows or none, compared one by one before they count.

Ids may be taken in the target, where other lenses are. All ids of the lens are then moved by one number, which the
target keeps (``lenses.id_offset``): the way back takes it off again, and files, which know frames by their numbers
(id minus offset), need not change.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from lightcurver_ops import processes
from lightcurver_ops.bookkeeping import schema
from lightcurver_ops.bookkeeping.engine import (
    file_of,
    is_absent,
    open_engine,
    parsed_url,
    reading,
    restructuring,
    shown,
)
from lightcurver_ops.bookkeeping.ledger import as_utc
from lightcurver_ops.bookkeeping.tables import frames, lenses, metadata, products, stage_runs
from lightcurver_ops.errors import ConfigurationError

_BATCH = 1000
_SHOWN = 3
_FIRST_STAGE = "initialize_database"


@dataclass(frozen=True)
class Copied:
    """What a copy did."""

    lens: str
    rows: dict[str, int]
    """table: rows, each compared."""
    was_there: bool = False
    """The target had these very rows already; nothing was written."""

    def summary(self) -> str:
        count, tables = sum(self.rows.values()), sum(number > 0 for number in self.rows.values())
        if self.was_there:
            return f"{self.lens}: is there already: {count} rows of {tables} tables compared, all equal"
        return f"{self.lens}: {count} rows of {tables} tables copied, then compared one by one: all equal"


def copy_lens(source_url: str, target_url: str, lens: str, *, replace: bool = False) -> Copied:
    """Copy all rows of a lens from one database into another, in one transaction.

    Args:
        source_url: of the database that has the lens; nothing is changed there.
        target_url: of the database that shall have it; its schema is made or upgraded.
        lens: name of the lens.
        replace: delete rows that the target has of this lens, if they are others.

    Raises:
        ConfigurationError: one of the databases is not fit for it, the target has other rows of this lens, or does not
            give back what was written.
        TemporaryFailure: a connection was lost. The target is as it was, also where the process is killed.
    """
    if _identity(source_url) == _identity(target_url):
        raise ConfigurationError(f"{lens}: source and target are the same database, {shown(source_url)}")
    if is_absent(source_url):
        raise ConfigurationError(f"{lens}: there is no {file_of(source_url)} to copy from")
    is_new = is_absent(target_url)
    source, target = open_engine(source_url), open_engine(target_url)
    try:
        with reading(source, snapshot=True) as read:
            _check_source(read, lens)
            with restructuring(target) as write:
                return _copy(read, write, lens, replace)
    except BaseException:
        target.dispose()
        if is_new:
            _remove_empty(target_url)
        raise
    finally:
        source.dispose()
        target.dispose()


def differences(first: sa.Connection, second: sa.Connection, lens: str) -> Iterator[str]:
    """Each difference between the rows of a lens in two databases; ids may differ by their offsets."""
    shift = _offset(second, lens) - _offset(first, lens)
    for table in metadata.sorted_tables:
        yield from _differences_in(table, first, second, lens, shift)


def rows_of(table: sa.Table, lens: str) -> sa.ColumnElement[bool]:
    """The condition for rows of a table that belong to a lens: by its column, or by what the row refers to.

    Raises:
        LookupError: a table that belongs to no lens.
    """
    if table is lenses:
        return lenses.c.name == lens
    if "lens" in table.c:
        return table.c.lens == lens
    for column in table.c:
        for key in column.foreign_keys:
            return column.in_(sa.select(key.column).where(rows_of(key.column.table, lens)))
    raise LookupError(f"{table.name} belongs to no lens")


def count_rows(connection: sa.Connection, lens: str) -> dict[str, int]:
    """table: number of rows of a lens."""
    return {
        table.name: connection.execute(
            sa.select(sa.func.count()).select_from(table).where(rows_of(table, lens))
        ).scalar_one()
        for table in metadata.sorted_tables
    }


def _copy(read: sa.Connection, write: sa.Connection, lens: str, replace: bool) -> Copied:
    schema.upgrade_in(write)
    if write.dialect.name == "postgresql":  # ids are chosen here: nobody may take one meanwhile
        names = ", ".join(f'"{table.name}"' for table in _with_ids())
        write.exec_driver_sql(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE")
    if _has(write, lens):
        if next(differences(read, write, lens), None) is None:
            return Copied(lens, count_rows(write, lens), was_there=True)
        _make_room(write, lens, replace)
    offset = _free_offset(read, write, lens)
    shift = offset - _offset(read, lens)
    rows = {}
    for table in metadata.sorted_tables:
        shifted = _shifted_columns(table)
        rows[table.name] = 0
        query = sa.select(table).where(rows_of(table, lens)).execution_options(yield_per=_BATCH)
        for batch in read.execute(query).mappings().partitions():
            written = [_moved(row, shifted, shift) for row in batch]
            if table is lenses:
                written = [{**row, "id_offset": offset} for row in written]
            write.execute(sa.insert(table), written)
            rows[table.name] += len(written)
    if write.dialect.name == "postgresql":
        _advance_sequences(write)
    found = list(itertools.islice(differences(read, write, lens), _SHOWN + 1))
    if found:
        more = " and more" if len(found) > _SHOWN else ""
        raise ConfigurationError(
            f"{lens}: {shown(write.engine)} does not give back what was written to it, nothing was copied: "
            f"{'; '.join(found[:_SHOWN])}{more}"
        )
    return Copied(lens, rows)


def _check_source(read: sa.Connection, lens: str) -> None:
    where = shown(read.engine)
    revision = schema.revision_of(read)
    if revision != schema.newest_revision():
        raise ConfigurationError(
            f"{lens}: {where} has the schema {revision or '(none)'}, expected {schema.newest_revision()}: "
            "`lcops db upgrade` it first"
        )
    if not _has(read, lens):
        raise ConfigurationError(f"{lens}: {where} has no such lens")
    at_work = sa.select(stage_runs).where(stage_runs.c.lens == lens, stage_runs.c.status == "running")
    for run in read.execute(at_work):
        if run.process is not None and processes.is_running(run.process):
            raise ConfigurationError(
                f"{lens}: {run.stage} is at work on it (process {run.pid}); what it makes meanwhile would be missing "
                "in the copy: wait for it, or end it, and keep others from starting"
            )


def _make_room(write: sa.Connection, lens: str, replace: bool) -> None:
    """Delete the lens from the target where that is wanted, or where no more was done than entering it."""
    counts = count_rows(write, lens)
    own = {lenses.name, stage_runs.name, products.name}
    stages = (
        sa.select(products.c.stage)
        .where(products.c.lens == lens)
        .union(sa.select(stage_runs.c.stage).where(stage_runs.c.lens == lens))
    )
    is_empty = not any(count for name, count in counts.items() if name not in own) and set(
        write.execute(stages).scalars()
    ) <= {_FIRST_STAGE}
    if not (is_empty or replace):
        raise ConfigurationError(
            f"{lens}: {shown(write.engine)} has other rows of it ({counts[frames.name]} frames, "
            f"{sum(counts.values())} rows in all), and a copy never mixes: nothing was copied; --replace deletes them"
        )
    for table in reversed(metadata.sorted_tables):
        write.execute(sa.delete(table).where(rows_of(table, lens)))


def _free_offset(read: sa.Connection, write: sa.Connection, lens: str) -> int:
    """None (0) where the target has room for the lens's own ids, else past all of the target."""
    own = _offset(read, lens)
    greatest = 0
    is_taken = False
    for table in _with_ids():
        last = write.execute(sa.select(sa.func.max(table.c.id))).scalar() or 0
        greatest = max(greatest, last)
        lowest, highest = read.execute(
            sa.select(sa.func.min(table.c.id), sa.func.max(table.c.id)).where(rows_of(table, lens))
        ).one()
        if lowest is not None:
            between = table.c.id.between(lowest - own, highest - own)
            is_taken |= write.execute(sa.select(table.c.id).where(between).limit(1)).first() is not None
    return greatest if is_taken else 0


def _with_ids() -> list[sa.Table]:
    return [table for table in metadata.sorted_tables if "id" in table.c]


def _shifted_columns(table: sa.Table) -> list[str]:
    """Columns that hold an id of this table or another."""
    return [
        column.name
        for column in table.c
        if column.name == "id" or any(key.column.name == "id" for key in column.foreign_keys)
    ]


def _moved(row: sa.RowMapping, shifted: list[str], shift: int) -> dict[str, Any]:
    moved: dict[str, Any] = {
        name: as_utc(value) if isinstance(value, datetime) else value for name, value in row.items()
    }
    return moved | {name: moved[name] + shift for name in shifted if moved[name] is not None}


def _differences_in(
    table: sa.Table, first: sa.Connection, second: sa.Connection, lens: str, shift: int
) -> Iterator[str]:
    shifted = _shifted_columns(table)
    keys = [column.name for column in table.primary_key.columns]

    def rows(connection: sa.Connection) -> Iterator[sa.RowMapping]:
        # By the bytes of a text, as SQLite does: what comes first must not depend on a server's language.
        order = [
            sa.collate(column, "C")
            if connection.dialect.name == "postgresql" and isinstance(column.type, sa.String)
            else column
            for column in table.primary_key.columns
        ]
        query = sa.select(table).where(rows_of(table, lens)).order_by(*order)
        return iter(connection.execute(query.execution_options(yield_per=_BATCH)).mappings())

    for theirs, ours in itertools.zip_longest(rows(first), rows(second)):
        if theirs is None or ours is None:
            row, what = (ours, "is one too many") if theirs is None else (theirs, "is missing")
            yield f"{table.name} {[row[key] for key in keys]} {what}"
            return
        expected, found = _moved(theirs, shifted, shift), _moved(ours, [], 0)
        for name, value in expected.items():
            if name != lenses.c.id_offset.name and not _same(value, found[name]):
                yield f"{table.name} {[found[key] for key in keys]}: {name} is {found[name]!r} instead of {value!r}"


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, float) and isinstance(second, float) and math.isnan(first):
        return math.isnan(second)
    return type(first) is type(second) and first == second


def _has(connection: sa.Connection, lens: str) -> bool:
    return connection.execute(sa.select(lenses.c.name).where(lenses.c.name == lens)).first() is not None


def _offset(connection: sa.Connection, lens: str) -> int:
    return connection.execute(sa.select(lenses.c.id_offset).where(lenses.c.name == lens)).scalar_one()


def _advance_sequences(write: sa.Connection) -> None:
    for table in _with_ids():
        write.exec_driver_sql(
            f"SELECT setval(s, greatest((SELECT max(id) FROM {table.name}), nextval(s))) "
            f"FROM pg_get_serial_sequence('{table.name}', 'id') s"
        )


def _identity(url: str) -> tuple[Any, ...]:
    if (file := file_of(url)) is not None:
        return ("sqlite", str(file.absolute()))
    parsed = parsed_url(url)
    return (parsed.get_backend_name(), parsed.host, parsed.port or 5432, parsed.database or parsed.username)


def _remove_empty(url: str) -> None:
    """Remove a file that we made and wrote nothing to; others who opened it meanwhile keep what they wrote."""
    engine = open_engine(url)
    try:
        with reading(engine) as connection:
            if sa.inspect(connection).get_table_names():
                return
    finally:
        engine.dispose()
    file = file_of(url)
    assert file is not None
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
