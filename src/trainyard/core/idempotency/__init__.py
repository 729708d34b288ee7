"""Requests that may be sent again: done once, answered as often as they come.

In: a key of the caller's, per tenant and route, and what the request is. Out: the right to do it, or the answer that it
had. Errors are not remembered; an answer is, in the transaction that charges for it.
"""

from trainyard.core.idempotency.service import LEASE_S, Idempotency, Ticket
from trainyard.core.idempotency.types import Answer, Scope

__all__ = ["LEASE_S", "Answer", "Idempotency", "Scope", "Ticket"]
