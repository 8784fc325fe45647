"""Queries about PSFs, star fluxes, coefficients, zero points and published light curves."""

import hashlib
import json
import logging
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
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
from lightcurver_ops.constants import MAD_TO_SIGMA

log = logging.getLogger(__name__)


def per_frame(connection: sa.Connection, table: sa.Table, lens: str, selection: str) -> dict[int, sa.Row]:
    """frame id: row, of PSFs, normalization_coefficients or absolute_zeropoints of a star selection."""
    query = (
        sa.select(table)
        .join(frames, frames.c.id == table.c.frame_id)
        .where(frames.c.lens == lens, table.c.combined_footprint_hash == selection)
        .order_by(table.c.frame_id)
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
        .order_by(star_flux_in_frame.c.frame_id, star_flux_in_frame.c.star_gaia_id)
    )
    return list(connection.execute(query))


def fluxes_by_frame(connection: sa.Connection, lens: str, selection: str) -> dict[int, list[sa.Row]]:
    """frame id: the star fluxes of a star selection in it."""
    result: dict[int, list[sa.Row]] = {}
    for row in fluxes_of(connection, lens, selection):
        result.setdefault(row.frame_id, []).append(row)
    return result


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
    return list(connection.execute(query.order_by(table.c.filter, table.c.star_gaia_id)))


@dataclass(frozen=True)
class StarScatter:
    """How a star scatters around the coefficients, relative to its flux.

    Attributes:
        measured: 1.48 MAD of flux / coefficient, over their median.
        expected: what the uncertainties of the fluxes predict: the median of sigma / coefficient, over the same.
    """

    measured: float
    expected: float


def star_scatters_of(
    connection: sa.Connection, lens: str, selection: str, filter_name: str
) -> dict[str, StarScatter]:
    """gaia id: scatter, of all stars that were measured in frames of a filter that have a coefficient."""
    flux, coefficient = star_flux_in_frame, normalization_coefficients
    query = (
        sa.select(flux.c.star_gaia_id, flux.c.flux, flux.c.flux_uncertainty, coefficient.c.coefficient)
        .select_from(frames)
        .join(coefficient, coefficient.c.frame_id == frames.c.id)
        .join(
            flux,
            (flux.c.frame_id == frames.c.id)
            & (flux.c.combined_footprint_hash == coefficient.c.combined_footprint_hash),
        )
        .where(
            frames.c.lens == lens,
            frames.c.filter == filter_name,
            coefficient.c.combined_footprint_hash == selection,
            coefficient.c.coefficient > 0,
        )
    )
    found: dict[str, list[tuple[float, float]]] = {}
    for star_id, value, error, scale in connection.execute(query):
        found.setdefault(star_id, []).append((value / scale, error / scale))
    return {star_id: scatter for star_id, pairs in found.items() if (scatter := _scatter(pairs)) is not None}


def _scatter(pairs: list[tuple[float, float]]) -> StarScatter | None:
    centre = statistics.median(value for value, _ in pairs)
    if centre <= 0:
        return None
    deviation = statistics.median(abs(value - centre) for value, _ in pairs)
    return StarScatter(
        MAD_TO_SIGMA * deviation / centre, statistics.median(error for _, error in pairs) / centre
    )


