"""Decisions of users about frames and stars: done and recorded in one transaction, whichever way they come."""

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import decisions, frames, stars
from lightcurver_ops.errors import ConfigurationError


def reason_of(comment: str) -> str:
    """The comment of a decision.

    Raises:
        ConfigurationError: there is none.
    """
    if not comment.strip():
        raise ConfigurationError(
            "comment: say why frames or stars are excluded; the reason is kept with the decision"
        )
    return comment.strip()


def eliminate_frames(
    connection: sa.Connection, lens: str, rows: list[sa.Row], comment: str, by: str
) -> list[sa.Row]:
    """Take frames out of the light curve; returns those that were not out already for this reason.

    Raises:
        ConfigurationError: no comment.
    """
    reason, who = reason_of(comment), f"{frames.USER} {by}"
    new = [row for row in rows if not (row.eliminated and row.eliminated_by == who and row.comment == reason)]
    frames.eliminate(connection, [row.id for row in new], reason, who)
    decisions.enter(connection, lens, decisions.ELIMINATE, _named(new), reason, by)
    return new


def restore_frames(
    connection: sa.Connection, lens: str, rows: list[sa.Row], by: str, comment: str = ""
) -> list[sa.Row]:
    """Take eliminated frames back in, whoever eliminated them; returns those that were."""
    out = [row for row in rows if row.eliminated]
    frames.restore(connection, [row.id for row in out])
    decisions.enter(connection, lens, decisions.RESTORE, _named(out), comment.strip() or None, by)
    return out


def exclude_stars(
    connection: sa.Connection, lens: str, rows: list[sa.Row], comment: str, by: str
) -> list[sa.Row]:
    """Take reference stars out of the PSF and the normalization; returns those that were not out for this reason.

    Raises:
        ConfigurationError: no comment.
    """
    reason = reason_of(comment)
    known = {
        row.star_gaia_id
        for row in stars.exclusions_of(connection, lens)
        if (row.comment, row.decided_by) == (reason, by)
    }
    new = [star for star in rows if star.gaia_id not in known]
    for star in new:
        stars.exclude_star(connection, lens, star, reason, by)
    subjects = [(star.gaia_id, star.name) for star in new]
    decisions.enter(connection, lens, decisions.EXCLUDE, subjects, reason, by)
    return new


def include_stars(
    connection: sa.Connection, lens: str, rows: list[sa.Row], by: str, comment: str = ""
) -> list[sa.Row]:
    """Take excluded stars back in, whoever excluded them; returns those that were out."""
    back = [star for star in rows if stars.include_star(connection, lens, star.gaia_id)]
    subjects = [(star.gaia_id, star.name) for star in back]
    decisions.enter(connection, lens, decisions.INCLUDE, subjects, comment.strip() or None, by)
    return back


def _named(rows: list[sa.Row]) -> list[tuple[str, str]]:
    return [(row.image_relpath, row.image_relpath.removeprefix("frames/")) for row in rows]
