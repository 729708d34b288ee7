"""One database for all stores: SQLite in the data directory or Postgres, under the same migrations.

In: a URL. Out: connections, one transaction each, and threads in which blocking work runs. Not here: any table
of a capability; those are in the capability's `store.py`, on the one `metadata`.
"""

from trainyard.core.db.database import Database
from trainyard.core.db.metadata import metadata

__all__ = ["Database", "metadata"]
