"""Keys over HTTP: what is answered, what is shown, and every way in which it is refused."""

from typing import Any, get_args

import pytest

from tests.unit.core.http.admin.yard import Office
from trainyard.core.http import admin_bodies
from trainyard.core.principal import SCOPES

NOT_SET = {"requests": None, "tokens": None, "concurrency": None}
NO_QUOTA = {"tokens": None, "cost_micros": None, "time_zone": None, "day": None, "reset_at": None}


def test_the_documented_scopes_are_those_that_exist() -> None:
    assert get_args(admin_bodies.Scope) == SCOPES
    assert get_args(admin_bodies.ScopeWord) == (*SCOPES, "all")


def test_a_made_key_is_shown_once_and_works(office: Office) -> None:
    answer = office.ask(
        "root",
        "POST",
        "/keys",
        {
            "user_id": "bob",
            "scopes": ["generate"],
            "tenant": "lab",
            "description": "nightly",
            "expires_at": office.clock.now() + 60,
            "limits": {"requests": 5, "tokens": "unlimited"},
            "quota": {"tokens": 10, "cost_micros": 7, "time_zone": "UTC", "day": 31},
        },
    )
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    made = answer.json()
    key = made.pop("key")
    assert office.keys.validate_key(key) is not None
    assert made == {
        "id": made["id"],
        "prefix": key[:11],
        "source": "stored",
        "tenant": "lab",
        "user_id": "bob",
        "description": "nightly",
        "scopes": ["generate"],
        "status": "active",
        "created_at": office.clock.now(),
        "expires_at": office.clock.now() + 60,
        "revoked_at": None,
        "last_used": None,
        "replaced_by": None,
        "account": made["id"],
        "limits": {"requests": 5, "tokens": "unlimited", "concurrency": None},
        "quota": {"tokens": 10, "cost_micros": 7, "time_zone": "UTC", "day": 31, "reset_at": None},
        "effective_limits": {"requests": 5, "tokens": None, "concurrency": None},
        "effective_quota": {"tokens": 10, "cost_micros": 7, "time_zone": "UTC", "day": 31, "reset_at": None},
    }
    shown = office.ask("root", "GET", f"/keys/{made['id']}")
    assert shown.status_code == 200
    assert {**shown.json(), "last_used": None} == made
    assert key not in shown.text


def test_a_key_that_names_no_tenant_is_of_the_makers(office: Office) -> None:
    made = office.ask("boss", "POST", "/keys", {"user_id": "bob", "scopes": ["generate"], "limits": {"requests": 60},
                                                "quota": {"tokens": 1000}})  # fmt: skip
    assert (made.status_code, made.json()["tenant"]) == (201, "lab")
    made = office.ask("root", "POST", "/keys", {"user_id": "bob", "scopes": ["all"], "tenant": None})
    assert (made.json()["tenant"], made.json()["scopes"]) == ("default", sorted(SCOPES))


def test_an_administrator_lists_his_own_tenant_and_an_operator_all(office: Office) -> None:
    everyone = [key.record.id for key in (office.root, office.boss, office.ada)]

    def ids(who: str, query: str = "") -> list[str]:
        return [key["id"] for key in office.ask(who, "GET", f"/keys{query}").json()["results"]]

    assert ids("root") == everyone
    assert ids("boss") == ids("boss", "?tenant=lab") == everyone[1:]
    assert ids("boss", "?tenant=default") == []
    assert ids("root", "?tenant=lab&user_id=ada") == everyone[2:]
    assert ids("root", "?scope=admin") == everyone[:2]
    assert ids("root", "?limit=1&offset=1") == everyone[1:2]
    page = office.ask("root", "GET", "/keys?limit=2&offset=2").json()
    assert (len(page["results"]), page["total"], page["limit"], page["offset"]) == (1, 3, 2, 2)


def test_lists_are_cut_by_state(office: Office) -> None:
    ended = office.make(expires_at=office.clock.now() + 1)["id"]
    revoked = office.make()["id"]
    office.ask("root", "DELETE", f"/keys/{revoked}")
    office.clock.advance(2)
    found = {
        status: {key["id"] for key in office.ask("boss", "GET", f"/keys?status={status}").json()["results"]}
        for status in ("live", "active", "expired", "revoked", "all")
    }
    active = {office.boss.record.id, office.ada.record.id}
    assert found == {
        "live": active | {ended},
        "active": active,
        "expired": {ended},
        "revoked": {revoked},
        "all": active | {ended, revoked},
    }


