"""The migrations of the clinic's database, run by Alembic."""
