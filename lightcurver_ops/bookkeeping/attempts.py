"""The attempts to plate solve each frame."""

from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping.ledger import now, upsert
from lightcurver_ops.bookkeeping.tables import frames, plate_solve_attempts


def save_attempts(connection: sa.Connection, frame_id: int, attempts: Sequence[dict[str, Any]]) -> None:
    """Replace the attempts of a frame; each has the columns of the table but frame_id, number, attempted_at."""
    connection.execute(sa.delete(plate_solve_attempts).where(plate_solve_attempts.c.frame_id == frame_id))
    rows = [
        {**one, "frame_id": frame_id, "number": number, "attempted_at": now()}
        for number, one in enumerate(attempts, 1)
    ]
    # Not a plain insert: another run may solve the same frame at the same time.
    upsert(connection, plate_solve_attempts, rows)


def attempts_of(connection: sa.Connection, frame_ids: Iterable[int]) -> dict[int, list[sa.Row]]:
    """frame id: its attempts, in their order."""
    ids = list(frame_ids)
    query = (
        sa.select(plate_solve_attempts)
        .where(plate_solve_attempts.c.frame_id.in_(ids))
        .order_by(plate_solve_attempts.c.frame_id, plate_solve_attempts.c.number)
    )
    found: dict[int, list[sa.Row]] = {frame_id: [] for frame_id in ids}
    for row in connection.execute(query):
        found[row.frame_id].append(row)
    return found


def last_solution(connection: sa.Connection, row: sa.Row) -> sa.Row | None:
    """The frame of the same lens and size that was solved last before this one in time, else first after it."""
    others = (
        sa.select(frames)
        .where(
            frames.c.lens == row.lens,
            frames.c.id != row.id,
            frames.c.width == row.width,
            frames.c.height == row.height,
            frames.c.plate_solved,
            sa.not_(frames.c.eliminated),
        )
        .limit(1)
    )
    before = connection.execute(
        others.where(frames.c.mjd <= row.mjd).order_by(frames.c.mjd.desc(), frames.c.id)
    ).first()
    return (
        before
        or connection.execute(
            others.where(frames.c.mjd > row.mjd).order_by(frames.c.mjd, frames.c.id)
        ).first()
    )
