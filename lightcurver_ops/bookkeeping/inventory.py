"""What a database is and has, for people: changes nothing."""

from dataclasses import dataclass, field

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import roles, schema
from lightcurver_ops.bookkeeping.engine import file_of, reading
from lightcurver_ops.bookkeeping.tables import frames, lenses, publications, stage_runs


@dataclass
class Inventory:
    """A database, and the lenses in it."""

    version: str
    """Name and version of the program behind it."""
    size: int
    """bytes"""
    revision: str | None
    """Of its schema; None: it has none."""
    role: str | None = None
    """Who we are there, and what this role may do; None: an embedded file."""
    lenses: list[tuple[str, int, int, str]] = field(default_factory=list)
    """name, frames, published light curves, last run of a stage"""


def inventory(engine: sa.Engine) -> Inventory:
    """Look at a database.

    Raises:
        ConfigurationError, TemporaryFailure: it cannot be read.
    """
    on_postgres = engine.dialect.name == "postgresql"
    with reading(engine) as connection:
        revision = schema.revision_of(connection)
        if on_postgres:
            version = f"PostgreSQL {connection.execute(sa.text('SHOW server_version')).scalar_one()}"
            size = connection.execute(sa.text("SELECT pg_database_size(current_database())")).scalar_one()
        else:
            version = f"SQLite {connection.execute(sa.text('SELECT sqlite_version()')).scalar_one()}"
            file = file_of(engine.url.render_as_string(hide_password=False))
            size = file.stat().st_size if file is not None else 0
        result = Inventory(version, size, revision, _role(connection) if on_postgres else None)
        if revision == schema.newest_revision():
            result.lenses = _lenses(connection)
    return result


def _role(connection: sa.Connection) -> str:
    name = connection.execute(sa.text("SELECT current_user")).scalar_one()
    there = set(sa.inspect(connection).get_table_names())
    if lenses.name not in there:
        return name
    reads, writes = roles.rights(connection, there)
    may = "reads and writes" if writes else "reads only" if reads else "must not read all tables"
    return f"{name}, {may}{', owns the tables' if roles.is_owner(connection) else ''}"


def _lenses(connection: sa.Connection) -> list[tuple[str, int, int, str]]:
    def counted(table: sa.Table) -> sa.ScalarSelect:
        query = sa.select(sa.func.count()).select_from(table).where(table.c.lens == lenses.c.name)
        return query.correlate(lenses).scalar_subquery()

    last = sa.select(sa.func.max(stage_runs.c.started_at)).where(stage_runs.c.lens == lenses.c.name)
    query = sa.select(
        lenses.c.name, counted(frames), counted(publications), last.correlate(lenses).scalar_subquery()
    ).order_by(lenses.c.name)
    return [
        (name, n_frames, n_publications, "never" if when is None else f"{when:%Y-%m-%d %H:%M}")
        for name, n_frames, n_publications, when in connection.execute(query)
    ]
