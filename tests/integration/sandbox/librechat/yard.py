"""A server for LibreChat, set up as the documentation says, and its users."""

import base64
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import httpx
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.integration.sandbox.librechat.generations import Generation
from tests.integration.sandbox.librechat.relay import Relay, relayed
from tests.unit.core.http import signing
from trainyard.sdk.local_server import LocalServer

PAGE = Path(__file__).parents[4] / "docs" / "sandbox-api.md"
TIMEOUT_S = 2.0
USER = "65f0c0ffee5eed0000000001"
KIDS = {"EdDSA": "chat-1", "RS256": "chat-2"}

_numbers = count(1)


@dataclass(frozen=True)
class Credential:
    """What LibreChat gives to a tool of one of its users, and sends with its own calls.

    Attributes:
        params: Of the tool.
        headers: From the function that LibreChat hands to the tool; None = it has none.
        own: Headers of LibreChat's own calls.
        owner: The user, or the tenant, that is his alone.
    """

    params: dict[str, str]
    headers: dict[str, str] | None
    own: dict[str, str]
    owner: str = ""


@dataclass(frozen=True)
class LibreChatYard:
    """The server, its wire, and the private keys of LibreChat."""

    relay: Relay
    admin: httpx.Client
    private_keys: dict[str, signing.Signer]

    def key(self, user: str, **limits: int) -> str:
        """Make an API key that may execute."""
        wish = {"user_id": user, "scopes": ["execute"], "tenant": "chat", "limits": limits}
        answer = self.admin.post("/v1/admin/keys", json=wish)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["key"])

    def limit_tenant(self, name: str, **limits: int) -> None:
        """Bound what all users of a tenant may do together."""
        assert self.admin.put(f"/v1/admin/tenants/{name}", json={"limits": limits}).status_code == 200

    def token(self, algorithm: str = "EdDSA", **changed: Any) -> str:
        """Sign a token as LibreChat does."""
        now = int(time.time())
        key = changed.pop("key", self.private_keys[algorithm])
        claims = {"sub": USER, "tenant_id": "chat", "iat": now, "nbf": now, "exp": now + 300, **changed}
        return signing.sign(key, KIDS[algorithm], **claims)

    def credential(self, generation: Generation, **limits: int) -> Credential:
        """Make what one user has, by default: a key, or for generation C a token; limits are his alone."""
        owner = f"owner-{next(_numbers):04}"
        if not generation.has_tokens:
            return replace(keyed(self.key(owner, **limits)), owner=owner)
        if limits:
            self.limit_tenant(owner, **limits)
        algorithm = "RS256" if generation.node > 20 else "EdDSA"
        return replace(signed(self.token(algorithm, tenant_id=owner)), owner=owner)


def keyed(key: str) -> Credential:
    """Of generations A and B: the user's key is a parameter of the tool; LibreChat's own calls have it as a header."""
    return Credential({"LIBRECHAT_CODE_API_KEY": key, "user_id": USER}, None, {"X-API-Key": key})


def signed(token: str) -> Credential:
    """Of generation C."""
    headers = {"Authorization": f"Bearer {token}"}
    return Credential({"user_id": USER}, headers, headers)


NOTHING = Credential({"user_id": USER}, None, {})
"""Of generations B and C without keys: the network is trusted."""


def make_keys(directory: Path) -> dict[str, signing.Signer]:
    """Make LibreChat's keys with the commands of the documentation, and read the private halves."""
    commands = [block for block in re.findall(r"```bash\n(.*?)```", PAGE.read_text(), re.DOTALL) if "genpkey" in block]
    lines = [line for line in "".join(commands).splitlines() if line.startswith(("openssl ", "mkdir "))]
    script = "set -e\n" + "\n".join(lines)
    subprocess.run(["bash", "-c", script], cwd=directory, check=True, capture_output=True)
    files = {"EdDSA": "librechat.pem", "RS256": "librechat-rsa.pem"}
    return {name: _private_key(directory, file) for name, file in files.items()}


def _private_key(directory: Path, file: str) -> signing.Signer:
    """Read a key out of the variable that has it, as LibreChat does."""
    command = ["openssl", "base64", "-A", "-in", file]
    variable = subprocess.run(command, cwd=directory, check=True, capture_output=True).stdout
    return cast(signing.Signer, load_pem_private_key(base64.b64decode(variable), None))


@contextmanager
def opened(directory: Path) -> Iterator[LibreChatYard]:
    """Start `trainyard up` with a sandbox of this machine, and a relay before it."""
    catalog = directory / "models.yaml"
    catalog.write_text("models: [{name: echo, backend: fake}]")
    keys = make_keys(directory)
    sandbox = {
        "ALLOW_WEAKER": "true",
        "JWT__KEYS": str(directory / "keys"),
        "TRUSTED_NETWORKS": "127.0.0.1/32",
        "LIMITS__TIMEOUT_S": str(TIMEOUT_S),
    }
    environment = {"TRAINYARD_MODELS_FILE": str(catalog)} | {f"TRAINYARD_SANDBOX__{k}": v for k, v in sandbox.items()}
    with LocalServer(directory / "data", environment=environment) as server:
        where = urlsplit(server.url)
        assert where.hostname
        assert where.port
        headers = {"Authorization": f"Bearer {server.key}"}
        with (
            relayed((where.hostname, where.port)) as relay,
            httpx.Client(base_url=server.url, headers=headers, timeout=30) as admin,
        ):
            yield LibreChatYard(relay, admin, keys)
