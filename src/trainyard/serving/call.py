"""The circumstances of one request, as far as the service needs them."""

from collections.abc import Callable

from msgspec import Struct

from trainyard.core.principal import Principal
from trainyard.serving.cache import policy
from trainyard.serving.cache.policy import Policy


def _unnoted(**_fields: object) -> None:
    return None


class Call(Struct, frozen=True):
    """Who asks, by which way.

    Attributes:
        route: Template of the path, for the ledger.
        request_id: Of the answer.
        policy: What the caller wishes of the cache.
        is_stream: He wants the text piece by piece.
        note: Takes fields of the log line of this request.
    """

    principal: Principal
    route: str
    request_id: str
    policy: Policy = policy.DEFAULT
    is_stream: bool = False
    note: Callable[..., None] = _unnoted
