from typing import Any

import httpx
import pytest

from tests.unit.sdk.wire import Wire, asynchronous, blocking, events
from trainyard.sdk import errors

NATIVE = {
    "error": {"message": "no gradients are held", "type": "conflict", "code": "no_gradients", "param": None},
    "code": "no_gradients", "message": "no gradients are held", "detail": "x", "request_id": "req_1",
}  # fmt: skip


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.ValidationError),
        (401, errors.AuthenticationError),
        (402, errors.QuotaError),
        (403, errors.AuthorizationError),
        (404, errors.NotFoundError),
        (409, errors.ConflictError),
        (413, errors.ValidationError),
        (418, errors.TrainyardAPIError),
        (422, errors.ValidationError),
        (429, errors.RateLimitError),
        (500, errors.ServerError),
        (503, errors.ServerError),
        (599, errors.ServerError),
    ],
)
def test_each_status_has_its_exception(status: int, kind: type[errors.TrainyardAPIError]) -> None:
    with blocking(Wire(httpx.Response(status, json={"error": "why"}))) as client, pytest.raises(kind) as caught:
        client.models()
    assert type(caught.value) is kind
    assert (caught.value.status_code, str(caught.value)) == (status, f"[{status}] why")


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (NATIVE, "no gradients are held", "no_gradients"),
        ({"error": "plain words"}, "plain words", None),
        ({"error": "words", "code": "run_not_found"}, "words", "run_not_found"),
        ({"error": "rate_limited", "message": "2 requests a minute", "code": "c"}, "2 requests a minute", "c"),
        ({"detail": "framework words"}, "framework words", None),
        ({"message": "flat", "code": "c"}, "flat", "c"),
        ({}, None, None),
    ],
)
def test_message_and_code_are_found_in_every_dialect(
    body: dict[str, Any], message: str | None, code: str | None
) -> None:
    assert errors.describe(body) == (message, code)


def test_an_exception_carries_the_facts_of_the_answer() -> None:
    answer = httpx.Response(409, json=NATIVE, headers={"retry-after": "1.5"})
    error = errors.from_response(answer)
    assert (error.code, error.request_id, error.retry_after_s) == ("no_gradients", "req_1", 1.5)
    assert error.response_data == NATIVE


@pytest.mark.parametrize(
    ("answer", "message", "request_id"),
    [
        (httpx.Response(502, text="  bad gateway page \n", headers={"x-request-id": "r"}), "bad gateway page", "r"),
        (httpx.Response(502), "Bad Gateway", None),
        (httpx.Response(502, json=["a", "list"]), '["a","list"]', None),
    ],
)
def test_an_answer_that_is_no_json_object_still_has_a_message(
    answer: httpx.Response, message: str, request_id: str | None
) -> None:
    error = errors.from_response(answer)
    assert (error.message, error.request_id, error.response_data) == (message, request_id, {})


def test_a_retry_after_that_is_a_date_is_left_out() -> None:
    answer = httpx.Response(429, headers={"retry-after": "Fri, 20 Nov 2026 10:00:00 GMT"})
    assert errors.from_response(answer).retry_after_s is None


@pytest.mark.parametrize(
    ("cause", "kind", "text"),
    [
        (httpx.ReadTimeout("slow"), errors.TimeoutError, "no answer in time: {line}"),
        (httpx.ConnectError("refused"), errors.ConnectionError, "no connection: {line}: refused"),
        (httpx.RemoteProtocolError("cut"), errors.ConnectionError, "no connection: {line}: cut"),
    ],
)  # fmt: skip
def test_the_transports_errors_become_ours(cause: Exception, kind: type[Exception], text: str) -> None:
    wire = Wire(cause)
    with blocking(wire) as client, pytest.raises(kind) as caught:
        client.optim_step("r")
    line = "POST http://yard.test/runs/r/optim_step"
    assert (str(caught.value), caught.value.__cause__, len(wire.requests)) == (text.format(line=line), cause, 1)


async def test_the_transports_errors_become_ours_on_the_loop_too() -> None:
    async with asynchronous(Wire(httpx.ReadTimeout("slow"))) as client:
        with pytest.raises(errors.TimeoutError):
            await client.models()


def test_a_good_status_without_json_is_the_servers_fault() -> None:
    wire = Wire(httpx.Response(200, text="<html>"))
    with blocking(wire) as client, pytest.raises(errors.ServerError, match="GET /models answered something that is"):
        client.models()


def test_an_error_event_ends_a_stream_with_an_exception() -> None:
    stream = events({"token": "a"}, {"error": {"message": "the engine died", "code": "engine_restarting"}})
    with blocking(Wire(stream)) as client:
        items = client.sample_stream("r", "once")
        assert next(items) == {"token": "a"}
        with pytest.raises(errors.ServerError, match="the engine died") as caught:
            next(items)
    assert caught.value.code == "engine_restarting"
