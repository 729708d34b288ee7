"""The tables of the sandbox; `core/db/migrations/0008_sandbox_sessions.py` makes the same."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, Double, Index, Integer, String, Table, Text, UniqueConstraint

from trainyard.core.db import metadata

sessions = Table(
    "sandbox_sessions",
    metadata,
    Column("id", String(21), primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("owner", String(128), nullable=False),
    Column("entity_id", String(128)),
    Column("kind", String(8), nullable=False),
    Column("resource_id", String(256)),
    Column("version", String(128)),
    Column("created_at", Double, nullable=False),
    Column("used_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("holder", String(128)),
    Column("fence", Integer, nullable=False),
    Column("lease_until", Double),
    Column("wanted", String(16)),
    Index(None, "tenant", "owner", "entity_id", "used_at"),
    Index(None, "expires_at"),
    Index(None, "holder"),
)
"""`revision` rises with every change to the files or the state; `fence` with every change of the holder."""

files = Table(
    "sandbox_files",
    metadata,
    Column("id", String(21), primary_key=True),
    Column("session_id", String(21), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("path", Text, nullable=False),
    Column("path_hash", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("role", String(8), nullable=False),
    Column("is_read_only", Boolean, nullable=False),
    Column("content_type", String(255), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("modified_at", Double, nullable=False),
    Column("origin", String(128)),
    UniqueConstraint("session_id", "path_hash"),
)
"""A path of 4,096 bytes is too long for an index of Postgres, its hash is not."""

states = Table(
    "sandbox_states",
    metadata,
    Column("session_id", String(21), primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("flavor", String(8), nullable=False),
    Column("kept", JSON, nullable=False),
    Column("dropped", JSON, nullable=False),
)

tenants = Table(
    "sandbox_tenants",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("stored_bytes", BigInteger, nullable=False),
)
"""The sum over `blobs` of a tenant; its row is locked by whoever changes what the tenant stores."""

blobs = Table(
    "sandbox_blobs",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("size_bytes", BigInteger, nullable=False),
    Column("names", Integer, nullable=False),
    Index(None, "sha256"),
)
"""How many files and states of a tenant are this content; without one there is no row."""

doomed = Table(
    "sandbox_doomed",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("doomed_at", Double, nullable=False),
)
"""Contents that are being removed: nothing may be named by them until they are gone."""
