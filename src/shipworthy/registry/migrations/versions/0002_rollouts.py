"""Rollouts, what is counted of them, and labels."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    _rollouts()
    _counted()
    _labels()


def _rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("champion", sa.Integer, nullable=False),
        sa.Column("challenger", sa.Integer, nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("spec", sa.Text, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("verdict", sa.String(16)),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("stage", sa.Integer, nullable=False),
        sa.Column("share", sa.Float, nullable=False),
        sa.Column("stage_seen", sa.BigInteger, nullable=False),
        sa.Column("stage_began", sa.BigInteger, nullable=False),
        sa.Column("started", sa.BigInteger, nullable=False),
        sa.Column("ended", sa.BigInteger),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("tally", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.ForeignKeyConstraint(["model", "champion"], ["versions.model", "versions.number"]),
        sa.ForeignKeyConstraint(["model", "challenger"], ["versions.model", "versions.number"]),
    )
    op.create_index("rollouts_of_model", "rollouts", ["model", "id"])
    running = sa.text("state = 'running'")
    op.create_index(
        "rollouts_running", "rollouts", ["model"], unique=True, sqlite_where=running, postgresql_where=running
    )


def _counted() -> None:
    op.create_table(
        "rollout_keys",
        sa.Column("rollout", sa.Integer, sa.ForeignKey("rollouts.id"), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("stream", sa.String(16), nullable=False),
        sa.Column("digests", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "rollout_flushes",
        sa.Column("rollout", sa.Integer, sa.ForeignKey("rollouts.id"), primary_key=True),
        sa.Column("worker", sa.String(64), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "rollout_pairs",
        sa.Column("rollout", sa.Integer, sa.ForeignKey("rollouts.id"), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.LargeBinary(16), nullable=False),
        sa.Column("champion", sa.BigInteger, nullable=False),
        sa.Column("challenger", sa.BigInteger, nullable=False),
        sa.Column("worst", sa.Float, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
    )
    op.create_index("rollout_pairs_digest", "rollout_pairs", ["rollout", "digest"], unique=True)


def _labels() -> None:
    op.create_table(
        "labels",
        sa.Column("digest", sa.LargeBinary(16), primary_key=True),
        sa.Column("model", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("rollout", sa.Integer),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("predicted", sa.Float),
        sa.Column("loss", sa.Float),
        sa.Column("received", sa.BigInteger, nullable=False),
    )
    op.create_index("labels_received", "labels", ["received"])
    op.create_index("labels_of_version", "labels", ["model", "version", "received"])
    op.create_table(
        "label_counts",
        sa.Column("model", sa.String(63), primary_key=True),
        sa.Column("outcome", sa.String(16), primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
    )
