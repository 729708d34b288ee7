"""The tables of training; `core/db/migrations/0002_training_runs.py` makes the same."""

from sqlalchemy import JSON, Column, Double, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint

from trainyard.core.db import metadata

owners = Table(
    "training_owners",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("user_id", String(128), primary_key=True),
)
"""One row per user who ever had a run; locked while a run is created, so that counting and inserting are one act."""

runs = Table(
    "training_runs",
    metadata,
    Column("run_id", String(20), primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("user_id", String(128), nullable=False),
    Column("base_model", String(255), nullable=False),
    Column("config", JSON, nullable=False),
    Column("status", String(16), nullable=False),
    Column("current_step", Integer, nullable=False),
    Column("durable_step", Integer, nullable=False),
    Column("rolled_back_from", Integer),
    Column("rolled_back_to", Integer),
    Column("error", Text),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("started_at", Double),
    Column("completed_at", Double),
    Index(None, "tenant", "user_id", "created_at"),
)

metrics = Table(
    "training_metrics",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("run_id", String(20), ForeignKey("training_runs.run_id", ondelete="CASCADE"), nullable=False),
    Column("entry", JSON, nullable=False),
    Index(None, "run_id", "id"),
)
"""One row per entry; ids of one run rise in the order of appending."""

artifacts = Table(
    "training_artifacts",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("run_id", String(20), ForeignKey("training_runs.run_id", ondelete="CASCADE"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("mode", String(16), nullable=False),
    Column("step", Integer, nullable=False),
    Column("manifest", JSON, nullable=False),
    Column("download_count", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    UniqueConstraint("run_id", "name"),
)
