"""Who calls a route of the sandbox, on which session or file, and where the routes lie."""

from typing import Annotated

from fastapi import Depends, Path, Query

from trainyard.core import errors
from trainyard.core.http import auth, error_bodies
from trainyard.core.principal import Principal
from trainyard.sandbox.routes import asked
from trainyard.sandbox.types.domain import Shelf

PREFIXES = ("", "/v1/code")
"""Where every route lies: at the root, and under the base URL that LibreChat is given."""

Runner = Annotated[Principal, Depends(auth.principal("execute"))]
"""The principal of a credential that may execute."""

SessionId = Annotated[str, Path(description="21 characters; one of your sessions.", max_length=256)]
FileId = Annotated[str, Path(description="21 characters; a file of the session.", max_length=256)]

STATE = error_bodies.responses("code", errors.Conflict)
"""Errors of a route that not every moment of a session allows."""

WORK = error_bodies.responses("code", errors.Conflict, errors.LimitReached, errors.QuotaExhausted)
"""Errors of such a route that counts as a run does."""


def shelf(
    kind: Annotated[
        str | None, Query(description="LibreChat: whose file it is, `user`, `agent` or `skill`; null = a user's own.")
    ] = None,
    id: Annotated[
        str | None, Query(max_length=256, description="LibreChat: of the agent or skill; of a user it says nothing.")
    ] = None,
    version: Annotated[str | None, Query(max_length=128, description="LibreChat: of the skill.")] = None,
    entity_id: Annotated[
        str | None,
        Query(
            max_length=256, description="Sent by LibreChat's older hosts; changes nothing, the path names the session."
        ),
    ] = None,
) -> Shelf | None:
    """Read to whom a file belongs by what a client says; None where it says nothing."""
    return None if kind is None else asked.shelf(kind, id, version)


Claimed = Annotated[Shelf | None, Depends(shelf)]
"""To whom a file belongs by what the client says; checked by the service."""
