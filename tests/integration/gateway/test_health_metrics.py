"""`/metrics`: what is counted over HTTP and about models, under labels that stay few and say nothing about anybody."""

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.gateway.gateway import GENERATE, Gateway, MakeKey, unique

LABELS = {
    "trainyard_http_requests": {"method", "route", "status"},
    "trainyard_http_request_seconds": {"method", "route"},
    "trainyard_http_requests_in_flight": set(),
    "trainyard_llm_requests": {"model", "outcome"},
    "trainyard_llm_tokens": {"model", "direction"},
    "trainyard_llm_request_seconds": {"model"},
    "trainyard_llm_first_token_seconds": {"model"},
    "trainyard_refused_requests": {"reason"},
    "trainyard_settled_tokens": {"model", "kind"},
}


def families(gateway: Gateway) -> dict[str, Metric]:
    answer = gateway.request("GET", "/metrics")
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/plain")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(gateway: Gateway, sample: str, **labels: str) -> float:
    found = [one.value for family in families(gateway).values() for one in family.samples
             if one.name == sample and one.labels == labels]  # fmt: skip
    return found[0] if found else 0.0


@pytest.mark.parametrize("name", list(LABELS))
def test_a_core_metric_is_there_with_its_labels(gateway: Gateway, new_key: MakeKey, name: str) -> None:
    key = new_key(limits={"requests": 1})
    assert [gateway.generate(key).status_code for _ in range(2)] == [200, 429]
    family = families(gateway)[name]
    assert family.type in ("counter", "histogram", "gauge")
    assert family.documentation
    assert {label for sample in family.samples for label in sample.labels if label != "le"} == LABELS[name]


@pytest.mark.parametrize("name", ["trainyard_http_request_seconds", "trainyard_llm_request_seconds"])
def test_a_latency_is_a_histogram_whose_buckets_grow_to_the_count(
    gateway: Gateway, new_key: MakeKey, name: str
) -> None:
    assert gateway.generate(new_key()).status_code == 200
    labels = {"model": gateway.model} if "llm" in name else {"method": "POST", "route": GENERATE}
    samples = [one for one in families(gateway)[name].samples if labels.items() <= one.labels.items()]
    buckets = [one.value for one in samples if one.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    assert buckets[-1] == next(one.value for one in samples if one.name.endswith("_count")) > 0
    assert next(one.value for one in samples if one.name.endswith("_sum")) >= 0


def test_a_generation_is_counted_once_as_a_request_and_by_its_tokens(gateway: Gateway, new_key: MakeKey) -> None:
    key, model = new_key(), gateway.model

    def counts() -> list[float]:
        return [
            value(gateway, "trainyard_http_requests_total", method="POST", route=GENERATE, status="200"),
            value(gateway, "trainyard_llm_requests_total", model=model, outcome="done"),
            value(gateway, "trainyard_llm_tokens_total", model=model, direction="prompt")
            + value(gateway, "trainyard_llm_tokens_total", model=model, direction="completion"),
        ]

    before = counts()
    for _ in range(3):
        assert gateway.generate(key).status_code == 200
    used = gateway.usage(key)["totals"]["total_tokens"]
    assert [after - was for after, was in zip(counts(), before, strict=True)] == [3, 3, used]


@pytest.mark.parametrize(("status", "body"), [("422", {}), ("404", {"prompt": "a", "model": "no/such"})])
def test_a_failure_is_counted_under_its_status(gateway: Gateway, new_key: MakeKey, status: str, body: object) -> None:
    labels = {"method": "POST", "route": GENERATE, "status": status}
    before = value(gateway, "trainyard_http_requests_total", **labels)
    assert gateway.call("POST", GENERATE, body, key=new_key().secret).status_code == int(status)
    assert value(gateway, "trainyard_http_requests_total", **labels) == before + 1


def test_labels_hold_no_key_no_prompt_and_nothing_that_a_caller_makes_up(gateway: Gateway, new_key: MakeKey) -> None:
    prompt, user, tenant, path = unique("prompt"), unique("user"), unique("tenant"), unique("/path")
    key = new_key(user_id=user, tenant=tenant)
    assert gateway.generate(key, prompt).status_code == 200
    assert gateway.generate(key, prompt, model=unique("no/model")).status_code == 404
    assert gateway.call("GET", path, key=key.secret).status_code == 404
    assert gateway.call("GET", f"/v1/admin/keys/{key.id}").status_code == 200
    text = gateway.request("GET", "/metrics").text
    secrets = (prompt, user, tenant, path, "no/model", key.id, key.secret[:11], gateway.admin_key[:11])
    assert [secret for secret in secrets if secret in text] == []
    assert value(gateway, "trainyard_http_requests_total", method="GET", route="unmatched", status="404") >= 1
    shown = value(gateway, "trainyard_http_requests_total", method="GET", route="/v1/admin/keys/{key_id}", status="200")
    assert shown >= 1


def test_metrics_need_no_key_and_neither_does_health(gateway: Gateway) -> None:
    for path in ("/metrics", "/healthz", "/readyz", "/health"):
        assert gateway.request("GET", path).status_code == 200
