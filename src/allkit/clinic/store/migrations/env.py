"""What Alembic runs: the migrations, in a connection that `allkit.clinic.store.schema` gives it."""

from alembic import context

from allkit.clinic.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