def catalog_magnitudes_of(
    connection: sa.Connection, lens: str, selection: str, band: str
) -> dict[str, float]:
    """gaia id: catalogue magnitude in a band."""
    table = catalog_star_photometry
    query = (
        sa.select(table.c.star_gaia_id, table.c.mag)
        .where(table.c.lens == lens, table.c.combined_footprint_hash == selection, table.c.band == band)
        .order_by(table.c.catalog, table.c.star_gaia_id)
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


_POINT_COLUMNS = [
    column.name for column in light_curve_points.columns if column.name not in ("publication_id", "frame_id")
]
_ROW_COLUMNS = (
    "filter", "version", "configuration", "loss", "converged", "control_stars", "common_errors", "files", "inputs_hash",
    "code_version",
)  # fmt: skip
# Younger than the hashes of rows: where they are null, a hash is what it was without them.
_LATER = {"flux_covariances", "common_errors"}
# Results that differ by less, relatively, are the same: sums in another order, not another measurement.
_SAME = 1e-9

Points = dict[tuple[str, str], dict[str, Any]]
"""By frame (its image_relpath, which outlives copies of the database, as its number does not) and label."""


def publish(
    connection: sa.Connection,
    lens: str,
    filter_name: str,
    publication: dict[str, Any],
    points: list[dict[str, Any]],
    write_files: Callable[[int, datetime], dict[str, str]] | None = None,
    taken: Callable[[], int] = lambda: 0,
) -> tuple[int, bool]:
    """Store a light curve as the next version of its lens and filter, unless the newest one is the same.

    Versions that the bookkeeping does not know, and of which there are files, were published before it was restored
    from a backup, or half published, by a killed process: which of these cannot be told. Their numbers are passed over.

    Args:
        connection: in a transaction.
        lens, filter_name: whose.
        publication: columns of its row.
        points: columns of its points, with the frame's number as `frame_number`.
        write_files: writes the snapshot of a version made at a time; returns path relative to the workdir: sha256.
        taken: the greatest number of which there are files; asked when nobody else publishes.

    Returns:
        The version, and whether it is new.
    """
    # One publication of a lens at a time (SQLite has but one writer anyway); nobody else who writes rows of it waits.
    offset = connection.execute(
        sa.select(lenses.c.id_offset).where(lenses.c.name == lens).with_for_update(key_share=True)
    ).scalar_one()
    rows = [
        {"frame_id": point["frame_number"] + offset}
        | {name: value for name, value in point.items() if name != "frame_number"}
        for point in points
    ]
    named = _by_frame(connection, lens, rows)
    newest = publication_of(connection, lens, filter_name)
    if newest is not None and _is_same(connection, newest, publication, named):
        return newest.version, False
    known = newest.version if newest is not None else 0
    on_disk = taken()
    if on_disk > known:
        log.warning(
            "%s, filter %s: there are snapshots up to version %d, and the bookkeeping knows them up to %d (an older "
            "backup, or a run that was killed); they stay, and the new light curve is version %d",
            lens, filter_name, on_disk, known, on_disk + 1,
        )  # fmt: skip
    version = max(known, on_disk) + 1
    files = write_files(version, publication["made_at"]) if write_files is not None else None
    published = {
        "lens": lens,
        "filter": filter_name,
        "version": version,
        **publication,
        "files": json.dumps(files, sort_keys=True) if files is not None else None,
    }
    published["rows_sha256"] = _digest(published, named)
    key = connection.execute(sa.insert(publications).values(**published)).inserted_primary_key
    assert key is not None
    if rows:
        connection.execute(sa.insert(light_curve_points), [{"publication_id": key[0], **row} for row in rows])
    return version, True


def _by_frame(connection: sa.Connection, lens: str, points: list[dict[str, Any]]) -> Points:
    ids = {point["frame_id"] for point in points}
    query = sa.select(frames.c.id, frames.c.image_relpath).where(frames.c.lens == lens)
    names = {row.id: row.image_relpath for row in connection.execute(query) if row.id in ids}
    return {
        (names[point["frame_id"]], point["source"]): _point({name: point[name] for name in _POINT_COLUMNS})
        for point in points
    }


def _point(values: dict[str, Any]) -> dict[str, Any]:
    """A point with its covariances as numbers by label, so that they compare as numbers."""
    text = values["flux_covariances"]
    return values | {"flux_covariances": None if text is None else json.loads(text)}


def named_points_of(connection: sa.Connection, publication_id: int) -> Points:
    """The points of a publication, by frame and label."""
    table = light_curve_points
    query = (
        sa.select(frames.c.image_relpath, *(table.c[name] for name in _POINT_COLUMNS))
        .join(frames, frames.c.id == table.c.frame_id)
        .where(table.c.publication_id == publication_id)
        .order_by(table.c.mjd, frames.c.image_relpath, table.c.source)
    )
    return {
        (row.image_relpath, row.source): _point({name: getattr(row, name) for name in _POINT_COLUMNS})
        for row in connection.execute(query)
    }


def _is_same(connection: sa.Connection, newest: sa.Row, publication: dict[str, Any], points: Points) -> bool:
    records = [
        [json.loads(row[name] or "null") for name in ("control_stars", "common_errors")]
        for row in (publication, newest._mapping)
    ]
    return (
        bool(newest.converged) == bool(publication["converged"])
        and same_values(*records)
        and same_values(points, named_points_of(connection, newest.id))
    )


def same_values(one: Any, other: Any) -> bool:
    """Whether nested plain data are equal, numbers within the last digits."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(
            same_values(value, other[key]) for key, value in one.items()
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_values, one, other))
    if isinstance(one, float) or isinstance(other, float):
        one, other = _plain(one), _plain(other)
        if one is None or other is None:
            return one is other
        return math.isclose(one, other, rel_tol=_SAME, abs_tol=0.0)
    return one == other


def _plain(value: Any) -> Any:
    """As both engines give it back: SQLite has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _digest(row: Mapping[str, Any], points: Points) -> str:
    content = {
        "row": {name: _plain(row[name]) for name in _ROW_COLUMNS if _counts(row, name)},
        "points": sorted(
            [*place, *(_plain(point[name]) for name in _POINT_COLUMNS if _counts(point, name))]
            for place, point in points.items()
        ),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _counts(row: Mapping[str, Any], name: str) -> bool:
    return name not in _LATER or row[name] is not None


def rows_are_as_published(connection: sa.Connection, publication: sa.Row) -> bool:
    """Whether the row of a publication and its points are what was published; True where no hash was recorded."""
    if publication.rows_sha256 is None:
        return True
    return (
        _digest(publication._asdict(), named_points_of(connection, publication.id)) == publication.rows_sha256
    )


def publication_of(
    connection: sa.Connection, lens: str, filter_name: str, version: int | None = None
) -> sa.Row | None:
    """A version of a light curve; the newest where none is asked for."""
    query = sa.select(publications).where(publications.c.lens == lens, publications.c.filter == filter_name)
    if version is not None:
        query = query.where(publications.c.version == version)
    return connection.execute(query.order_by(publications.c.version.desc()).limit(1)).first()


def publications_of(connection: sa.Connection, lens: str) -> list[sa.Row]:
    """All versions of all light curves of a lens, by filter and number."""
    query = sa.select(publications).where(publications.c.lens == lens)
    return list(connection.execute(query.order_by(publications.c.filter, publications.c.version)))


def set_files(connection: sa.Connection, publication: sa.Row, files: dict[str, str]) -> None:
    """Record other files of a publication's snapshot, whose rows the caller has checked.

    Args:
        connection: in a transaction that writes.
        publication: its row.
        files: path relative to the workdir: sha256.
    """
    row = publication._asdict() | {"files": json.dumps(files, sort_keys=True)}
    digest = _digest(row, named_points_of(connection, publication.id))
    connection.execute(
        sa.update(publications)
        .where(publications.c.id == publication.id)
        .values(files=row["files"], rows_sha256=None if publication.rows_sha256 is None else digest)
    )


def published_filters(connection: sa.Connection, lens: str) -> list[str]:
    """Filters that have a light curve."""
    query = sa.select(publications.c.filter).where(publications.c.lens == lens).distinct()
    return sorted(connection.execute(query).scalars())


def published_frames(connection: sa.Connection, lens: str) -> set[int]:
    """Ids of the frames that are part of the newest light curve of their filter."""
    found: set[int] = set()
    for filter_name in published_filters(connection, lens):
        publication = publication_of(connection, lens, filter_name)
        if publication is not None:
            query = sa.select(light_curve_points.c.frame_id).where(
                light_curve_points.c.publication_id == publication.id
            )
            found.update(connection.execute(query.distinct()).scalars())
    return found


def epoch_notes_of(connection: sa.Connection, lens: str) -> dict[str, dict[str, Any]]:
    """image_relpath: note and aside, of the frames of which the newest light curves left something out."""
    notes: dict[str, dict[str, Any]] = {}
    for filter_name in published_filters(connection, lens):
        publication = publication_of(connection, lens, filter_name)
        notes |= json.loads((publication and publication.epoch_notes) or "{}")
    return notes


def points_of(connection: sa.Connection, publication_id: int) -> list[sa.Row]:
    """The points of a publication, by time and label, with the number of the frame (`all_frames`)."""
    table = light_curve_points
    query = sa.select(table, (table.c.frame_id - lenses.c.id_offset).label("frame_number"))
    query = query.join(publications, publications.c.id == table.c.publication_id)
    query = query.join(lenses, lenses.c.name == publications.c.lens)
    query = query.where(table.c.publication_id == publication_id)
    return list(connection.execute(query.order_by(table.c.mjd, table.c.frame_id, table.c.source)))
