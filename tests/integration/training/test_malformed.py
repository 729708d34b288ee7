import json

import pytest

from tests.integration.training import malformed
from tests.integration.training.malformed import Malformed
from tests.unit.training.yard import MODEL, Yard

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize("wrong", malformed.REQUESTS, ids=lambda wrong: wrong.name)
async def test_a_malformed_request_is_told_what_would_be_right_and_the_server_lives_on(
    yard: Yard, wrong: Malformed
) -> None:
    client = await yard.client()
    run_id = (await client.post("/runs", json={"base_model": MODEL})).json()["run_id"]
    path = wrong.path.replace("{run}", run_id)
    answer = await client.request(wrong.method, path, content=wrong.content(MODEL), headers=JSON)
    assert answer.status_code == wrong.status, answer.text
    assert wrong.says.replace(malformed.MODEL, MODEL) in answer.json()["error"]
    good = await client.post(f"/runs/{run_id}/forward_backward", json=malformed.BATCH)
    assert good.status_code == 200


async def test_a_body_over_the_limit_is_413_and_the_server_lives_on(yard: Yard) -> None:
    client = await yard.client()
    body = json.dumps({"base_model": MODEL, "x": "y" * (20 * 1024 * 1024)}).encode()
    assert (await client.post("/runs", content=body, headers=JSON)).status_code == 413
    assert (await client.get("/runs")).status_code == 200


@pytest.mark.parametrize("name", ["\ud800", "x" * 1_000_000, "</script>", "__class__"])
async def test_an_unknown_field_of_any_name_is_422(yard: Yard, name: str) -> None:
    client = await yard.client()
    answer = await client.post("/runs", content=json.dumps({"base_model": MODEL, name: 1}), headers=JSON)
    assert answer.status_code == 422
    assert len(answer.content) < 3_000_000
