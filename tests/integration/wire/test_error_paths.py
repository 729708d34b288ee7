"""A table over every route: each way to be wrong has its status, its code and the shape of its dialect.

The routes and the fields are those of `/openapi.json`, so that a new one cannot be forgotten; what comes has to be
described there.
"""

from typing import Any

import pytest

from tests.integration.wire.conftest import MAX_BODY_BYTES, SCOPES, Wire, new_key, new_run
from tests.integration.wire.document import METHODS, Document, Operation
from tests.integration.wire.routes import ANY, MODEL, REMOTES, ROUTES
from trainyard.core import errors


def operation_of(wire: Wire, name: str) -> Operation:
    return next(one for one in wire.document.operations() if one.name == name)


def shape_of(operation: Operation) -> str:
    """Name the schema of a route's errors."""
    schema = operation.described["responses"]["401"]["content"]["application/json"]["schema"]
    return str(schema["$ref"]).rsplit("/", 1)[-1]


def code_of(answer: Any) -> str:
    body = answer.json()
    return str(body.get("code") or body["error"]["code"])


def invalid(operation: Operation) -> int:
    """Tell which status a faulty request has in the dialect of a route."""
    return 400 if shape_of(operation) == "OpenAIError" else 422


def refused(wire: Wire, operation: Operation, answer: Any, status: int, code: str) -> None:
    assert (answer.status_code, code_of(answer)) == (status, code), answer.text
    wire.judge(operation, answer)


WITH_KEY = [name for name, known in ROUTES.items() if known.scope is not None]
WITH_BODY = [name for name, known in ROUTES.items() if known.body is not None]
WITH_PATH = [(name, value) for name, known in ROUTES.items() if "{" in name for value in known.missing]
SERVING = [name for name in WITH_BODY if ROUTES[name].scope == "generate"]


def test_every_route_of_the_document_has_a_row(wire: Wire) -> None:
    assert {operation.name for operation in wire.document.operations()} == set(ROUTES)


def test_the_rows_know_which_routes_need_a_key_and_take_a_body(wire: Wire) -> None:
    operations = wire.document.operations()
    assert {one.name for one in operations if one.needs_key} == set(WITH_KEY)
    assert {one.name for one in operations if one.has_body} == set(WITH_BODY)


@pytest.mark.parametrize("name", list(ROUTES))
def test_a_good_request_is_answered_as_described(wire: Wire, name: str) -> None:
    operation, values = operation_of(wire, name), dict[str, str]()
    if "{run_id}" in name:
        values = new_run(wire)
        trained = wire.call("POST", f"/runs/{values['run_id']}/forward_backward", {"batch_data": [{"text": "some"}]})
        assert trained.status_code == 200
    if "{key_id}" in name:
        values = new_key(wire)
    key = None if ROUTES[name].scope is None else "all"
    answer = wire.call(operation.method, wire.path(operation, **values), ROUTES[name].body, key)
    assert answer.status_code in (200, 201), answer.text
    wire.judge(operation, answer)


@pytest.mark.parametrize("name", WITH_KEY)
def test_without_a_key(wire: Wire, name: str) -> None:
    operation = operation_of(wire, name)
    answer = wire.call(operation.method, wire.path(operation), ROUTES[name].body, None)
    refused(wire, operation, answer, 401, "missing_api_key")
    assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("name", WITH_KEY)
def test_with_an_unknown_key(wire: Wire, name: str) -> None:
    operation = operation_of(wire, name)
    answer = wire.call(operation.method, wire.path(operation), ROUTES[name].body, "sk-" + "x" * 43)
    refused(wire, operation, answer, 401, "invalid_api_key")


@pytest.mark.parametrize("name", WITH_KEY)
def test_with_a_key_of_another_scope(wire: Wire, name: str) -> None:
    operation, scope = operation_of(wire, name), ROUTES[name].scope
    for other in (one for one in SCOPES if one != scope):
        answer = wire.call(operation.method, wire.path(operation), ROUTES[name].body, other)
        if scope == ANY:
            assert answer.status_code == 200
        else:
            refused(wire, operation, answer, 403, "missing_scope")


@pytest.mark.parametrize("name", WITH_BODY)
@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"{a: 1}", "invalid_json"),
        (b"\xff{}", "invalid_json"),
        (b'{"', "invalid_json"),
        (b"[]", "validation_error"),
        (b'"text"', "validation_error"),
        (b'{"no_such_field": 1}', "validation_error"),
    ],
)
def test_with_a_body_that_is_none(wire: Wire, name: str, content: bytes, code: str) -> None:
    operation = operation_of(wire, name)
    answer = wire.call(operation.method, wire.path(operation), content=content)
    refused(wire, operation, answer, invalid(operation), code)


