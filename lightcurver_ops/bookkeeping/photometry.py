"""Queries about PSFs, star fluxes, coefficients, zero points and published light curves."""

from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping.ledger import upsert
from lightcurver_ops.bookkeeping.tables import (
    PSFs,
    absolute_zeropoints,
    catalog_star_photometry,
    frames,
    lenses,
    light_curve_points,
    normalization_coefficients,
    publications,
    star_flux_in_frame,
    star_normalization,
)


def per_frame(connection: sa.Connection, table: sa.Table, lens: str, selection: str) -> dict[int, sa.Row]:
    """frame id: row, of PSFs, normalization_coefficients or absolute_zeropoints of a star selection."""
    query = (
        sa.select(table)
        .join(frames, frames.c.id == table.c.frame_id)
        .where(frames.c.lens == lens, table.c.combined_footprint_hash == selection)
    )
    return {row.frame_id: row for row in connection.execute(query)}


def psfs_of(connection: sa.Connection, lens: str, selection: str) -> dict[int, sa.Row]:
    """frame id: PSF row of a star selection."""
    return per_frame(connection, PSFs, lens, selection)


def fluxes_of(connection: sa.Connection, lens: str, selection: str) -> list[sa.Row]:
    """All star fluxes of a star selection."""
    query = (
        sa.select(star_flux_in_frame)
        .join(frames, frames.c.id == star_flux_in_frame.c.frame_id)
        .where(frames.c.lens == lens, star_flux_in_frame.c.combined_footprint_hash == selection)
    )
    return list(connection.execute(query))


def coefficients_of(connection: sa.Connection, lens: str, selection: str) -> dict[int, sa.Row]:
    """frame id: normalization coefficient."""
    return per_frame(connection, normalization_coefficients, lens, selection)


def zeropoints_of(connection: sa.Connection, lens: str, selection: str) -> dict[int, sa.Row]:
    """frame id: absolute zero point."""
    return per_frame(connection, absolute_zeropoints, lens, selection)


def star_normalizations_of(connection: sa.Connection, lens: str, selection: str) -> list[sa.Row]:
    """Scale, scatter and weight of each star in the normalization."""
    table = star_normalization
    query = sa.select(table).where(table.c.lens == lens, table.c.combined_footprint_hash == selection)
    return list(connection.execute(query))


def catalog_magnitudes_of(
    connection: sa.Connection, lens: str, selection: str, band: str
) -> dict[str, float]:
    """gaia id: catalogue magnitude in a band."""
    table = catalog_star_photometry
    query = sa.select(table.c.star_gaia_id, table.c.mag).where(
        table.c.lens == lens, table.c.combined_footprint_hash == selection, table.c.band == band
    )
    return {row.star_gaia_id: row.mag for row in connection.execute(query)}


def replace_rows(
    connection: sa.Connection,
    table: sa.Table,
    rows: list[dict[str, Any]],
    frame_ids: list[int],
    selection: str,
) -> None:
    """Replace all rows of a table that belong to frames and a star selection."""
    connection.execute(
        sa.delete(table).where(table.c.frame_id.in_(frame_ids), table.c.combined_footprint_hash == selection)
    )
    # Not a plain insert: another task may write the same rows at the same time.
    upsert(connection, table, rows)


def publish(
    connection: sa.Connection,
    lens: str,
    filter_name: str,
    publication: dict[str, Any],
    points: list[dict[str, Any]],
) -> int:
    """Store a light curve as the next version of its lens and filter; returns the version."""
    # One publication of a lens at a time (SQLite has but one writer anyway).
    connection.execute(sa.select(lenses.c.name).where(lenses.c.name == lens).with_for_update())
    newest = connection.execute(
        sa.select(sa.func.max(publications.c.version)).where(
            publications.c.lens == lens, publications.c.filter == filter_name
        )
    ).scalar()
    version = (newest or 0) + 1
    result = connection.execute(
        sa.insert(publications).values(lens=lens, filter=filter_name, version=version, **publication)
    )
    key = result.inserted_primary_key
    assert key is not None
    if points:
        connection.execute(
            sa.insert(light_curve_points), [{"publication_id": key[0], **point} for point in points]
        )
    return version


def publication_of(
    connection: sa.Connection, lens: str, filter_name: str, version: int | None = None
) -> sa.Row | None:
    """A version of a light curve; the newest where none is asked for."""
    query = sa.select(publications).where(publications.c.lens == lens, publications.c.filter == filter_name)
    if version is not None:
        query = query.where(publications.c.version == version)
    return connection.execute(query.order_by(publications.c.version.desc()).limit(1)).first()


def published_filters(connection: sa.Connection, lens: str) -> list[str]:
    """Filters that have a light curve."""
    query = sa.select(publications.c.filter).where(publications.c.lens == lens).distinct()
    return sorted(connection.execute(query).scalars())


def points_of(connection: sa.Connection, publication_id: int) -> list[sa.Row]:
    """The points of a publication, by time and label."""
    table = light_curve_points
    query = sa.select(table).where(table.c.publication_id == publication_id)
    return list(connection.execute(query.order_by(table.c.mjd, table.c.frame_id, table.c.source)))
