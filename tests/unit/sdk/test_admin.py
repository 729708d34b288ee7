"""Every verb of administration on both clients: what goes over the wire, and what comes back."""

from typing import Any

import httpx
import pytest

from tests.unit.sdk.wire import Wire, asynchronous, blocking
from trainyard.sdk import LEAVE
from trainyard.sdk.admin_results import KeyInfo, KeyPage, NewKey, TenantInfo, TenantPage

KEY = {"id": "key_1", "prefix": "sk-abcdefgh", "limits": {"requests": 5}}
NEW = {**KEY, "key": "sk-abcdefgh-and-the-rest"}
TENANT = {"name": "lab", "key_count": 2, "limits": {"requests": 5}}
PAGE = {"total": 1, "limit": 50, "offset": 0}

# verb, arguments, keyword arguments, request line, body, answer, type of the result
VERBS: list[tuple[str, tuple[Any, ...], dict[str, Any], str, Any, Any, type]] = [
    (
        "create_key", ("ada", ("generate",)), {},
        "POST /v1/admin/keys", {"user_id": "ada", "scopes": ["generate"]}, NEW, NewKey,
    ),
    (
        "create_key", ("ada", ["all"]),
        {
            "tenant": "lab", "description": "x", "expires_at": 2e9, "limits": {"tokens": "unlimited"},
            "quota": {"tokens": 9, "day": None},
        },
        "POST /v1/admin/keys",
        {
            "user_id": "ada", "scopes": ["all"], "tenant": "lab", "description": "x", "expires_at": 2e9,
            "limits": {"tokens": "unlimited"}, "quota": {"tokens": 9, "day": None},
        },
        NEW, NewKey,
    ),
    ("list_keys", (), {}, "GET /v1/admin/keys", None, {**PAGE, "results": [KEY]}, KeyPage),
    (
        "list_keys", (),
        {"tenant": "a@b", "user_id": "ada", "scope": "admin", "status": "all", "limit": 1, "offset": 0},
        "GET /v1/admin/keys?tenant=a%40b&user_id=ada&scope=admin&status=all&limit=1&offset=0",
        None, {**PAGE, "results": []}, KeyPage,
    ),
    ("show_key", ("key_1",), {}, "GET /v1/admin/keys/key_1", None, KEY, KeyInfo),
    ("show_key", ("../x",), {}, "GET /v1/admin/keys/..%2Fx", None, KEY, KeyInfo),
    ("update_key", ("key_1",), {}, "PATCH /v1/admin/keys/key_1", {}, KEY, KeyInfo),
    (
        "update_key", ("key_1",),
        {
            "description": "", "scopes": ("train",), "expires_at": None, "limits": {"requests": None},
            "quota": None,
        },
        "PATCH /v1/admin/keys/key_1",
        {"description": "", "scopes": ["train"], "expires_at": None, "limits": {"requests": None}, "quota": None},
        KEY, KeyInfo,
    ),
    ("update_key", ("k",), {"limits": LEAVE, "quota": {}}, "PATCH /v1/admin/keys/k", {"quota": {}}, KEY, KeyInfo),
    ("rotate_key", ("key_1",), {}, "POST /v1/admin/keys/key_1/rotate", {"overlap_s": 0.0}, NEW, NewKey),
    ("rotate_key", ("key_1", 60), {}, "POST /v1/admin/keys/key_1/rotate", {"overlap_s": 60}, NEW, NewKey),
    ("revoke_key", ("key_1",), {}, "DELETE /v1/admin/keys/key_1", None, KEY, KeyInfo),
    ("list_tenants", (), {}, "GET /v1/admin/tenants", None, {**PAGE, "results": [TENANT]}, TenantPage),
    (
        "list_tenants", (), {"limit": 2, "offset": 4}, "GET /v1/admin/tenants?limit=2&offset=4",
        None, {**PAGE, "results": []}, TenantPage,
    ),
    ("show_tenant", ("a b",), {}, "GET /v1/admin/tenants/a%20b", None, TENANT, TenantInfo),
    (
        "set_tenant", ("lab",), {"limits": {"requests": 5}},
        "PUT /v1/admin/tenants/lab", {"limits": {"requests": 5}, "quota": {}}, TENANT, TenantInfo,
    ),
    ("update_tenant", ("lab",), {"quota": None}, "PATCH /v1/admin/tenants/lab", {"quota": None}, TENANT, TenantInfo),
    ("clear_tenant", ("lab",), {}, "DELETE /v1/admin/tenants/lab", None, TENANT, TenantInfo),
]  # fmt: skip


@pytest.mark.parametrize(("verb", "args", "kwargs", "line", "body", "answer", "kind"), VERBS)
def test_a_blocking_verb_sends_its_request_and_reads_the_answer(
    verb: str, args: tuple[Any, ...], kwargs: dict[str, Any], line: str, body: Any, answer: Any, kind: type
) -> None:
    wire = Wire(httpx.Response(200, json=answer))
    with blocking(wire) as client:
        found = getattr(client, verb)(*args, **kwargs)
    assert (found, type(found)) == (answer, kind)
    assert (f"{wire.requests[-1].method} {wire.requests[-1].url.raw_path.decode()}", wire.body) == (line, body)


@pytest.mark.parametrize(("verb", "args", "kwargs", "line", "body", "answer", "kind"), VERBS)
async def test_an_async_verb_sends_the_same(
    verb: str, args: tuple[Any, ...], kwargs: dict[str, Any], line: str, body: Any, answer: Any, kind: type
) -> None:
    wire = Wire(httpx.Response(200, json=answer))
    async with asynchronous(wire) as client:
        found = await getattr(client, verb)(*args, **kwargs)
    assert (found, type(found)) == (answer, kind)
    assert (f"{wire.requests[-1].method} {wire.requests[-1].url.raw_path.decode()}", wire.body) == (line, body)


def test_the_entries_of_a_page_are_typed() -> None:
    with blocking(Wire(httpx.Response(200, json={**PAGE, "results": [KEY]}))) as client:
        page = client.list_keys()
    assert (page.total, type(page.results[0]), page.results[0].limits.requests) == (1, KeyInfo, 5)


def test_a_new_key_does_not_show_itself_in_logs() -> None:
    new = NewKey(NEW)
    assert repr(new) == "NewKey(sk-abcdefgh…, key_1)"
    assert new.key == NEW["key"]


@pytest.mark.parametrize(("verb", "is_repeated"), [("create_key", False), ("rotate_key", False), ("revoke_key", True)])
def test_what_would_be_done_twice_is_never_repeated(verb: str, is_repeated: bool) -> None:
    wire = Wire(httpx.ConnectError("away"), httpx.Response(200, json=NEW))
    args = ("ada", ["all"]) if verb == "create_key" else ("key_1",)
    with blocking(wire) as client:
        if is_repeated:
            assert getattr(client, verb)(*args) == NEW
        else:
            with pytest.raises(Exception, match="away"):
                getattr(client, verb)(*args)
    assert len(wire.requests) == (2 if is_repeated else 1)
