"""Schema revisions with Alembic: made from nothing, upgraded, never older than the code."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError

from lightcurver_ops.bookkeeping import roles
from lightcurver_ops.bookkeeping.engine import reading, restructuring, shown
from lightcurver_ops.bookkeeping.tables import VERSION_TABLE
from lightcurver_ops.errors import ConfigurationError

_UPGRADE_LOCK = 7281990411  # any constant of ours: one upgrade at a time on Postgres


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


@cache
def newest_revision() -> str:
    """The revision that the code expects."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def current_revision(engine: sa.Engine) -> str | None:
    """The revision that the database has; None where it is empty."""
    with reading(engine) as connection:
        return revision_of(connection)


def revision_of(connection: sa.Connection) -> str | None:
    """As `current_revision`, in a transaction."""
    return MigrationContext.configure(
        connection, opts={"version_table": VERSION_TABLE}
    ).get_current_revision()


def upgrade(engine: sa.Engine, revision: str = "head") -> None:
    """Bring the database to a revision, in one transaction.

    Raises:
        ConfigurationError: the database was made by a newer version of the package.
    """
    _migrate(engine, command.upgrade, revision)


def downgrade(engine: sa.Engine, revision: str) -> None:
    """Take the database back to an older revision (``base``: to nothing)."""
    _migrate(engine, command.downgrade, revision)


def upgrade_in(connection: sa.Connection) -> None:
    """As `upgrade`, in a transaction (`restructuring`) that does more."""
    _migrate_in(connection, command.upgrade, "head")


def _migrate(engine: sa.Engine, action: Callable[[Config, str], None], revision: str) -> None:
    with restructuring(engine) as connection:
        _migrate_in(connection, action, revision)


def _migrate_in(connection: sa.Connection, action: Callable[[Config, str], None], revision: str) -> None:
    config = _config()
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("select pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
    config.attributes["connection"] = connection
    try:
        action(config, revision)
    except CommandError as error:
        raise ConfigurationError(
            f"bookkeeping: {shown(connection.engine)} has a schema that this version of lightcurver-ops does not know "
            f"({error}); install the version that made it, or a newer one"
        ) from error
    roles.keep_grants(connection)
