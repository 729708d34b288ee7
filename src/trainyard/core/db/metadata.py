"""The one MetaData on which every store declares its tables, named `<capability>_<noun>`."""

from sqlalchemy import Column, Integer, MetaData, String, Table

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

epochs = Table(
    "core_epochs",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
)
"""One row per set of rows that processes keep in memory; raised in the transaction of every change to the set."""

facts = Table(
    "core_facts",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", String(255), nullable=False),
)
"""What must be equal in every process that uses this database, such as the fingerprint of the pepper."""