def test_a_patch_leaves_what_it_does_not_name_and_takes_back_what_is_null(office: Office) -> None:
    made = office.make(limits={"requests": 5, "tokens": 9}, quota={"tokens": 10, "day": 3}, expires_at=2e9)
    path = f"/keys/{made['id']}"
    first = office.ask("root", "PATCH", path, {"limits": {"requests": None}, "quota": {"day": 4}, "description": "x"})
    assert first.status_code == 200, first.text
    shown = first.json()
    assert shown["limits"] == {"requests": None, "tokens": 9, "concurrency": None}
    assert shown["quota"] == {**NO_QUOTA, "tokens": 10, "day": 4}
    assert (shown["description"], shown["expires_at"], shown["scopes"]) == ("x", 2e9, ["generate"])
    second = office.ask("root", "PATCH", path, {"limits": None, "quota": None, "expires_at": None, "scopes": ["train"]})
    shown = second.json()
    assert (shown["limits"], shown["quota"], shown["expires_at"]) == (NOT_SET, NO_QUOTA, None)
    assert (shown["description"], shown["scopes"]) == ("x", ["train"])
    assert office.ask("root", "PATCH", path, {}).json() == shown


def test_a_rotated_key_keeps_its_account_limits_and_quota(office: Office) -> None:
    made = office.make(limits={"requests": 5}, quota={"tokens": 10})
    answer = office.ask("root", "POST", f"/keys/{made['id']}/rotate", {"overlap_s": 60})
    new = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    assert new["key"] != made["key"]
    assert (new["account"], new["limits"], new["quota"]) == (made["id"], made["limits"], made["quota"])
    old = office.ask("root", "GET", f"/keys/{made['id']}").json()
    assert (old["replaced_by"], old["expires_at"]) == (new["id"], office.clock.now() + 60)
    again = office.ask("root", "POST", f"/keys/{new['id']}/rotate")  # without a body: no overlap
    assert (again.status_code, again.json()["account"]) == (201, made["id"])
    assert office.keys.validate_key(new["key"]) is None


def test_revoking_twice_answers_the_same(office: Office) -> None:
    first = office.ask("boss", "DELETE", office.path("/keys/{ada}"))
    office.clock.advance(5)
    second = office.ask("boss", "DELETE", office.path("/keys/{ada}"))
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()
    assert (first.json()["status"], first.json()["revoked_at"]) == ("revoked", office.clock.now() - 5)
    assert office.keys.validate_key(office.ada.key) is None


def test_no_secret_is_in_any_later_answer(office: Office) -> None:
    made = office.make()
    rotated = office.ask("root", "POST", f"/keys/{made['id']}/rotate", {"overlap_s": 9}).json()
    answers = [
        office.ask("root", "GET", "/keys"),
        office.ask("root", "GET", f"/keys/{rotated['id']}"),
        office.ask("root", "PATCH", f"/keys/{rotated['id']}", {"description": "y"}),
        office.ask("root", "POST", f"/keys/{made['id']}/rotate"),
        office.ask("root", "DELETE", f"/keys/{rotated['id']}"),
        office.ask("root", "GET", f"/keys/{made['key']}"),
    ]
    for answer in answers:
        assert all(key["key"][11:] not in answer.text for key in (made, rotated)), answer.text


GOOD = {"user_id": "bob", "scopes": ["generate"]}
LOOSE = {"limits": {"requests": 60}, "quota": {"tokens": 1000}}  # what boss himself has

