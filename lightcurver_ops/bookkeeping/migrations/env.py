"""Alembic's entry point: migrates the connection that schema.py hands over."""

from alembic import context

from lightcurver_ops.bookkeeping.tables import VERSION_TABLE, metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