@pytest.mark.parametrize("name", WITH_BODY)
def test_with_a_field_too_many(wire: Wire, name: str) -> None:
    operation = operation_of(wire, name)
    body = {**ROUTES[name].body, "no_such_field": 1}
    answer = wire.call(operation.method, wire.path(operation), body)
    refused(wire, operation, answer, invalid(operation), "validation_error")
    assert "no_such_field" in answer.text


@pytest.mark.parametrize("name", WITH_BODY)
def test_with_each_field_of_a_wrong_type_or_just_beyond_its_bounds(wire: Wire, name: str) -> None:
    operation, tried, wrong = operation_of(wire, name), set[str](), list[str]()
    for field, schema in wire.document.body_fields(operation).items():
        for value in wire.document.wrong_values(schema):
            tried.add(field)
            answer = wire.call(operation.method, wire.path(operation), {**ROUTES[name].body, field: value})
            told = (answer.status_code, code_of(answer) if answer.status_code >= 400 else "")
            if told != (invalid(operation), "validation_error") or field not in answer.text:
                wrong.append(f"{field}={str(value)[:40]!r}: {answer.status_code} {answer.text[:200]}")
            else:
                wire.judge(operation, answer)
    assert wrong == []
    assert tried


@pytest.mark.parametrize("name", [name for name in ROUTES if name.startswith("GET /v1/admin")])
def test_with_each_query_parameter_beyond_its_bounds(wire: Wire, name: str) -> None:
    operation, wrong = operation_of(wire, name), list[str]()
    for field, schema in operation.query.items():
        for value in wire.document.wrong_values(schema):
            if isinstance(value, dict | bool | list):
                continue  # a query is text
            answer = wire.client.request(
                operation.method, wire.path(operation), params={field: value},
                headers={"X-API-Key": wire.keys["all"]},
            )  # fmt: skip
            if (answer.status_code, code_of(answer)) != (422, "validation_error") or field not in answer.text:
                wrong.append(f"{field}={str(value)[:40]!r}: {answer.status_code} {answer.text[:200]}")
            else:
                wire.judge(operation, answer)
    assert wrong == []


@pytest.mark.parametrize(("name", "value"), WITH_PATH)
def test_with_a_path_that_leads_to_nothing(wire: Wire, name: str, value: str) -> None:
    operation = operation_of(wire, name)
    first = operation.path_names[0]
    answer = wire.call(operation.method, wire.path(operation, **{first: value}), ROUTES[name].body)
    assert answer.status_code == 404, answer.text
    assert code_of(answer) in ("not_found", "model_not_found", "run_not_found", "unknown_path")
    wire.judge(operation, answer)


@pytest.mark.parametrize("name", [name for name in ROUTES if "{run_id}" in name])
def test_with_the_run_of_somebody_else(wire: Wire, name: str) -> None:
    operation = operation_of(wire, name)
    answer = wire.call(operation.method, wire.path(operation), ROUTES[name].body, "train")
    assert answer.status_code == 403, answer.text
    wire.judge(operation, answer)


@pytest.mark.parametrize("name", WITH_BODY)
@pytest.mark.parametrize("is_declared", [True, False])
def test_with_a_body_that_is_too_large(wire: Wire, name: str, is_declared: bool) -> None:
    operation = operation_of(wire, name)
    content = b" " * (MAX_BODY_BYTES + 1)
    sent: Any = content if is_declared else iter([content[:1000], content[1000:]])
    answer = wire.call(operation.method, wire.path(operation), content=sent)
    refused(wire, operation, answer, 413, "request_too_large")


