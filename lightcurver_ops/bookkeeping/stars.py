"""Queries about reference stars: selections, which star is in which frame."""

import json
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping.ledger import now, provenance, upsert
from lightcurver_ops.bookkeeping.tables import (
    control_stars,
    frames,
    star_exclusions,
    star_selections,
    stars,
    stars_in_frames,
)


def save_selection(
    connection: sa.Connection,
    lens: str,
    selection: str,
    inputs_hash: str,
    description: dict[str, Any],
    rows: list[dict[str, Any]],
) -> None:
    """Store a selection and its stars, and make it the current one; earlier ones stay for what refers to them."""
    connection.execute(
        sa.update(star_selections).where(star_selections.c.lens == lens).values(is_current=False)
    )
    upsert(
        connection,
        star_selections,
        [
            {
                "lens": lens,
                "combined_footprint_hash": selection,
                "description": json.dumps(description, sort_keys=True),
                "is_current": True,
                **provenance(inputs_hash),
            }
        ],
    )
    connection.execute(
        sa.delete(stars).where(stars.c.lens == lens, stars.c.combined_footprint_hash == selection)
    )
    upsert(connection, stars, [{"lens": lens, "combined_footprint_hash": selection, **row} for row in rows])


def current_selection(connection: sa.Connection, lens: str) -> str | None:
    """Identifier of the selection in use."""
    return connection.execute(
        sa.select(star_selections.c.combined_footprint_hash)
        .where(star_selections.c.lens == lens, star_selections.c.is_current)
        .order_by(star_selections.c.made_at.desc())
        .limit(1)
    ).scalar()


def description_of(connection: sa.Connection, lens: str, selection: str) -> dict[str, Any]:
    """What decided a selection, as `save_selection` got it."""
    query = sa.select(star_selections.c.description).where(
        star_selections.c.lens == lens, star_selections.c.combined_footprint_hash == selection
    )
    return json.loads(connection.execute(query).scalar_one())


def stars_of(connection: sa.Connection, lens: str, selection: str) -> list[sa.Row]:
    """Stars of a selection, nearest to the ROI first."""
    query = sa.select(stars).where(stars.c.lens == lens, stars.c.combined_footprint_hash == selection)
    return list(connection.execute(query.order_by(stars.c.distance_to_roi_arcsec, stars.c.gaia_id)))


def save_stars_in_frame(
    connection: sa.Connection, frame_id: int, selection: str, positions: dict[str, tuple[float, float]]
) -> None:
    """Replace which stars of a selection are in a frame, and where."""
    connection.execute(
        sa.delete(stars_in_frames).where(
            stars_in_frames.c.frame_id == frame_id, stars_in_frames.c.combined_footprint_hash == selection
        )
    )
    key = {"frame_id": frame_id, "combined_footprint_hash": selection}
    rows = [{**key, "star_gaia_id": star, "x": x, "y": y} for star, (x, y) in positions.items()]
    upsert(connection, stars_in_frames, rows)


def stars_in_frame(
    connection: sa.Connection, frame_id: int, selection: str
) -> dict[str, tuple[float, float]]:
    """gaia id: (x, y) px, of the stars in a frame."""
    query = sa.select(stars_in_frames).where(
        stars_in_frames.c.frame_id == frame_id, stars_in_frames.c.combined_footprint_hash == selection
    )
    query = query.order_by(stars_in_frames.c.star_gaia_id)
    return {row.star_gaia_id: (row.x, row.y) for row in connection.execute(query)}


def places_in_frames(
    connection: sa.Connection, lens: str, selection: str
) -> dict[int, dict[str, tuple[float, float]]]:
    """frame id: gaia id: (x, y) px, of the stars of a selection in each frame."""
    table = stars_in_frames
    query = (
        sa.select(table)
        .join(frames, frames.c.id == table.c.frame_id)
        .where(frames.c.lens == lens, table.c.combined_footprint_hash == selection)
    )
    result: dict[int, dict[str, tuple[float, float]]] = {}
    for row in connection.execute(query):
        result.setdefault(row.frame_id, {})[row.star_gaia_id] = (row.x, row.y)
    return result


def ids_in_frames(connection: sa.Connection, lens: str, selection: str) -> dict[int, set[str]]:
    """frame id: gaia ids of the stars of a selection in it."""
    return {frame: set(known) for frame, known in places_in_frames(connection, lens, selection).items()}


def shares_of_frames(connection: sa.Connection, selection: str, frame_ids: list[int]) -> dict[str, float]:
    """gaia id: the part of some frames that a star of a selection lies in; frames without any star do not count."""
    table = stars_in_frames
    here = table.c.frame_id.in_(frame_ids) & (table.c.combined_footprint_hash == selection)
    number = connection.execute(
        sa.select(sa.func.count(table.c.frame_id.distinct())).where(here)
    ).scalar_one()
    query = sa.select(table.c.star_gaia_id, sa.func.count()).where(here).group_by(table.c.star_gaia_id)
    return {star: count / number for star, count in connection.execute(query)}


def control_choice_of(connection: sa.Connection, lens: str, selection: str) -> list[sa.Row]:
    """The control stars that were chosen last, filter by filter, and what speaks against the other candidates."""
    query = sa.select(control_stars).where(
        control_stars.c.lens == lens, control_stars.c.combined_footprint_hash == selection
    )
    return list(connection.execute(query.order_by(control_stars.c.filter, control_stars.c.star_gaia_id)))


def save_control_choice(
    connection: sa.Connection, lens: str, selection: str, filter_name: str, rows: list[dict[str, Any]]
) -> None:
    """Replace the choice of a filter."""
    key = {"lens": lens, "combined_footprint_hash": selection, "filter": filter_name}
    same = (control_stars.c[name] == value for name, value in key.items())
    connection.execute(sa.delete(control_stars).where(*same))
    upsert(connection, control_stars, [{**key, **row} for row in rows])


def exclusions_of(connection: sa.Connection, lens: str) -> list[sa.Row]:
    """Reference stars that users took out, by name."""
    query = sa.select(star_exclusions).where(star_exclusions.c.lens == lens)
    return list(connection.execute(query.order_by(star_exclusions.c.name)))


def excluded_ids(connection: sa.Connection, lens: str) -> list[str]:
    """Sorted catalogue identifiers of the stars that users took out."""
    return sorted(row.star_gaia_id for row in exclusions_of(connection, lens))


def exclude_star(connection: sa.Connection, lens: str, star: sa.Row, comment: str, by: str) -> None:
    """Take a star out of the PSF and the normalization of a lens."""
    row = {"lens": lens, "star_gaia_id": star.gaia_id, "name": star.name, "comment": comment}
    upsert(connection, star_exclusions, [{**row, "decided_by": by, "decided_at": now()}])


def include_star(connection: sa.Connection, lens: str, gaia_id: str) -> bool:
    """Take a star back in; whether it was out."""
    condition = (star_exclusions.c.lens == lens) & (star_exclusions.c.star_gaia_id == gaia_id)
    return connection.execute(sa.delete(star_exclusions).where(condition)).rowcount > 0
