"""Keys, limits and usage of a real server, over the SDK and the command line."""

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

import pytest

from trainyard.cli import edge
from trainyard.sdk import (
    AuthenticationError,
    AuthorizationError,
    Client,
    ConflictError,
    QuotaError,
    RateLimitError,
    RetryPolicy,
)
from trainyard.sdk.admin_results import NewKey
from trainyard.testing.plugin import LiveServer

AT_ONCE = RetryPolicy(attempts=1)


@pytest.fixture
def admin(live_server: LiveServer) -> Iterator[Client]:
    with Client(live_server.key, live_server.url, retry=AT_ONCE) as client:
        yield client


@pytest.fixture
def call(live_server: LiveServer) -> Iterator[Any]:
    """Generates three tokens with a key; the tokens that the answer says."""
    clients: list[Client] = []

    def generate(key: NewKey, prompt: str) -> int:
        client = Client(key.key, live_server.url, retry=AT_ONCE)
        clients.append(client)
        usage = client.chat([{"role": "user", "content": prompt}], max_tokens=3, temperature=0).usage
        return int(usage.total_tokens)

    yield generate
    for client in clients:
        client.close()


def test_a_rotation_resets_neither_the_window_nor_the_quota(admin: Client, call: Any) -> None:
    first = admin.create_key("ada", ["generate"], limits={"requests": 3}, quota={"tokens": 100_000})
    used = call(first, "one") + call(first, "two")
    second = admin.rotate_key(first.id, overlap_s=30)
    used += call(second, "three")
    with pytest.raises(RateLimitError) as caught:
        call(second, "four")
    assert caught.value.code == "rate_limit_exceeded"
    with pytest.raises(RateLimitError):
        call(first, "five")
    with Client(second.key, admin.base_url) as client:
        own = client.usage()
    assert (own.totals.requests, own.totals.total_tokens, own.standings[0].quota.tokens.used) == (3, used, used)
    report = admin.usage_report(["key"], key=first.id)
    assert [(row.key_id, row.requests) for row in report.results] == [(first.id, 2)]
    assert admin.usage_report(["key"], key=second.id).totals.requests == 1


def test_a_quota_ends_and_an_administrator_raises_it(admin: Client, call: Any) -> None:
    key = admin.create_key("bob", ["generate"], limits={"requests": "unlimited"}, quota={"tokens": 1})
    with pytest.raises(QuotaError) as caught:
        call(key, "too much")
    assert caught.value.code == "quota_exhausted"
    admin.update_key(key.id, quota={"tokens": 100_000})
    assert call(key, "enough") > 0
    admin.revoke_key(key.id)
    with pytest.raises(AuthenticationError):
        call(key, "gone")


def test_a_tenant_binds_all_of_its_keys_and_its_administrator_stays_inside(admin: Client, call: Any) -> None:
    tenant, soon = f"bounded-{secrets.token_hex(4)}", time.time() + 3600  # the server's own key ends too
    admin.set_tenant(tenant, limits={"requests": 2})
    boss = admin.create_key("boss", ["admin", "generate"], tenant=tenant, expires_at=soon)
    worker = admin.create_key("worker", ["generate"], tenant=tenant)
    call(boss, "one")
    call(worker, "two")
    with pytest.raises(RateLimitError):
        call(worker, "three")
    with Client(boss.key, admin.base_url, retry=AT_ONCE) as inside:
        assert {key.id for key in inside.list_keys().results} == {boss.id, worker.id}
        with pytest.raises(AuthorizationError) as refused:
            inside.set_tenant(tenant)
        assert refused.value.code == "operators_only"
        with pytest.raises(ConflictError, match="last usable key"):
            inside.revoke_key(boss.id)
        assert inside.usage_report(["user"]).totals.requests == 2
        assert {row.user_id for row in inside.usage_report(["user"]).results} == {"boss", "worker"}
    admin.clear_tenant(tenant)
    assert call(worker, "four") > 0


def test_the_command_line_and_the_server_see_the_same_keys(
    live_server: LiveServer, admin: Client, call: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    if live_server.data_dir is None:
        pytest.skip("the server at API_BASE is not ours, so that no key can be made")

    def answer(*words: str) -> Any:
        assert edge.run([*words, "--json"]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    data, there = ["--data-dir", str(live_server.data_dir)], ["--url", live_server.url]
    made = answer("keys", "create", "--tenant", "shell", "--scopes", "generate", "--quota-tokens", "5000", *data)
    tokens = call(NewKey(made), "Hello")
    mine = answer("usage", *there, "--key", made["key"])
    assert mine["standings"][0]["quota"]["tokens"] == {"limit": 5000, "used": tokens, "left": 5000 - tokens}
    key = ["--key", live_server.key]
    report = answer("usage", "report", "--by", "tenant,user", "--tenant", "shell", *there, *key)
    assert [(row["tenant"], row["user_id"], row["total_tokens"]) for row in report["results"]] == [
        ("shell", "admin", tokens)
    ]
    (entry,) = answer("usage", "logs", "--key-id", made["id"], *there, *key)
    assert (entry["outcome"], entry["prompt_tokens"] + entry["completion_tokens"]) == ("done", tokens)
    assert answer("usage", "stats", "--tenant", "shell", *there, *key)["totals"]["requests"] == 1
    assert edge.run(["usage", "report", "--by", "key", "--tenant", "shell", "--csv", *there, *key]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith(f"{made['id']},1,")
    shown = admin.show_key(made["id"])
    assert (shown.tenant, shown.quota.tokens, shown.last_used is not None) == ("shell", 5000, True)
