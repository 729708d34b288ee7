"""The fixtures of the code interpreter's guide, over a server of its own or the one at `API_BASE`.

Against a server that runs elsewhere: `API_BASE=https://host TRAINYARD_API_KEY=… API_OTHER_KEY=…`, the second key of
another user.
"""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.services.packages import require_packages
from trainyard.sdk.local_server import LocalServer

KEY = "test-api-key-for-development-only"
OTHER_KEY = "test-api-key-of-somebody-else"


@dataclass(frozen=True)
class Place:
    """A server, and the keys of two users."""

    url: str
    key: str
    other_key: str


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    if os.environ.get("API_BASE"):
        environ = os.environ
        yield Place(environ["API_BASE"], environ["TRAINYARD_API_KEY"], environ.get("API_OTHER_KEY", ""))
        return
    home = tmp_path_factory.mktemp("guide")
    (home / "models.yaml").write_text("models: [{name: echo, backend: fake}]")
    environment = {
        "TRAINYARD_MODELS_FILE": str(home / "models.yaml"),
        "TRAINYARD_SANDBOX__ENABLED": "true",
        "TRAINYARD_SANDBOX__PACKAGES": str(require_packages()),
        "TRAINYARD_STATIC_KEYS": f"{KEY};user=test,{OTHER_KEY};user=other",
    }
    with LocalServer(home / "data", arguments=("--tls-self-signed",), environment=environment) as server:
        yield Place(server.url, KEY, OTHER_KEY)


@pytest.fixture
async def api_client(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    """HTTP client configured for API testing."""
    async with client_of(place, place.key) as client:
        yield client


@pytest.fixture
async def other_client(place: Place) -> AsyncIterator[httpx.AsyncClient]:
    """A client of somebody else."""
    if not place.other_key:
        pytest.skip("API_OTHER_KEY names no second user")
    async with client_of(place, place.other_key) as client:
        yield client


def client_of(place: Place, key: str | None) -> httpx.AsyncClient:
    headers = {} if key is None else {"x-api-key": key}
    return httpx.AsyncClient(base_url=place.url, headers=headers, verify=False, timeout=60)  # noqa: S501 - as the guide


@pytest.fixture
def sample_python_code() -> str:
    """Sample Python code for testing."""
    return "print('Hello, World!')"


async def execute(client: httpx.AsyncClient, code: str, lang: str = "py", **more: Any) -> dict[str, Any]:
    """Run code and read the answer, which has to be 200."""
    response = await client.post("/exec", json={"lang": lang, "code": code, **more})
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


async def upload(client: httpx.AsyncClient, name: str, content: bytes, **fields: str) -> dict[str, Any]:
    """Store one file and read the answer, which has to be 200."""
    response = await client.post("/upload", files={"files": (name, content)}, data=fields)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def unique() -> str:
    """A name that nobody has used."""
    return f"test-{secrets.token_hex(8)}"
