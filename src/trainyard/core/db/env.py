"""Executed by Alembic for every upgrade, on the connection that `migrate.upgrade` passes in."""

from alembic import context

from trainyard.core.db.migrate import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    version_table=VERSION_TABLE,
    render_as_batch=True,  # SQLite alters a table by copying it
)
context.run_migrations()
