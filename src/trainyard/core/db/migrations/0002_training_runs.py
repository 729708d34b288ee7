"""Training runs, their metrics and their artifacts."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the four tables of training."""
    _make_runs()
    _make_metrics()
    _make_artifacts()


def _make_runs() -> None:
    op.create_table(
        "training_owners",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "user_id", name="pk_training_owners"),
    )
    op.create_table(
        "training_runs",
        sa.Column("run_id", sa.String(20), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("user_id", sa.String(128), nullable=False),
        sa.Column("base_model", sa.String(255), nullable=False),
        sa.Column("config", sa.JSON, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("current_step", sa.Integer, nullable=False),
        sa.Column("durable_step", sa.Integer, nullable=False),
        sa.Column("rolled_back_from", sa.Integer),
        sa.Column("rolled_back_to", sa.Integer),
        sa.Column("error", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("completed_at", sa.Double),
        sa.PrimaryKeyConstraint("run_id", name="pk_training_runs"),
    )
    op.create_index("ix_training_runs_tenant_user_id_created_at", "training_runs", ["tenant", "user_id", "created_at"])


def _make_metrics() -> None:
    op.create_table(
        "training_metrics",
        sa.Column("id", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("run_id", sa.String(20), nullable=False),
        sa.Column("entry", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_training_metrics"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["training_runs.run_id"], name="fk_training_metrics_run_id", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_training_metrics_run_id_id", "training_metrics", ["run_id", "id"])


def _make_artifacts() -> None:
    op.create_table(
        "training_artifacts",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("run_id", sa.String(20), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("mode", sa.String(16), nullable=False),
        sa.Column("step", sa.Integer, nullable=False),
        sa.Column("manifest", sa.JSON, nullable=False),
        sa.Column("download_count", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_training_artifacts"),
        sa.UniqueConstraint("run_id", "name", name="uq_training_artifacts_run_id_name"),
        sa.ForeignKeyConstraint(
            ["run_id"], ["training_runs.run_id"], name="fk_training_artifacts_run_id", ondelete="CASCADE"
        ),
    )
