"""Queries about all lenses of a database at once: a few, each for all, and none that reads a whole large table."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping.tables import (
    FAILED_RUN,
    alerts,
    decisions,
    frames,
    lenses,
    light_curve_points,
    products,
    publication_summaries,
    publications,
    raw_files,
    stage_runs,
)

# Where no raw file was noticed (`lcops run` alone), the last night is sought in the frames of so many days.
_DAY = 1.0
_MOST_NAMED = 500


def follow_indexes(connection: sa.Connection) -> None:
    """Have Postgres look rows up by their indexes, for the rest of this transaction.

    Each of these queries wants a few rows per lens of tables with millions. The planner cannot know how few, and would
    read them whole.
    """
    if connection.dialect.name == "postgresql":
        for method in ("seqscan", "bitmapscan", "hashjoin", "mergejoin"):
            connection.execute(sa.text(f"set local enable_{method} = off"))


def _once(query: sa.Select, name: str) -> sa.CTE:
    """A part of a query that is made once, not for every row that meets it."""
    return query.cte(name).prefix_with("materialized", dialect="postgresql")


def version_of(connection: sa.Connection) -> tuple[Any, ...]:
    """Changes whenever a stage, a publication, a decision, an alert or a raw file was entered."""
    newest = [sa.select(sa.func.max(table.c.id)).scalar_subquery()
              for table in (stage_runs, publications, decisions, alerts, raw_files)]  # fmt: skip
    ended = sa.select(sa.func.max(stage_runs.c.finished_at)).scalar_subquery()
    return tuple(connection.execute(sa.select(*newest, ended)).one())


def lens_names(connection: sa.Connection) -> list[str]:
    """All lenses, sorted."""
    return sorted(connection.execute(sa.select(lenses.c.name)).scalars())


def _last_nights() -> sa.CTE:
    """lens, night: the latest night that has a raw file; null where there is none."""
    night = (
        sa.select(sa.func.max(raw_files.c.night)).where(raw_files.c.lens == lenses.c.name).scalar_subquery()
    )
    return _once(sa.select(lenses.c.name.label("lens"), night.label("night")), "last_nights")


def last_nights(connection: sa.Connection) -> dict[str, str]:
    """lens: the latest night that has a raw file."""
    nights = _last_nights()
    return {row.lens: row.night for row in connection.execute(sa.select(nights)) if row.night is not None}


# Outer joins, though what they miss is dropped at once: SQLite and Postgres take their left side first, and so go from
# the few to the many by an index, whatever they believe of the sizes.


def raw_of_last_nights(connection: sa.Connection) -> list[sa.Row]:
    """id, lens and path of the raw files of the last nights."""
    nights = _last_nights()
    query = sa.select(raw_files.c.id, raw_files.c.lens, raw_files.c.path).select_from(
        nights.outerjoin(
            raw_files, (raw_files.c.lens == nights.c.lens) & (raw_files.c.night == nights.c.night)
        )
    )
    return [row for row in connection.execute(query) if row.id is not None]


def frames_of_last_nights(connection: sa.Connection) -> list[sa.Row]:
    """The frames since the beginning of each lens's last night."""
    nights = _last_nights()
    first = (
        sa.select(sa.func.min(raw_files.c.mjd))
        .where(raw_files.c.lens == nights.c.lens, raw_files.c.night == nights.c.night)
        .scalar_subquery()
    )
    newest = sa.select(sa.func.max(frames.c.mjd)).where(frames.c.lens == nights.c.lens).scalar_subquery()
    begin = _once(
        sa.select(nights.c.lens, sa.func.coalesce(first - 1e-6, newest - _DAY).label("mjd")), "begin"
    )
    query = sa.select(
        frames.c.id,
        frames.c.lens,
        frames.c.original_image_path,
        frames.c.image_relpath,
        frames.c.mjd,
        frames.c.filter,
        frames.c.eliminated,
        frames.c.plate_solved,
        frames.c.attempted_plate_solve,
        frames.c.roi_in_footprint,
        frames.c.seeing_arcseconds,
    ).select_from(begin.outerjoin(frames, (frames.c.lens == begin.c.lens) & (frames.c.mjd >= begin.c.mjd)))
    return [row for row in connection.execute(query) if row.id is not None]


def imports_of(connection: sa.Connection, raw_ids: Iterable[int], stage: str) -> dict[int, str]:
    """number of a raw file: status of its import; those that were not tried yet are not in it."""
    query = sa.select(raw_files.c.id, products.c.status).select_from(
        raw_files.outerjoin(
            products,
            (products.c.lens == raw_files.c.lens)
            & (products.c.stage == stage)
            & (products.c.unit == raw_files.c.path),
        )
    )
    rows = _by_id(connection, query, raw_files.c.id, raw_ids)
    return {row.id: row.status for row in rows if row.status is not None}


