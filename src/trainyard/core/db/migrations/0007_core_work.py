"""What work beside tokens cost: one row for each entry of the ledger that has such work."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table; rows are only ever added."""
    op.create_table(
        "core_work",
        sa.Column("entry_id", sa.String(64), nullable=False),
        sa.Column("cpu_s", sa.Double, nullable=False),
        sa.Column("bytes_in", sa.BigInteger, nullable=False),
        sa.Column("bytes_out", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("entry_id", name="pk_core_work"),
        sqlite_with_rowid=False,
    )
