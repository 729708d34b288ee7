"""The Python client: every verb of the public HTTP interface, blocking and async, from one description each.

In: plain Python values. Out: `Result`s, readable as attributes and as items; errors as typed exceptions.
Knows only the wire; imports nothing of the server.
"""

from trainyard.sdk.admin_calls import LEAVE
from trainyard.sdk.client import AsyncClient, Client
from trainyard.sdk.errors import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    ConnectionError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    ServerError,
    TimeoutError,
    TrainyardAPIError,
    ValidationError,
)
from trainyard.sdk.results import Result
from trainyard.sdk.retry import RetryPolicy
from trainyard.sdk.run import AsyncRun, Run

__all__ = [
    "LEAVE",
    "AsyncClient",
    "AsyncRun",
    "AuthenticationError",
    "AuthorizationError",
    "Client",
    "ConflictError",
    "ConnectionError",
    "NotFoundError",
    "QuotaError",
    "RateLimitError",
    "Result",
    "RetryPolicy",
    "Run",
    "ServerError",
    "TimeoutError",
    "TrainyardAPIError",
    "ValidationError",
]
