"""A gateway to test: the application in this process on a clock of its own, or the server at `API_BASE`."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

GENERATE = "/v1/generate"


class Answer(Protocol):
    """What both HTTP clients answer with."""

    status_code: int
    headers: Any
    text: str

    def json(self) -> Any: ...


@dataclass(frozen=True)
class Key:
    """A key of one test.

    Attributes:
        id: `key_…`.
        secret: What is sent.
    """

    id: str
    secret: str


@dataclass(frozen=True)
class Gateway:
    """A server to talk to.

    Attributes:
        request: Sends one request.
        admin_key: May make keys, and generate.
        model: Name of its default model.
        now: Tells its time, Unix seconds.
        wait: Lets that many seconds pass there.
    """

    request: Callable[..., Any]
    admin_key: str
    model: str
    now: Callable[[], float]
    wait: Callable[[float], None]

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Answer:
        """Send a request with this key, the administrator's when none is given."""
        sent = {"X-API-Key": self.admin_key if key is None else key, **(headers or {})}
        if content is not None:
            answer: Answer = self.request(method, path, headers=sent, content=content)
        else:
            answer = self.request(method, path, headers=sent, **({} if body is None else {"json": body}))
        return answer

    def generate(self, key: Key, prompt: str | None = None, **parameters: Any) -> Answer:
        """Continue a prompt that nobody has sent before unless one is given."""
        body = {"prompt": unique() if prompt is None else prompt, "max_new_tokens": 2, **parameters}
        headers = body.pop("headers", None)
        return self.call("POST", GENERATE, body, key=key.secret, headers=headers)

    def new_key(self, **wishes: Any) -> Key:
        """Make a key over HTTP, without limits of its own unless they are wished for."""
        free = {"requests": "unlimited", "tokens": "unlimited", "concurrency": "unlimited"}
        limits = {**free, **wishes.pop("limits", {})}
        body = {"user_id": unique("user-"), "scopes": ["generate"], "limits": limits, **wishes}
        answer = self.call("POST", "/v1/admin/keys", body)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return Key(made["id"], made["key"])

    def usage(self, key: Key) -> Any:
        """Ask what a key has used."""
        answer = self.call("GET", "/v1/me/usage", key=key.secret)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def quota(self, key: Key) -> Any:
        """Ask how a key stands with its own quota."""
        return self.usage(key)["standings"][0]["quota"]


MakeKey = Callable[..., Key]


@contextmanager
def keys_of(gateway: Gateway) -> Iterator[MakeKey]:
    """Make keys, and revoke them at the end."""
    made: list[Key] = []

    def make(**wishes: Any) -> Key:
        made.append(gateway.new_key(**wishes))
        return made[-1]

    yield make
    for key in made:
        gateway.call("DELETE", f"/v1/admin/keys/{key.id}")


def default_model(request: Callable[..., Any], key: str) -> str:
    """Ask a server for the name of its default model."""
    answer: Answer = request("GET", "/v1/models", headers={"X-API-Key": key})
    assert answer.status_code == 200, answer.text
    return next(str(card["id"]) for card in answer.json()["data"] if card["default"])


def unique(prefix: str = "") -> str:
    """A word that was never sent before."""
    return f"{prefix}{secrets.token_hex(6)}"


def seconds(duration: str) -> float:
    """Read what OpenAI's headers say: `12ms`, `1.5s`, `6m0s`, `2h0m30s`."""
    if duration.endswith("ms"):
        return float(duration[:-2]) / 1000
    total, number = 0.0, ""
    for character in duration:
        if character in "hms":
            total += float(number) * {"h": 3600, "m": 60, "s": 1}[character]
            number = ""
        else:
            number += character
    return total