@pytest.mark.parametrize("name", list(ROUTES))
def test_with_a_method_that_the_path_does_not_take(wire: Wire, name: str) -> None:
    operation = operation_of(wire, name)
    taken = {one.method for one in wire.document.operations() if one.path == operation.path}
    for method in set(METHODS) - taken:
        answer = wire.call(method, wire.path(operation), {})
        if answer.status_code == 200:  # a path of another template takes it
            continue
        assert (answer.status_code, code_of(answer)) == (405, "method_not_allowed"), answer.text
        assert {one.lower() for one in answer.headers["allow"].replace(" ", "").split(",")} - {"head"} <= taken
        if operation.needs_key:
            _of_dialect(wire.document, shape_of(operation), answer.json())


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/nowhere", "NativeError"),
        ("/v1/nowhere", "NativeError"),
        ("/v1/generate/nowhere", "NativeError"),
        ("/v1/chat/completions/nowhere", "OpenAIError"),
        ("/v1/models/", "OpenAIError"),
        ("/runs/x/nowhere", "SignalError"),
    ],
)
def test_a_path_that_is_not_there_speaks_the_dialect_of_its_neighbours(wire: Wire, path: str, shape: str) -> None:
    answer = wire.call("GET", path)
    assert answer.status_code == 404
    _of_dialect(wire.document, shape, answer.json())
    assert wire.call("GET", path, key=None).status_code == 401


def _of_dialect(document: Document, shape: str, body: Any) -> None:
    answers = {"200": {"content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{shape}"}}}}}
    described = {"paths": {"/": {"get": {"responses": answers}}}, "components": document.content["components"]}
    made = Document(described)
    assert made.faults(made.operations()[0], 200, "application/json", body) == []


# ---------------------------------------------------------------- what befalls a good request that generates


NOT_KEPT = {"Cache-Control": "no-store"}


def no_quota(wire: Wire, operation: Operation, body: Any) -> Any:
    key = new_key(wire, quota={"tokens": 1})["key"]
    return wire.call("POST", operation.path, body, key)


def over_the_rate(wire: Wire, operation: Operation, body: Any) -> Any:
    key = new_key(wire, limits={"requests": 1})["key"]
    assert wire.call("POST", operation.path, body, key).status_code == 200
    return wire.call("POST", operation.path, body, key)


def unknown_model(wire: Wire, operation: Operation, body: Any) -> Any:
    return wire.call("POST", operation.path, {**body, "model": "no/such"})


def other_body_under_a_key(wire: Wire, operation: Operation, body: Any) -> Any:
    once = {"Idempotency-Key": f"once{operation.path}"}
    assert wire.call("POST", operation.path, body, headers=once).status_code == 200
    return wire.call("POST", operation.path, {**body, "model": MODEL}, headers=once)


def upstream_away(wire: Wire, operation: Operation, body: Any) -> Any:
    remote = REMOTES[SERVING.index(operation.name)]  # one for each route, since its circuit opens after some failures
    return wire.call("POST", operation.path, {**body, "model": remote}, headers=NOT_KEPT)


def engine_away(wire: Wire, operation: Operation, body: Any) -> Any:
    return failing(wire, operation, body, errors.Unavailable("restarts", code="engine_restarting", retry_after_s=1))


def engine_late(wire: Wire, operation: Operation, body: Any) -> Any:
    return failing(wire, operation, body, errors.DeadlineExceeded())


def failing(wire: Wire, operation: Operation, body: Any, error: errors.TrainyardError) -> Any:
    for _ in body.get("prompts", [None]):
        wire.engine.fail_next(error)
    return wire.call("POST", operation.path, body, headers=NOT_KEPT)


TOLD = (
    *("Retry-After", "RateLimit", "RateLimit-Policy"),
    *("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    *("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
)
BEFALLS = {
    402: (no_quota, "quota_exhausted"),
    404: (unknown_model, "model_not_found"),
    409: (other_body_under_a_key, "idempotency_key_reused"),
    429: (over_the_rate, "rate_limit_exceeded"),
    502: (upstream_away, "upstream_unreachable"),
    503: (engine_away, "engine_restarting"),
    504: (engine_late, "deadline_exceeded"),
}


@pytest.mark.parametrize("name", SERVING)
@pytest.mark.parametrize("status", list(BEFALLS))
def test_what_befalls_a_good_request(wire: Wire, name: str, status: int) -> None:
    operation = operation_of(wire, name)
    befall, code = BEFALLS[status]
    answer = befall(wire, operation, ROUTES[name].body)
    refused(wire, operation, answer, status, code)
    described = operation.described["responses"][str(status)].get("headers", {})
    assert {one for one in TOLD if one in answer.headers} <= set(described)


@pytest.mark.parametrize("name", SERVING)
def test_no_status_is_described_that_the_table_does_not_provoke(wire: Wire, name: str) -> None:
    operation = operation_of(wire, name)
    assert operation.statuses == {200, 401, 403, 413, invalid(operation), *BEFALLS}
