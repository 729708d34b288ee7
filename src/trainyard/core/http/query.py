"""Queries of routes on which a name that is spelt wrong must not go unnoticed."""

import difflib
from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from trainyard.core import errors


async def only_known(request: Request) -> None:
    """Dependency of a router: refuses parameters that its routes do not have, such as a filter that would not filter.

    Raises:
        errors.InvalidRequest: There is one; `param` is its name.
    """
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    known = list(_names(route.dependant))
    for name in request.query_params:
        if name not in known:
            raise errors.InvalidRequest(f"{name[:80]}: unknown parameter; {_hint(name, known)}", param=name[:80])


def _names(needed: Dependant) -> Iterator[str]:
    for field in needed.query_params:
        yield str(field.alias)
    for inner in needed.dependencies:
        yield from _names(inner)


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"valid: {', '.join(known)}" if known else "this path takes none"