ROUTES = [
    ("POST", "/keys", GOOD),
    ("GET", "/keys", None),
    ("GET", "/keys/{ada}", None),
    ("PATCH", "/keys/{ada}", {}),
    ("POST", "/keys/{ada}/rotate", {}),
    ("DELETE", "/keys/{ada}", None),
    ("GET", "/tenants", None),
    ("GET", "/tenants/lab", None),
    ("PUT", "/tenants/lab", {}),
    ("PATCH", "/tenants/lab", {}),
    ("DELETE", "/tenants/lab", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
def test_every_route_needs_a_key_with_the_scope_admin(office: Office, method: str, path: str, body: Any) -> None:
    nobody = office.http.request(method, f"/v1/admin{office.path(path)}", json=body)
    assert (nobody.status_code, nobody.json()["code"]) == (401, "missing_api_key")
    wrong = office.http.request(method, f"/v1/admin{office.path(path)}", json=body, headers={"X-API-Key": "sk-x"})
    assert (wrong.status_code, wrong.json()["code"]) == (401, "invalid_api_key")
    ada = office.ask("ada", method, office.path(path), body)
    assert (ada.status_code, ada.json()["code"]) == (403, "missing_scope")
    assert office.keys.validate_key(office.ada.key) is not None


# who, method, path, body, status, code, what the message says
REFUSED: list[tuple[str, str, str, Any, int, str, str]] = [
    ("boss", "POST", "/keys", {**GOOD, "tenant": "default"}, 403, "foreign_tenant", "operators"),
    ("boss", "POST", "/keys", {**GOOD, **LOOSE, "scopes": ["train"]}, 403, "scope_not_held", "admin, generate"),
    ("boss", "POST", "/keys", {**GOOD, **LOOSE, "scopes": ["all"]}, 403, "scope_not_held", "'execute'"),
    ("boss", "POST", "/keys", GOOD, 403, "limit_above_own", "limits.requests 60"),
    ("boss", "POST", "/keys", {**GOOD, **LOOSE, "limits": {"requests": 61}}, 403, "limit_above_own", "60 or less"),
    ("boss", "POST", "/keys", {**GOOD, **LOOSE, "quota": {}}, 403, "limit_above_own", "no bar at all"),
    ("boss", "POST", "/keys", {**GOOD, **LOOSE, "limits": {"requests": "unlimited"}}, 403, "limit_above_own", "60"),
    ("boss", "PATCH", "/keys/{boss}", {"limits": {"requests": None}}, 403, "limit_above_own", "60"),
    ("boss", "PATCH", "/keys/{boss}", {"quota": {"tokens": 1001}}, 403, "limit_above_own", "1000"),
    ("boss", "PATCH", "/keys/{boss}", {"quota": {"reset_at": 2e9}}, 403, "own_quota_period", "operators"),
    ("boss", "PATCH", "/keys/{ada}", {"scopes": ["generate", "train"]}, 403, "scope_not_held", "'train'"),
    ("boss", "POST", "/keys/{ada}/rotate", {}, 403, "limit_above_own", "limits.requests 60"),
    ("boss", "GET", "/keys/{root}", None, 404, "not_found", "There is no key"),
    ("boss", "PATCH", "/keys/{root}", {"description": "x"}, 404, "not_found", "There is no key"),
    ("boss", "POST", "/keys/{root}/rotate", {}, 404, "not_found", "There is no key"),
    ("boss", "DELETE", "/keys/{root}", None, 404, "not_found", "There is no key"),
    ("boss", "DELETE", "/keys/{boss}", None, 409, "last_admin_key", "make or rotate one first"),
    ("boss", "PATCH", "/keys/{boss}", {"scopes": ["generate"]}, 409, "last_admin_key", "make or rotate one first"),
    ("root", "DELETE", "/keys/{root}", None, 409, "last_admin_key", "tenant 'default'"),
    ("root", "GET", "/keys/" + "k" * 65, None, 404, "not_found", "There is no key"),
    ("root", "GET", "/keys/a%00", None, 404, "not_found", "There is no key"),
    ("root", "GET", "/keys/key_none", None, 404, "not_found", "a list of the keys shows their ids"),
    ("root", "PATCH", "/keys/key_none", {}, 404, "not_found", "key_none"),
    ("root", "DELETE", "/keys/key_none", None, 404, "not_found", "key_none"),
    ("root", "POST", "/keys/key_none/rotate", None, 404, "not_found", "key_none"),
    ("root", "POST", "/keys", {"scopes": ["generate"]}, 422, "validation_error", "user_id"),
    ("root", "POST", "/keys", {"user_id": "bob"}, 422, "validation_error", "scopes"),
    ("root", "POST", "/keys", {**GOOD, "user_id": "a/b"}, 422, "validation_error", "begin with a letter"),
    ("root", "POST", "/keys", {**GOOD, "user_id": 7}, 422, "validation_error", "user_id"),
    ("root", "POST", "/keys", {**GOOD, "tenant": ".."}, 422, "validation_error", "tenant"),
    ("root", "POST", "/keys", {**GOOD, "scopes": []}, 422, "validation_error", "scopes"),
    ("root", "POST", "/keys", {**GOOD, "scopes": ["fly"]}, 422, "validation_error", "'loadtest'"),
    ("root", "POST", "/keys", {**GOOD, "scopes": "generate"}, 422, "validation_error", "list"),
    ("root", "POST", "/keys", {**GOOD, "expires_at": 1.0}, 422, "validation_error", "in the future"),
    ("root", "POST", "/keys", {**GOOD, "expires_at": 1e300}, 422, "validation_error", "expires_at"),
    ("root", "POST", "/keys", {**GOOD, "expires_at": "soon"}, 422, "validation_error", "expires_at"),
    ("root", "POST", "/keys", {**GOOD, "description": "x" * 501}, 422, "validation_error", "500"),
    ("root", "POST", "/keys", {**GOOD, "description": "a\nb"}, 422, "validation_error", "one line"),
    ("root", "POST", "/keys", {**GOOD, "descripton": "x"}, 422, "validation_error", "did you mean description?"),
    ("root", "POST", "/keys", {**GOOD, "key": "sk-mine"}, 422, "validation_error", "no field 'key'"),
    ("root", "POST", "/keys", {**GOOD, "limits": {"rpm": 5}}, 422, "validation_error", "requests, tokens, concurrency"),
    ("root", "POST", "/keys", {**GOOD, "limits": {"requests": 0}}, 422, "validation_error", "'unlimited' or null"),
    ("root", "POST", "/keys", {**GOOD, "limits": {"requests": True}}, 422, "validation_error", "whole number"),
    ("root", "POST", "/keys", {**GOOD, "limits": {"tokens": 10**15 + 1}}, 422, "validation_error", "limits.tokens"),
    ("root", "POST", "/keys", {**GOOD, "limits": {"concurrency": "many"}}, 422, "validation_error", "concurrency"),
    ("root", "POST", "/keys", {**GOOD, "limits": None}, 422, "validation_error", "limits"),
    ("root", "POST", "/keys", {**GOOD, "quota": {"tokens": 0}}, 422, "validation_error", "quota.tokens"),
    ("root", "POST", "/keys", {**GOOD, "quota": {"day": 32}}, 422, "validation_error", "quota.day"),
    ("root", "POST", "/keys", {**GOOD, "quota": {"time_zone": "Europe/Berln"}}, 422, "validation_error", "/Berlin"),
    ("root", "POST", "/keys", {**GOOD, "quota": {"time_zone": "@"}}, 422, "validation_error", "IANA"),
    ("root", "POST", "/keys", {**GOOD, "quota": {"day": 1, "reset_at": 5}}, 422, "validation_error", "exclude"),
    ("root", "POST", "/keys", {**GOOD, "quota": {"reset_at": 0}}, 422, "validation_error", "quota.reset_at"),
    ("root", "POST", "/keys", [], 422, "validation_error", "body"),
    ("root", "PATCH", "/keys/{ada}", {"description": None}, 422, "validation_error", "description"),
    ("root", "PATCH", "/keys/{ada}", {"scopes": None}, 422, "validation_error", "scopes"),
    ("root", "PATCH", "/keys/{ada}", {"scopes": []}, 422, "validation_error", "scopes"),
    ("root", "PATCH", "/keys/{ada}", {"expires_at": 5}, 422, "validation_error", "in the future"),
    ("root", "PATCH", "/keys/{ada}", {"user_id": "eve"}, 422, "validation_error", "no field 'user_id'"),
    ("root", "PATCH", "/keys/{ada}", {"quota": {"days": 5}}, 422, "validation_error", "did you mean day?"),
    ("root", "POST", "/keys/{ada}/rotate", {"overlap_s": -1}, 422, "validation_error", "overlap_s"),
    ("root", "POST", "/keys/{ada}/rotate", {"overlap": 1}, 422, "validation_error", "overlap_s"),
    ("root", "GET", "/keys?limit=0", None, 422, "validation_error", "limit"),
    ("root", "GET", "/keys?limit=201", None, 422, "validation_error", "limit"),
    ("root", "GET", "/keys?offset=-1", None, 422, "validation_error", "offset"),
    ("root", "GET", "/keys?status=dead", None, 422, "validation_error", "'revoked'"),
    ("root", "GET", "/keys?scope=all", None, 422, "validation_error", "'loadtest'"),
]  # fmt: skip


@pytest.mark.parametrize(("who", "method", "path", "body", "status", "code", "says"), REFUSED)
def test_what_is_refused_says_why_and_what_would_be_right(
    office: Office, who: str, method: str, path: str, body: Any, status: int, code: str, says: str
) -> None:
    before = office.keys.list_keys()
    answer = office.ask(who, method, office.path(path), body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert says in answer.json()["message"]
    after = office.keys.list_keys()
    assert [{**key, "last_used": None} for key in before] == [{**key, "last_used": None} for key in after]


def test_a_revoked_and_a_replaced_key_cannot_be_changed(office: Office) -> None:
    new = office.ask("root", "POST", office.path("/keys/{ada}/rotate"), {"overlap_s": 60}).json()
    for method, end in (("PATCH", ""), ("POST", "/rotate")):
        answer = office.ask("root", method, office.path("/keys/{ada}") + end, {})
        assert (answer.status_code, answer.json()["code"]) == (409, "key_already_rotated")
        assert new["id"] in answer.json()["message"]
    office.ask("root", "DELETE", f"/keys/{new['id']}")
    changed = office.ask("root", "PATCH", f"/keys/{new['id']}", {})
    assert (changed.status_code, changed.json()["code"]) == (409, "key_revoked")
    rotated = office.ask("root", "POST", f"/keys/{new['id']}/rotate")
    assert (rotated.status_code, rotated.json()["code"]) == (404, "not_found")


def test_an_operator_may_take_the_last_administrator_of_another_tenant(office: Office) -> None:
    assert office.ask("root", "DELETE", office.path("/keys/{boss}")).status_code == 200


def test_with_another_administrator_the_first_can_go(office: Office) -> None:
    made = office.ask("boss", "POST", "/keys", {**LOOSE, "user_id": "deputy", "scopes": ["admin"]})
    assert made.status_code == 201
    assert office.ask("boss", "DELETE", office.path("/keys/{boss}")).status_code == 200


def test_who_ends_makes_no_administrator_that_lasts_longer(office: Office) -> None:
    soon = office.clock.now() + 60
    guest = office.keys.create("guest", expires_at=soon)
    body = {"user_id": "evil", "scopes": ["admin"]}
    longer: list[dict[str, Any]] = [{}, {"expires_at": soon + 1}]
    for wish in longer:
        answer = office.ask(guest, "POST", "/keys", {**body, **wish})
        assert (answer.status_code, answer.json()["code"]) == (403, "outlives_its_maker")
    assert office.ask(guest, "POST", "/keys", {**body, "expires_at": soon}).status_code == 201
    assert office.ask(guest, "POST", "/keys", {**body, "scopes": ["train"]}).status_code == 201
    changes: list[tuple[str, dict[str, Any]]] = [
        (f"/keys/{guest.record.id}", {"expires_at": None}),
        (office.path("/keys/{ada}"), {"scopes": ["admin"]}),
    ]
    for path, wish in changes:
        assert office.ask(guest, "PATCH", path, wish).json()["code"] == "outlives_its_maker"
    answer = office.ask(guest, "POST", office.path("/keys/{root}/rotate"))
    assert answer.json()["code"] == "outlives_its_maker"
    assert office.ask(guest, "PATCH", office.path("/keys/{root}"), {"description": "x"}).status_code == 200


def test_the_document_describes_every_field_and_no_default_of_what_is_left_out(office: Office) -> None:
    schemas = office.http.get("/openapi.json").json()["components"]["schemas"]
    ours = {name: schema for name, schema in schemas.items() if hasattr(admin_bodies, name)}
    assert {"KeyWish", "KeyChange", "KeyInfo", "NewKeyInfo", "KeyList", "TenantBars", "TenantInfo"} <= set(ours)
    for name, schema in ours.items():
        assert schema["additionalProperties"] is False, name
        assert all(field.get("description") for field in schema["properties"].values()), name
    change = ours["KeyChange"]["properties"]
    assert not any("default" in change[name] for name in ("description", "scopes"))
    bar = ours["KeyLimits"]["properties"]["requests"]["anyOf"]
    assert bar == [
        {"type": "integer", "minimum": 1, "maximum": 1_000_000_000},
        {"type": "string", "const": "unlimited"},
        {"type": "null"},
    ]


@pytest.mark.parametrize(
    ("method", "path", "says"),
    [
        ("GET", "/keys?user=ada", "user: unknown parameter; did you mean 'user_id'?"),
        ("GET", "/keys/{ada}?x=1", "x: unknown parameter; this path takes none"),
        ("DELETE", "/keys/{ada}?dry_run=true", "dry_run: unknown parameter; this path takes none"),
        ("GET", "/tenants?offest=1", "did you mean 'offset'?"),
    ],
)
def test_an_unknown_parameter_is_refused_and_nothing_done(office: Office, method: str, path: str, says: str) -> None:
    answer = office.ask("root", method, office.path(path))
    assert answer.status_code == 422
    assert says in answer.json()["message"]
    assert office.ask("root", "GET", office.path("/keys/{ada}")).json()["status"] == "active"
