"""Packages, their blobs, versions, aliases and events."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "settings", sa.Column("key", sa.String(64), primary_key=True), sa.Column("value", sa.Text, nullable=False)
    )
    _packages()
    _versions()
    _events()


def _packages() -> None:
    op.create_table(
        "packages",
        sa.Column("digest", sa.String(64), primary_key=True),
        sa.Column("manifest", sa.Text, nullable=False),
    )
    op.create_table(
        "package_blobs",
        sa.Column("digest", sa.String(64), sa.ForeignKey("packages.digest", ondelete="CASCADE"), primary_key=True),
        sa.Column("path", sa.String(240), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
    )
    op.create_index("package_blobs_sha256", "package_blobs", ["sha256"])


def _versions() -> None:
    op.create_table(
        "models",
        sa.Column("name", sa.String(63), primary_key=True),
        sa.Column("next_number", sa.Integer, nullable=False),
    )
    op.create_table(
        "versions",
        sa.Column("model", sa.String(63), sa.ForeignKey("models.name"), primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("git_commit", sa.String(80)),
        sa.Column("parent", sa.Integer),
        sa.Column("contract_digest", sa.String(64), nullable=False),
        sa.Column("parameters", sa.BigInteger),
        sa.Column("metrics", sa.JSON, nullable=False),
        sa.Column("tags", sa.JSON, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("deleted", sa.BigInteger),
    )
    op.create_index("versions_digest", "versions", ["digest", "number"])
    op.create_index("versions_present", "versions", ["model", "deleted", "number"])
    op.create_index("versions_parent", "versions", ["model", "parent", "number"])
    op.create_table(
        "aliases",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("alias", sa.String(63), primary_key=True),
        sa.Column("number", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["model", "number"], ["versions.model", "versions.number"]),
    )


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("alias", sa.String(63)),
        sa.Column("previous", sa.Integer),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("details", sa.JSON, nullable=False),
        sa.Column("token", sa.String(128)),
    )
    op.create_index("events_of_model", "events", ["model", "number"])
    op.create_index("events_of_alias", "events", ["model", "alias", "at", "number"])
    op.create_index("events_of_every_alias", "events", ["alias", "number"])
    op.create_index("events_of_version", "events", ["model", "version", "number"])
    op.create_index("events_of_previous", "events", ["model", "previous", "number"])
    op.create_index("events_token", "events", ["token"], unique=True)
