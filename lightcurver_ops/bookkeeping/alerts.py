"""Queries about alerts: raised once per event, whoever notices it first."""

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.ledger import now
from lightcurver_ops.bookkeeping.tables import alerts


def claim(engine: sa.Engine, lens: str, key: str, kind: str, subject: str, body: str) -> int | None:
    """Enter an alert; None where this event has raised one already, perhaps a moment ago in another process."""
    row = {"lens": lens, "key": key, "kind": kind, "subject": subject, "body": body, "raised_at": now()}
    try:
        with writing(engine) as connection:
            result = connection.execute(sa.insert(alerts).values(**row))
            key_of_row = result.inserted_primary_key
            assert key_of_row is not None
            return key_of_row[0]
    except IntegrityError:
        with reading(engine) as connection:
            if not any(row.key == key for row in alerts_of(connection, lens)):
                raise  # another reason: there is no such lens
        return None


def any_with_prefix(connection: sa.Connection, lens: str, prefix: str) -> bool:
    """Whether an alert whose key begins so was raised."""
    query = sa.select(alerts.c.id).where(
        alerts.c.lens == lens, alerts.c.key.startswith(prefix, autoescape=True)
    )
    return connection.execute(query.limit(1)).first() is not None


def save_delivery(connection: sa.Connection, alert_id: int, delivery: str) -> None:
    """Enter what became of an alert in each channel (JSON)."""
    connection.execute(sa.update(alerts).where(alerts.c.id == alert_id).values(delivery=delivery))


def alerts_of(connection: sa.Connection, lens: str) -> list[sa.Row]:
    """All alerts of a lens, oldest first."""
    return list(connection.execute(sa.select(alerts).where(alerts.c.lens == lens).order_by(alerts.c.id)))
