"""Queries about light curves that missed a gate of the publication."""

import json
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping.ledger import upsert
from lightcurver_ops.bookkeeping.tables import withheld_light_curves


def withhold(connection: sa.Connection, row: dict[str, Any], reasons: list[str]) -> None:
    """Record the newest light curve of a filter that is not published.

    Args:
        connection: in a transaction that writes.
        row: columns of `withheld_light_curves`, without the reasons.
        reasons: which gates it missed.
    """
    upsert(connection, withheld_light_curves, [{**row, "reasons": json.dumps(reasons)}])


def release(connection: sa.Connection, lens: str, filter_name: str) -> None:
    """Nothing of this filter is withheld any more."""
    table = withheld_light_curves
    connection.execute(sa.delete(table).where(table.c.lens == lens, table.c.filter == filter_name))


def withheld_of(connection: sa.Connection, lens: str) -> list[sa.Row]:
    """What is withheld of a lens, by filter."""
    table = withheld_light_curves
    return list(connection.execute(sa.select(table).where(table.c.lens == lens).order_by(table.c.filter)))


def reasons_of(row: sa.Row) -> str:
    """Which gates it missed, in one line."""
    return "; ".join(json.loads(row.reasons))
