"""Queries about frames: which there are, where they lie, what the user decided about them."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping.ledger import upsert
from lightcurver_ops.bookkeeping.tables import footprints, frames, lenses

USER = "user"
_LARGEST = 2**63 - 1  # that fits a number of a row

_number = frames.c.id - lenses.c.id_offset


def _numbered(lens: str) -> sa.Select:
    query = sa.select(frames, _number.label("number")).join(lenses, lenses.c.name == frames.c.lens)
    return query.where(frames.c.lens == lens)


def all_frames(connection: sa.Connection, lens: str) -> list[sa.Row]:
    """Every frame of a lens, by time, with its `number`, by which files and users call it: it survives a copy into
    another database, where the id may be taken."""
    return list(connection.execute(_numbered(lens).order_by(frames.c.mjd, frames.c.image_relpath)))


def frame_numbered(connection: sa.Connection, lens: str, number: int) -> sa.Row | None:
    """The frame that users know by a number, as `all_frames` has it."""
    if abs(number) > _LARGEST:  # no database could be asked
        return None
    return connection.execute(_numbered(lens).where(_number == number)).first()


def any_frame(connection: sa.Connection, lens: str) -> bool:
    """Whether the lens has a frame at all."""
    return (
        connection.execute(sa.select(frames.c.id).where(frames.c.lens == lens).limit(1)).first() is not None
    )


def usable_frames(connection: sa.Connection, lens: str) -> list[sa.Row]:
    """Frames that are plate solved, not eliminated, and show the ROI."""
    return [
        frame
        for frame in all_frames(connection, lens)
        if frame.plate_solved and not frame.eliminated and frame.roi_in_footprint
    ]


def frame_of_raw(connection: sa.Connection, lens: str, raw_path: str) -> sa.Row | None:
    """The frame that was imported from a raw file."""
    query = sa.select(frames).where(frames.c.lens == lens, frames.c.original_image_path == raw_path)
    return connection.execute(query).first()


def frame_with_pixels(connection: sa.Connection, lens: str, pixel_hash: str) -> sa.Row | None:
    """The frame with these very pixels."""
    query = sa.select(frames).where(frames.c.lens == lens, frames.c.pixel_hash == pixel_hash)
    return connection.execute(query).first()


def save_frame(connection: sa.Connection, row: dict[str, Any]) -> None:
    """Insert a frame, or replace the columns given of the frame at the same path."""
    upsert(connection, frames, [row], ["lens", "image_relpath"])


def update_frame(connection: sa.Connection, frame_id: int, **values: Any) -> None:
    """Set columns of a frame."""
    connection.execute(sa.update(frames).where(frames.c.id == frame_id).values(**values))


def eliminate(connection: sa.Connection, frame_ids: Iterable[int], comment: str, by: str) -> int:
    """Take frames out of all further stages; a decision of a user is not overwritten by a stage."""
    condition: sa.ColumnElement[bool] = frames.c.id.in_(list(frame_ids))
    if not by.startswith(USER):
        condition &= ~(frames.c.eliminated & frames.c.eliminated_by.startswith(USER))
    result = connection.execute(
        sa.update(frames).where(condition).values(eliminated=True, comment=comment, eliminated_by=by)
    )
    return result.rowcount


def restore(connection: sa.Connection, frame_ids: Iterable[int], by: str | None = None) -> int:
    """Take frames back in; ``by``: only those that this stage eliminated."""
    condition = frames.c.id.in_(list(frame_ids)) & frames.c.eliminated
    if by is not None:
        condition &= frames.c.eliminated_by == by
    result = connection.execute(
        sa.update(frames).where(condition).values(eliminated=False, comment=None, eliminated_by=None)
    )
    return result.rowcount


def footprints_of(connection: sa.Connection, lens: str) -> dict[int, sa.Row]:
    """frame id: footprint."""
    query = (
        sa.select(footprints).join(frames, frames.c.id == footprints.c.frame_id).where(frames.c.lens == lens)
    )
    return {row.frame_id: row for row in connection.execute(query)}