def products_of_frames(
    connection: sa.Connection, frame_ids: Iterable[int], stages: Iterable[str]
) -> list[sa.Row]:
    """frame_id, stage, status, made_at: what stages made of frames."""
    query = sa.select(
        frames.c.id.label("frame_id"), products.c.stage, products.c.status, products.c.made_at
    ).select_from(
        frames.outerjoin(
            products,
            (products.c.lens == frames.c.lens)
            & (products.c.stage.in_(list(stages)))
            & (products.c.unit == frames.c.image_relpath),
        )
    )
    return [row for row in _by_id(connection, query, frames.c.id, frame_ids) if row.stage is not None]


def frames_in_newest_publications(connection: sa.Connection, frame_ids: Iterable[int]) -> set[int]:
    """Those of some frames that are part of the newest light curve of their lens and filter."""
    others = publications.alias()
    newest = (
        sa.select(sa.func.max(others.c.version))
        .where(others.c.lens == frames.c.lens, others.c.filter == frames.c.filter)
        .scalar_subquery()
    )
    publication = (
        (publications.c.lens == frames.c.lens)
        & (publications.c.filter == frames.c.filter)
        & (publications.c.version == newest)
    )
    is_point = (
        sa.select(sa.literal(1))
        .where(
            light_curve_points.c.publication_id == publications.c.id,
            light_curve_points.c.frame_id == frames.c.id,
        )
        .exists()
    )
    query = sa.select(frames.c.id, is_point.label("is_point"))
    query = query.select_from(frames.outerjoin(publications, publication))
    return {row.id for row in _by_id(connection, query, frames.c.id, frame_ids) if row.is_point}


def _by_id(
    connection: sa.Connection, query: sa.Select, column: sa.Column, ids: Iterable[int]
) -> Iterator[sa.Row]:
    """The rows of a query for some numbers, as many at a time as a statement may name on any engine."""
    left = iter(sorted(ids))
    while chunk := list(islice(left, _MOST_NAMED)):
        yield from connection.execute(query.where(column.in_(chunk)))


def newest_publications(connection: sa.Connection) -> list[sa.Row]:
    """id, lens, filter, version, made_at, and n_epochs, images of its summary (null: none), of the newest of each."""
    query = (
        sa.select(
            publications.c.id,
            publications.c.lens,
            publications.c.filter,
            publications.c.version,
            publications.c.made_at,
            publication_summaries.c.n_epochs,
            publication_summaries.c.images,
        )
        .select_from(_newest_of_each())
        .order_by(publications.c.lens, publications.c.filter)
    )
    return [row for row in connection.execute(query) if row.id is not None]


def _newest_of_each() -> sa.FromClause:
    """The newest publication of each lens and filter, with its summary, found by steps from filter to filter in the
    index: there are many versions, and each would be looked at."""
    table = publications

    def next_filter(lens: Any, *after: sa.ColumnElement[bool]) -> sa.ScalarSelect:
        return sa.select(sa.func.min(table.c.filter)).where(table.c.lens == lens, *after).scalar_subquery()

    first = sa.select(lenses.c.name.label("lens"), next_filter(lenses.c.name).label("filter"))
    pairs = first.cte("pairs", recursive=True)
    following = next_filter(pairs.c.lens, table.c.filter > pairs.c.filter)
    pairs = pairs.union_all(
        sa.select(pairs.c.lens, following.label("filter")).where(pairs.c.filter.is_not(None))
    )
    others = table.alias()
    newest = (
        sa.select(sa.func.max(others.c.version))
        .where(others.c.lens == pairs.c.lens, others.c.filter == pairs.c.filter)
        .scalar_subquery()
    )
    same = (table.c.lens == pairs.c.lens) & (table.c.filter == pairs.c.filter) & (table.c.version == newest)
    summary = publication_summaries.c.publication_id == table.c.id
    return pairs.outerjoin(table, same).outerjoin(publication_summaries, summary)


def failed_stages(connection: sa.Connection, stages: Iterable[str]) -> list[sa.Row]:
    """The runs of stages that are the last of their lens and stage, and failed or were interrupted."""
    last = (
        sa.select(sa.func.max(stage_runs.c.id).label("id"), stage_runs.c.lens, stage_runs.c.stage)
        .where(FAILED_RUN)
        .group_by(stage_runs.c.lens, stage_runs.c.stage)
        .cte("last")
    )
    later = stage_runs.alias()
    newest = (
        sa.select(sa.func.max(later.c.id))
        .where(later.c.lens == last.c.lens, later.c.stage == last.c.stage)
        .scalar_subquery()
    )
    query = sa.select(stage_runs).select_from(last.outerjoin(stage_runs, stage_runs.c.id == last.c.id))
    wanted = set(stages)
    rows = connection.execute(query.where(last.c.id == newest))
    return [row for row in rows if row.stage in wanted]
