import pytest

from trainyard.core import errors
from trainyard.core.http import dialects
from trainyard.core.http.dialects import Dialect


def _family(cls: type[errors.TrainyardError] = errors.TrainyardError) -> list[type[errors.TrainyardError]]:
    return [cls, *(each for child in cls.__subclasses__() for each in _family(child))]


def test_every_class_of_the_family_has_its_row_in_both_tables() -> None:
    in_errors = [cls for cls in _family() if cls.__module__ == errors.__name__]
    assert set(in_errors) == set(dialects.STATUS) == set(dialects.EXIT)


@pytest.mark.parametrize(
    ("error", "native", "signal", "openai", "exit_code"),
    [
        (errors.TrainyardError(), 500, 500, 500, 1),
        (errors.InvalidRequest(), 422, 422, 400, 2),
        (errors.UnknownModel(), 404, 400, 404, 2),
        (errors.Unauthenticated(), 401, 401, 401, 3),
        (errors.Forbidden(), 403, 403, 403, 3),
        (errors.NotFound(), 404, 404, 404, 4),
        (errors.Conflict(), 409, 409, 409, 5),
        (errors.TooLarge(), 413, 413, 413, 2),
        (errors.LimitReached(), 429, 429, 429, 6),
        (errors.QuotaExhausted(), 402, 402, 402, 6),
        (errors.UpstreamFailed(), 502, 502, 502, 7),
        (errors.Unavailable(), 503, 503, 503, 7),
        (errors.DeadlineExceeded(), 504, 504, 504, 8),
        (errors.ConfigError(), 500, 500, 500, 2),
        (errors.StartupError(), 500, 500, 500, 9),
        (errors.SchemaTooNew(), 500, 500, 500, 9),
    ],
)
def test_statuses_and_exit_codes(
    error: errors.TrainyardError, native: int, signal: int, openai: int, exit_code: int
) -> None:
    names: tuple[Dialect, ...] = ("native", "signal", "openai")
    assert [dialects.status_of(error, name) for name in names] == [native, signal, openai]
    assert dialects.exit_code(error) == exit_code


def test_a_subclass_without_a_row_has_that_of_its_parent() -> None:
    class TooMany(errors.LimitReached):
        """Too many."""

    assert dialects.status_of(TooMany(), "openai") == 429
    assert dialects.exit_code(TooMany()) == 6


CONFLICT = errors.Conflict("no gradients", code="no_gradients", param="run", data={"step": 3})


def test_the_native_shape() -> None:
    assert dialects.render(CONFLICT, "native", "req_1").body == {
        "error": {"message": "no gradients", "type": "invalid_request_error", "code": "no_gradients", "param": "run"},
        "code": "no_gradients",
        "message": "no gradients",
        "detail": "no gradients",
        "request_id": "req_1",
        "data": {"step": 3},
    }


def test_the_signal_shape() -> None:
    assert dialects.render(CONFLICT, "signal", "req_1").body == {
        "error": "no gradients",
        "detail": "no gradients",
        "code": "no_gradients",
        "request_id": "req_1",
        "data": {"step": 3},
    }


def test_the_openai_shape() -> None:
    assert dialects.render(CONFLICT, "openai", "req_1").body == {
        "error": {"message": "no gradients", "type": "invalid_request_error", "param": "run", "code": "no_gradients"}
    }


@pytest.mark.parametrize(
    ("param", "loc"),
    [
        (None, ["body"]),
        ("rank", ["body", "rank"]),
        ("messages[2].content", ["body", "messages", 2, "content"]),
        ("a.b[0][1]", ["body", "a", "b", 0, 1]),
    ],
)
@pytest.mark.parametrize("dialect", ["signal", "native"])
def test_the_detail_of_422_is_a_list_whoever_found_the_fault(
    dialect: Dialect, param: str | None, loc: list[object]
) -> None:
    error = errors.InvalidRequest("too long", param=param, code="too_long")
    assert dialects.render(error, dialect, None).body["detail"] == [{"type": "too_long", "loc": loc, "msg": "too long"}]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.Unauthenticated(), "authentication_error"),
        (errors.Forbidden(), "permission_error"),
        (errors.LimitReached(), "rate_limit_error"),
        (errors.TooLarge(), "invalid_request_error"),
        (errors.Unavailable(), "server_error"),
        (errors.TrainyardError(), "server_error"),
    ],
)
def test_the_type_that_openai_clients_switch_on(error: errors.TrainyardError, kind: str) -> None:
    body = dialects.render(error, "openai", None).body
    assert isinstance(body["error"], dict)
    assert body["error"]["type"] == kind


@pytest.mark.parametrize("dialect", ["native", "signal", "openai"])
def test_an_inner_error_tells_nothing_of_the_inside(dialect: Dialect) -> None:
    error = errors.ConfigError("password is hunter2", code="c0de", data={"path": "/secret"})
    shown = str(dialects.render(error, dialect, "req_1").body)
    assert "hunter2" not in shown
    assert "/secret" not in shown
    assert "internal_error" in shown


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (errors.Conflict(), {}),
        (errors.LimitReached(retry_after_s=2.1), {"Retry-After": "3"}),
        (errors.LimitReached(retry_after_s=0), {"Retry-After": "1"}),
        (
            errors.LimitReached(retry_after_s=2.1, data={"dimension": "requests", "limit": 3, "remaining": 0}),
            {
                "Retry-After": "3",
                "RateLimit": '"requests";r=0;t=3',
                "RateLimit-Policy": '"requests";q=3',
                "x-ratelimit-limit-requests": "3",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "2.1s",
            },
        ),
        (
            errors.QuotaExhausted(
                retry_after_s=90, data={"dimension": "cost", "limit": 3, "used": 3, "reset_at": 1_700_000_000}
            ),
            {
                "Retry-After": "90",
                "RateLimit": '"monthly-cost";r=0;t=90',
                "RateLimit-Policy": '"monthly-cost";q=3;qu="micros"',
            },
        ),
        (errors.InvalidRequest(code="request_exceeds_limit", data={"dimension": "tokens", "limit": 3}), {}),
        (errors.Unauthenticated(code="missing_api_key"), {"WWW-Authenticate": 'Bearer realm="trainyard"'}),
        (errors.Unauthenticated(), {"WWW-Authenticate": 'Bearer realm="trainyard", error="invalid_token"'}),
        (errors.TooLarge(), {"Connection": "close"}),
        (errors.Unavailable(code="draining", retry_after_s=1), {"Retry-After": "1", "Connection": "close"}),
    ],
)
def test_headers_that_tell_the_client_what_to_do(error: errors.TrainyardError, headers: dict[str, str]) -> None:
    assert dialects.render(error, "native", None).headers == headers
