"""Requests made from `/openapi.json` by schemathesis, good ones and bad ones: what comes is what is described there."""

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from tests.integration.wire.conftest import Wire
from tests.integration.wire.document import events_of
from tests.integration.wire.routes import ROUTES

EXAMPLES = 20
"""Per route and mode; derandomised, so that the same ones are tried every time."""

CONFORMS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
_PATIENT = settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
_ENDS_WHAT_OTHERS_NEED = {"POST /runs/{run_id}/complete"}


@schemathesis.deserializer("text/event-stream")
def events(_context: schemathesis.DeserializationContext, response: schemathesis.Response) -> list[Any]:
    """Read what the data of each event says, which is what the document describes."""
    return events_of(response.text)


@pytest.fixture(scope="module")
def described(wire: Wire) -> Any:
    return schemathesis.openapi.from_dict(dict(wire.document.content))


def send(wire: Wire, case: Case[Any]) -> Any:
    """Send a case through the client of the application."""
    kwargs = case.as_transport_kwargs(base_url="http://testserver")
    if "data" in kwargs and isinstance(kwargs["data"], bytes | str):
        kwargs["content"] = kwargs.pop("data")
    sent = {name: value for name, value in kwargs.items() if name in ("params", "json", "content")}
    sent["headers"] = {**dict(kwargs["headers"]), "Authorization": f"Bearer {wire.keys['all']}"}
    return wire.client.request(kwargs["method"], kwargs["url"], **sent)


def try_all(wire: Wire, described: Any, name: str, mode: GenerationMode, *judged: Callable[..., Any]) -> None:
    """Send the examples of a route."""
    method, path = name.split(" ")
    strategy = described[path][method].as_strategy(generation_mode=mode)

    @_PATIENT
    @given(case=strategy, is_known=st.booleans(), kept=st.integers(0, 7))
    def each(case: Case[Any], is_known: bool, kept: int) -> None:
        if is_known and mode is GenerationMode.POSITIVE:
            become_good(wire, case, name, kept)
        answer = send(wire, case)
        is_cut = answer.status_code == 413  # whatever is in it
        case.validate_response(answer, checks=[*CONFORMS, *(() if is_cut else judged)])

    each()


def become_good(wire: Wire, case: Case[Any], name: str, kept: int) -> None:
    """Lead a case to what exists, with a body that is known to be good and up to three fields of its own."""
    if case.path_parameters and name not in _ENDS_WHAT_OTHERS_NEED:
        known = {**wire.values, **ROUTES[name].values}
        case.path_parameters = {one: known[one] for one in case.path_parameters}
    good = ROUTES[name].body
    if good and isinstance(case.body, dict):
        own = [field for field in case.body if field not in good and field != "model"]
        case.body = good | {field: case.body[field] for at, field in enumerate(own[:3]) if kept >> at & 1}


@pytest.mark.parametrize("name", list(ROUTES))
def test_requests_that_the_document_allows_are_answered_as_it_says(wire: Wire, described: Any, name: str) -> None:
    try_all(wire, described, name, GenerationMode.POSITIVE)


@pytest.mark.parametrize("name", [name for name, known in ROUTES.items() if known.body is not None])
def test_requests_that_the_document_forbids_are_refused_as_it_says(wire: Wire, described: Any, name: str) -> None:
    try_all(wire, described, name, GenerationMode.NEGATIVE, checks.negative_data_rejection)
