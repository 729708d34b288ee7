"""Who may ask."""

from collections.abc import Callable

import pytest

from tests.integration.sandbox.guide.conftest import Place, client_of

RUN = {"lang": "py", "code": "print(1)"}


@pytest.mark.parametrize(
    "headers",
    [
        lambda key: {"x-api-key": key},
        lambda key: {"Authorization": f"Bearer {key}"},
        lambda key: {"Authorization": f"ApiKey {key}"},
    ],
    ids=["x-api-key", "Bearer", "ApiKey"],
)
async def test_a_key_is_accepted_in_every_form(place: Place, headers: Callable[[str], dict[str, str]]) -> None:
    async with client_of(place, None) as client:
        assert (await client.post("/exec", json=RUN, headers=headers(place.key))).status_code == 200


@pytest.mark.parametrize("name", ["LIBRECHAT_CODE_API_KEY", "api_key", "apiKey"])
async def test_a_key_is_accepted_in_the_body(place: Place, name: str) -> None:
    async with client_of(place, None) as client:
        assert (await client.post("/exec", json={**RUN, name: place.key})).status_code == 200


@pytest.mark.parametrize("key", [None, "wrong"])
@pytest.mark.parametrize(("method", "path"), [("POST", "/exec"), ("POST", "/upload"), ("GET", "/languages")])
async def test_without_a_right_key_nothing_is_done(place: Place, key: str | None, method: str, path: str) -> None:
    async with client_of(place, key) as client:
        response = await client.request(method, path, json=RUN if path == "/exec" else None)
    assert response.status_code == 401
    assert response.json()["error_type"] == "authentication"
