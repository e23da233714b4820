"""Alembic migrations of a registry's database, one file for each revision; `migrating` runs them."""
