"""The record of what users decided about frames and stars: who, when, why; nothing in it changes after the fact."""

from collections.abc import Iterable

import sqlalchemy as sa

from lightcurver_ops.bookkeeping.ledger import now
from lightcurver_ops.bookkeeping.tables import decisions

ELIMINATE, RESTORE = "eliminate_frame", "restore_frame"
EXCLUDE, INCLUDE = "exclude_star", "include_star"


def enter(
    connection: sa.Connection,
    lens: str,
    kind: str,
    subjects: Iterable[tuple[str, str]],
    comment: str | None,
    by: str,
) -> None:
    """Enter a decision about each subject: (identifier, name)."""
    common = {"lens": lens, "kind": kind, "comment": comment, "decided_by": by, "decided_at": now()}
    rows = [{**common, "subject": subject, "name": name} for subject, name in subjects]
    if rows:
        connection.execute(sa.insert(decisions), rows)


def decisions_of(
    connection: sa.Connection, lens: str, subject: str | None = None, most: int | None = None
) -> list[sa.Row]:
    """The decisions about a lens, or about one frame or star of it, newest first."""
    query = sa.select(decisions).where(decisions.c.lens == lens)
    if subject is not None:
        query = query.where(decisions.c.subject == subject)
    return list(connection.execute(query.order_by(decisions.c.id.desc()).limit(most)))
