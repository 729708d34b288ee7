"""Errors as clients of the code interpreter read them: LibreChat's executor, and KubeCodeRun's."""

import msgspec
import pytest

from trainyard.core import errors
from trainyard.core.http import dialects, error_bodies

REFUSED = errors.InvalidRequest("files[0].id: too short", param="files[0].id")
FRAMEWORK = errors.InvalidRequest(
    "detail: not valid",
    data={dialects.FIELD_ERRORS: [{"type": "literal_error", "loc": ["query", "detail"], "msg": "not valid"}]},
)


def shown(error: errors.TrainyardError) -> dict[str, object]:
    body = dialects.render(error, "code", "req_1").body
    assert str(body.pop("timestamp")).endswith("Z")
    return body


def test_the_whole_shape() -> None:
    assert shown(errors.NotFound("There is no such session", code="session_not_found", param="session_id")) == {
        "error": "There is no such session",
        "error_type": "resource_not_found",
        "code": "session_not_found",
        "message": "There is no such session",
        "details": [{"field": "session_id", "message": "There is no such session", "code": "session_not_found"}],
        "request_id": "req_1",
    }


def test_a_limit_is_in_the_two_fields_that_librechat_reads() -> None:
    body = shown(errors.LimitReached("5 requests in 60 s", retry_after_s=2.1, data={"limit": 5}))
    assert (body["error"], body["retry_after_seconds"]) == ("rate_limited", 3)
    assert (body["error_type"], body["message"], body["data"]) == ("rate_limited", "5 requests in 60 s", {"limit": 5})


def test_a_quota_is_a_limit_to_librechat_without_a_time_where_waiting_does_not_help() -> None:
    rendered = dialects.render(errors.QuotaExhausted("used up"), "code", None)
    assert (rendered.status, rendered.body["error"]) == (429, "rate_limited")
    assert rendered.body["error_type"] == "resource_exhausted"
    assert "retry_after_seconds" not in rendered.body


def test_faults_that_a_framework_found_are_listed_by_their_field() -> None:
    assert shown(FRAMEWORK)["details"] == [{"field": "detail", "message": "not valid", "code": "literal_error"}]
    assert "data" not in shown(FRAMEWORK)


def test_our_own_faults_tell_nothing_of_the_inside() -> None:
    body = shown(errors.ConfigError("password is hunter2", data={"path": "/secret"}))
    assert (body["error_type"], body["code"], body["details"]) == ("internal_server", "internal_error", [])
    assert "hunter2" not in str(body)
    assert "/secret" not in str(body)


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (REFUSED, 422, "validation"),
        (errors.InvalidRequest(code="empty_code"), 400, "validation"),
        (errors.InvalidRequest(code="unsupported_language"), 400, "validation"),
        (errors.InvalidRequest(code="invalid_json"), 400, "validation"),
        (errors.InvalidRequest(code="invalid_multipart"), 400, "validation"),
        (errors.InvalidRequest(code="unsupported_media_type"), 415, "validation"),
        (errors.InvalidRequest(code="execution_profile_mismatch"), 400, "validation"),
        (errors.InvalidRequest(code="range_not_satisfiable"), 416, "validation"),
        (errors.TooLarge(code="too_many_files"), 413, "validation"),
        (errors.QuotaExhausted(code="storage_full"), 413, "resource_exhausted"),
        (errors.Unauthenticated(), 401, "authentication"),
        (errors.Forbidden(), 403, "authorization"),
        (errors.NotFound(), 404, "resource_not_found"),
        (errors.Conflict(), 409, "resource_conflict"),
        (errors.TooLarge(), 413, "validation"),
        (errors.LimitReached(), 429, "rate_limited"),
        (errors.UpstreamFailed(), 502, "external_service"),
        (errors.Unavailable(), 503, "service_unavailable"),
        (errors.DeadlineExceeded(), 504, "timeout"),
        (errors.TrainyardError(), 500, "internal_server"),
    ],
)
def test_statuses_and_kinds(error: errors.TrainyardError, status: int, kind: str) -> None:
    rendered = dialects.render(error, "code", None)
    assert (rendered.status, rendered.body["error_type"]) == (status, kind)


@pytest.mark.parametrize(
    "error",
    [REFUSED, FRAMEWORK, errors.NotFound(), errors.LimitReached(retry_after_s=1), errors.Unavailable()],
    ids=lambda error: type(error).__name__,
)
def test_what_is_rendered_has_the_documented_shape(error: errors.TrainyardError) -> None:
    body = dialects.render(error, "code", "req_1").body
    read = msgspec.convert(body, error_bodies.CodeError)  # strict: no unknown, no missing field
    assert msgspec.to_builtins(read) == body


def test_a_range_behind_the_end_tells_where_the_end_is() -> None:
    error = errors.InvalidRequest(code="range_not_satisfiable", data={"size_bytes": 7})
    assert dialects.render(error, "code", None).headers["Content-Range"] == "bytes */7"


def test_both_statuses_of_a_faulty_request_are_documented() -> None:
    assert list(error_bodies.responses("code", errors.InvalidRequest)) == [400, 422]
