"""What Alembic runs: the migrations, on the connection and in the transaction that `migrating` hands over."""

from alembic import context

from shipworthy.registry.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE
)
context.run_migrations()
