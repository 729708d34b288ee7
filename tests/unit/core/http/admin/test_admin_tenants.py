"""Tenants over HTTP: operators set what all keys of a tenant may do together; others see their own."""

from typing import Any

import pytest

from tests.unit.core.http.admin.yard import Office

NO_BARS = {"requests": None, "tokens": None, "concurrency": None}
NO_QUOTA = {"tokens": None, "cost_micros": None, "time_zone": None, "day": None, "reset_at": None}


def test_a_tenant_with_keys_and_no_bars_is_there(office: Office) -> None:
    assert office.ask("root", "GET", "/tenants/lab").json() == {
        "name": "lab",
        "key_count": 2,
        "limits": NO_BARS,
        "quota": NO_QUOTA,
        "effective_quota": {**NO_QUOTA, "time_zone": "Europe/Berlin", "day": 1},
        "updated_at": None,
    }


def test_put_sets_anew_patch_changes_and_delete_takes_away(office: Office) -> None:
    put = office.ask("root", "PUT", "/tenants/lab", {"limits": {"requests": 9, "tokens": 8}, "quota": {"tokens": 7}})
    assert (put.status_code, put.json()["updated_at"]) == (200, office.clock.now())
    patch = office.ask("root", "PATCH", "/tenants/lab", {"limits": {"tokens": None}, "quota": {"day": 5}})
    assert patch.json()["limits"] == {**NO_BARS, "requests": 9}
    assert patch.json()["quota"] == {**NO_QUOTA, "tokens": 7, "day": 5}
    assert office.ask("root", "PATCH", "/tenants/lab", {"quota": None}).json()["quota"] == NO_QUOTA
    assert office.ask("root", "PUT", "/tenants/lab", {"quota": {"tokens": 1}}).json()["limits"] == NO_BARS
    for _ in range(2):
        cleared = office.ask("root", "DELETE", "/tenants/lab")
        assert (cleared.status_code, cleared.json()["quota"], cleared.json()["key_count"]) == (200, NO_QUOTA, 2)


def test_the_bars_of_a_tenant_hold_for_its_keys_at_once(office: Office) -> None:
    office.ask("root", "PUT", "/tenants/lab", {"limits": {"concurrency": 3}, "quota": {"tokens": 7}})
    key, tenant = office.keys.subjects(office.ada.record.principal())
    assert (key.name, tenant.name) == (f"key:{office.ada.record.id}", "tenant:lab")
    assert (key.limits.requests, tenant.limits.concurrency, tenant.quota.tokens) == (100, 3, 7)
    assert tenant.quota.time_zone == "Europe/Berlin"
    office.ask("root", "DELETE", "/tenants/lab")
    assert office.keys.subjects(office.ada.record.principal())[1].quota.tokens is None


def test_a_tenant_can_have_bars_before_it_has_keys(office: Office) -> None:
    made = office.ask("root", "PUT", "/tenants/new", {"quota": {"tokens": 7}})
    assert (made.status_code, made.json()["key_count"]) == (200, 0)
    names = [tenant["name"] for tenant in office.ask("root", "GET", "/tenants").json()["results"]]
    assert names == ["default", "lab", "new"]
    office.ask("root", "DELETE", "/tenants/new")
    assert office.ask("root", "GET", "/tenants/new").status_code == 404


def test_lists_have_pages_and_show_an_administrator_his_own(office: Office) -> None:
    page = office.ask("root", "GET", "/tenants?limit=1&offset=1").json()
    assert ([tenant["name"] for tenant in page["results"]], page["total"]) == (["lab"], 2)
    own = office.ask("boss", "GET", "/tenants").json()
    assert ([tenant["name"] for tenant in own["results"]], own["total"]) == (["lab"], 1)
    assert office.ask("boss", "GET", "/tenants/lab").json()["key_count"] == 2


# who, method, path, body, status, code, what the message says
REFUSED: list[tuple[str, str, str, Any, int, str, str]] = [
    ("boss", "PUT", "/tenants/lab", {"quota": {"tokens": 10**9}}, 403, "operators_only", "tenant 'default'"),
    ("boss", "PATCH", "/tenants/lab", {"quota": None}, 403, "operators_only", "tenant 'default'"),
    ("boss", "DELETE", "/tenants/lab", None, 403, "operators_only", "tenant 'default'"),
    ("boss", "GET", "/tenants/default", None, 404, "not_found", "no tenant 'default'"),
    ("boss", "PUT", "/tenants/default", {}, 404, "not_found", "no tenant"),
    ("boss", "PATCH", "/tenants/none", {}, 404, "not_found", "no tenant"),
    ("boss", "DELETE", "/tenants/none", None, 404, "not_found", "no tenant"),
    ("root", "GET", "/tenants/none", None, 404, "not_found", "a list of the tenants"),
    ("root", "PATCH", "/tenants/none", {}, 404, "not_found", "no tenant 'none'"),
    ("root", "DELETE", "/tenants/none", None, 404, "not_found", "no tenant 'none'"),
    ("root", "PUT", "/tenants/.hidden", {}, 422, "validation_error", "begin with a letter"),
    ("root", "PUT", "/tenants/lab", {"limits": {"requests": "unlimited"}}, 422, "validation_error", "limits.requests"),
    ("root", "PUT", "/tenants/lab", {"limits": {"requests": 0}}, 422, "validation_error", "limits.requests"),
    ("root", "PUT", "/tenants/lab", {"limits": None}, 422, "validation_error", "limits"),
    ("root", "PUT", "/tenants/lab", {"limit": {}}, 422, "validation_error", "did you mean limits?"),
    ("root", "PATCH", "/tenants/lab", {"quota": {"reset_at": 5, "day": 1}}, 422, "validation_error", "exclude"),
    ("root", "PATCH", "/tenants/lab", {"quota": {"time_zone": "Mars"}}, 422, "validation_error", "time zone"),
    ("root", "PATCH", "/tenants/lab", {"name": "x"}, 422, "validation_error", "limits, quota"),
    ("root", "GET", "/tenants?limit=0", None, 422, "validation_error", "limit"),
    ("root", "GET", "/tenants/" + "a" * 129, None, 404, "not_found", "no tenant"),
    ("root", "PUT", "/tenants/" + "a" * 129, {}, 422, "validation_error", "1 to 128"),
    ("root", "GET", "/tenants/a%00", None, 404, "not_found", "no tenant"),
]  # fmt: skip


@pytest.mark.parametrize(("who", "method", "path", "body", "status", "code", "says"), REFUSED)
def test_what_is_refused_says_why_and_what_would_be_right(
    office: Office, who: str, method: str, path: str, body: Any, status: int, code: str, says: str
) -> None:
    answer = office.ask(who, method, path, body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert says in answer.json()["message"]
    assert office.ask("root", "GET", "/tenants/lab").json()["updated_at"] is None
