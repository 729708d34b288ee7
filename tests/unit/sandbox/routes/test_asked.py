import msgspec
import pytest

from trainyard.core import errors
from trainyard.core.http.hot import Request
from trainyard.sandbox.routes import asked
from trainyard.sandbox.types.domain import FileRef, Shelf
from trainyard.sandbox.types.wire import ExecRequest

ID, OTHER = "A" * 21, "B" * 21


def request(**headers: str) -> Request:
    raw = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}

    async def receive() -> dict[str, object]:
        return {"type": "http.disconnect"}

    return Request({}, receive, headers=raw, request_id="req_1", route="/exec", began_s=0.0)


def body(**fields: object) -> ExecRequest:
    return msgspec.convert({"lang": "py", "code": "1", **fields}, ExecRequest)


def test_a_bare_request_takes_every_default() -> None:
    wish = asked.execute(request(), body())
    assert (wish.code, wish.language, wish.session_id, wish.entity_id) == ("1", "py", None, None)
    assert (wish.files, wish.args, wish.stdin, wish.env, wish.timeout_s, wish.results) == ((), (), b"", {}, None, True)


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ({"id": ID, "session_id": OTHER, "name": "a"}, FileRef(session_id=OTHER, file_id=ID, name="a")),
        ({"id": ID, "storage_session_id": OTHER}, FileRef(session_id=OTHER, file_id=ID)),
        ({"id": ID, "storage_session_id": OTHER, "session_id": ID}, FileRef(session_id=OTHER, file_id=ID)),
        (
            {"id": ID, "storage_session_id": OTHER, "kind": "user", "resource_id": "whoever"},
            FileRef(session_id=OTHER, file_id=ID, shelf=Shelf()),
        ),
        (
            {"id": ID, "storage_session_id": OTHER, "kind": "agent", "resource_id": "a1"},
            FileRef(session_id=OTHER, file_id=ID, shelf=Shelf(kind="agent", resource_id="a1")),
        ),
        (
            {"id": ID, "storage_session_id": OTHER, "kind": "skill", "resource_id": "s1", "version": 4},
            FileRef(session_id=OTHER, file_id=ID, shelf=Shelf(kind="skill", resource_id="s1", version="4")),
        ),
    ],
)
def test_references_of_all_generations_of_clients(ref: dict[str, object], expected: FileRef) -> None:
    assert asked.execute(request(), body(files=[ref])).files == (expected,)


@pytest.mark.parametrize(
    ("refs", "knows"),
    [
        ([], True),
        ([{"id": ID, "storage_session_id": ID}], True),
        ([{"id": ID, "session_id": ID}], False),
        ([{"id": ID, "storage_session_id": ID}, {"id": OTHER, "session_id": ID}], False),
    ],
)
def test_clients_that_know_inputs_are_told_by_how_they_name_files(refs: list[dict[str, object]], knows: bool) -> None:
    assert asked.knows_inputs(body(files=refs)) is knows


def test_a_hint_is_a_name_of_the_callers_own_unless_he_gives_one() -> None:
    hinted = asked.execute(request(), body(runtime_session_hint="conv:ü/7")).entity_id
    assert hinted is not None
    assert hinted == asked.execute(request(), body(runtime_session_hint="conv:ü/7")).entity_id
    assert hinted != asked.execute(request(), body(runtime_session_hint="conv:ü/8")).entity_id
    assert asked.execute(request(), body(runtime_session_hint="h", entity_id="mine")).entity_id == "mine"


def test_time_may_be_in_seconds_or_milliseconds_and_not_in_both() -> None:
    assert asked.execute(request(), body(timeout_s=2.5)).timeout_s == 2.5
    assert asked.execute(request(), body(timeout=2500)).timeout_s == 2.5
    with pytest.raises(errors.InvalidRequest, match="not both"):
        asked.execute(request(), body(timeout=1, timeout_s=1))


def test_half_a_surrogate_pair_is_no_input() -> None:
    with pytest.raises(errors.InvalidRequest, match="surrogate"):
        asked.execute(request(), body(stdin="\ud800"))


def test_the_callers_user_goes_to_the_log_and_nowhere_else() -> None:
    seen = request()
    asked.execute(seen, body(user_id="u-7"))
    assert seen.notes == {"end_user": "u-7"}


@pytest.mark.parametrize(
    ("headers", "fields", "is_streamed"),
    [
        ({}, {}, False),
        ({}, {"stream": True}, True),
        ({"accept": "text/event-stream"}, {}, True),
        ({"accept": "application/json, text/event-stream"}, {}, True),
        ({"accept": "application/json"}, {}, False),
    ],
)
def test_events_come_to_who_asks_for_them(
    headers: dict[str, str], fields: dict[str, object], is_streamed: bool
) -> None:
    assert asked.is_streamed(request(**headers), body(**fields)) is is_streamed


@pytest.mark.parametrize(
    ("headers", "fields", "code"),
    [
        ({"x_codeapi_expected_profile": "gpu"}, {}, "execution_profile_mismatch"),
        ({"x_librechat_code_workspace_id": "w"}, {}, "unsupported_capability"),
        ({}, {"workspace_instance_id": "a" * 64}, "unsupported_capability"),
    ],
)
def test_what_is_not_served_is_refused_by_the_codes_that_librechat_knows(
    headers: dict[str, str], fields: dict[str, object], code: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        asked.execute(request(**headers), body(**fields))
    assert refused.value.code == code
