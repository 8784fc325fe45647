"""The ledger: what each stage has made from which inputs, what failed and why, and every run of a stage."""

import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from lightcurver_ops import __version__, processes
from lightcurver_ops.bookkeeping.tables import products, stage_runs

DONE, FAILED, QUARANTINED = "done", "failed", "quarantined"


def now() -> datetime:
    """The time, UTC."""
    return datetime.now(UTC)


def as_utc(moment: datetime) -> datetime:
    """A time of the bookkeeping: SQLite gives it without its zone, Postgres in that of the connection."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def provenance(inputs_hash: str) -> dict[str, Any]:
    """The columns that every product row carries."""
    return {"inputs_hash": inputs_hash, "code_version": __version__, "made_at": now()}


def upsert(
    connection: sa.Connection,
    table: sa.Table,
    rows: list[dict[str, Any]],
    keys: list[str] | None = None,
    *,
    where_other: tuple[str, ...] = (),
    computed: Mapping[str, Callable[[Any], sa.ColumnElement]] | None = None,
) -> None:
    """Insert rows, or replace the columns given of those that exist with the same key.

    Args:
        connection: to the bookkeeping.
        table: of the rows.
        rows: all with the same columns.
        keys: columns that identify a row; default: the primary key.
        where_other: replace a row only where one of these columns has another value.
        computed: column: its value in a row that exists, from the new row.
    """
    if not rows:
        return
    module = postgresql if connection.dialect.name == "postgresql" else sqlite
    keys = keys or [column.name for column in table.primary_key.columns]
    statement = module.insert(table)
    changed: dict[str, Any] = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    changed |= {name: value(statement.excluded) for name, value in (computed or {}).items()}
    if changed:
        others = [table.c[name] != statement.excluded[name] for name in where_other]
        statement = statement.on_conflict_do_update(
            index_elements=keys, set_=changed, where=sa.or_(*others) if others else None
        )
    else:
        statement = statement.on_conflict_do_nothing(index_elements=keys)
    # In one order, whoever writes: of two writers of the same rows neither then holds what the other waits for.
    connection.execute(statement, sorted(rows, key=lambda row: tuple(row[key] for key in keys)))


@dataclass(frozen=True)
class Product:
    """The state of one unit of one stage."""

    unit: str
    status: str
    inputs_hash: str
    reason: str | None
    error_class: str | None
    attempts: int
    made_at: datetime | None
    code_version: str
    run_id: int | None


def products_of(connection: sa.Connection, lens: str, stage: str) -> dict[str, Product]:
    """All units that a stage has a record of."""
    query = sa.select(products).where(products.c.lens == lens, products.c.stage == stage)
    return {
        row.unit: Product(
            row.unit,
            row.status,
            row.inputs_hash,
            row.reason,
            row.error_class,
            row.attempts,
            row.made_at,
            row.code_version,
            row.run_id,
        )
        for row in connection.execute(query)
    }


def done_hashes(connection: sa.Connection, lens: str, stage: str) -> dict[str, str]:
    """unit: inputs hash, of the units that are done."""
    query = sa.select(products.c.unit, products.c.inputs_hash).where(
        products.c.lens == lens, products.c.stage == stage, products.c.status == DONE
    )
    return {row.unit: row.inputs_hash for row in connection.execute(query)}


def record(
    connection: sa.Connection,
    lens: str,
    stage: str,
    unit: str,
    inputs_hash: str,
    *,
    status: str = DONE,
    run_id: int | None = None,
    error: BaseException | None = None,
) -> None:
    """Write the state of a unit; another try with the same inputs counts up, changed inputs start anew."""
    row = {
        "lens": lens,
        "stage": stage,
        "unit": unit,
        "status": status,
        "reason": str(error) if error else None,
        "error_class": type(error).__name__ if error else None,
        "attempts": 1,
        "run_id": run_id,
        **provenance(inputs_hash),
    }

    def attempts(new: Any) -> sa.ColumnElement:
        return sa.case((products.c.inputs_hash == new.inputs_hash, products.c.attempts + 1), else_=1)

    upsert(connection, products, [row], computed={"attempts": attempts})


def forget(connection: sa.Connection, lens: str, stages: list[str], units: set[str] | None = None) -> None:
    """Make products of stages missing, so that they are made again; ``units`` None: all of them."""
    condition = (products.c.lens == lens) & products.c.stage.in_(stages)
    if units is not None:
        condition &= products.c.unit.in_(units)
    connection.execute(sa.delete(products).where(condition))


def begin_run(connection: sa.Connection, lens: str, stage: str, n_selected: int) -> int:
    """Enter a run of a stage into the ledger; runs whose process is lost are marked as interrupted."""
    _mark_interrupted(connection, lens)
    result = connection.execute(
        sa.insert(stage_runs).values(
            lens=lens,
            stage=stage,
            status="running",
            started_at=now(),
            n_selected=n_selected,
            code_version=__version__,
            host=platform.node(),
            pid=os.getpid(),
            process=processes.own_mark(),
        )
    )
    key = result.inserted_primary_key
    assert key is not None
    return key[0]


def end_run(
    connection: sa.Connection,
    run_id: int,
    status: str,
    *,
    n_done: int,
    n_failed: int,
    message: str,
    error: BaseException | None = None,
    cpu_seconds: float | None = None,
    peak_mib: float | None = None,
) -> None:
    """Enter how a run of a stage ended, and what it cost."""
    connection.execute(
        sa.update(stage_runs)
        .where(stage_runs.c.id == run_id)
        .values(
            status=status,
            finished_at=now(),
            n_done=n_done,
            n_failed=n_failed,
            message=message,
            error_class=type(error).__name__ if error else None,
            cpu_seconds=cpu_seconds,
            peak_mib=peak_mib,
        )
    )


def last_run(connection: sa.Connection, lens: str, stage: str) -> sa.Row | None:
    """The latest run of a stage."""
    query = sa.select(stage_runs).where(stage_runs.c.lens == lens, stage_runs.c.stage == stage)
    return connection.execute(query.order_by(stage_runs.c.id.desc()).limit(1)).first()


def _mark_interrupted(connection: sa.Connection, lens: str) -> None:
    running = connection.execute(
        sa.select(stage_runs.c.id, stage_runs.c.process, stage_runs.c.started_at).where(
            stage_runs.c.lens == lens, stage_runs.c.status == "running"
        )
    )
    lost = [row.id for row in running if processes.is_lost(row.process, as_utc(row.started_at).timestamp())]
    if lost:
        connection.execute(
            sa.update(stage_runs)
            .where(stage_runs.c.id.in_(lost))
            .values(
                status="interrupted", finished_at=now(), message="the process ended without a word (killed?)"
            )
        )
