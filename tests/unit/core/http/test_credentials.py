"""What is judged before any request: the settings of tokens and networks, and bars of bodies."""

import re
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send

from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.http.auth import KeyChecker
from trainyard.core.http.credentials import Credentials
from trainyard.core.http.middleware import BodyBar, BodyLimit
from trainyard.core.keys import APIKeyManager
from trainyard.core.settings import SandboxSettings

PATHS = re.compile("/exec|/files/.*")


@pytest.fixture
def checker(database: Database, clock: FakeClock) -> KeyChecker:
    return KeyChecker(APIKeyManager(database, b"p" * 32, clock), database)


@pytest.mark.parametrize("network", ["x", "10.0.0.1/8", "10.0.0.0/33", "fd00::/129", ""])
def test_a_network_that_is_none_is_an_error_of_the_configuration(
    checker: KeyChecker, clock: FakeClock, network: str
) -> None:
    with pytest.raises(errors.ConfigError, match="write ranges such as") as refused:
        Credentials(SandboxSettings(trusted_networks=(network,)), checker, clock, PATHS)
    assert refused.value.param == "sandbox.trusted_networks"


def test_keys_that_cannot_be_read_are_one_too(checker: KeyChecker, clock: FakeClock, tmp_path: Path) -> None:
    rules = SandboxSettings.model_validate({"jwt": {"keys": tmp_path}})
    with pytest.raises(errors.ConfigError, match="no key"):
        Credentials(rules, checker, clock, PATHS)


@pytest.mark.parametrize(
    ("path", "is_covered"), [("/exec", True), ("/files/a", True), ("/exec/more", False), ("/v1/models", False)]
)
def test_they_count_on_whole_paths(checker: KeyChecker, clock: FakeClock, path: str, is_covered: bool) -> None:
    assert Credentials(SandboxSettings(), checker, clock, PATHS).covers(path) is is_covered


async def sent_to(path: str, size: int) -> int:
    """Send a body of undeclared length through the limit; returns what the application has read."""
    read = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal read
        while (message := await receive())["more_body"]:
            read += len(message["body"])

    async def receive() -> Message:
        nonlocal size
        size -= 10
        return {"type": "http.request", "body": b"x" * 10, "more_body": size > 0}

    async def send(message: Message) -> None: ...

    bars = [BodyBar(re.compile("/upload(/batch)?"), 1000, "sandbox.limits.file_bytes")]
    await BodyLimit(app, 100, bars)({"type": "http", "path": path, "headers": []}, receive, send)
    return read


@pytest.mark.parametrize(
    ("path", "size", "setting"),
    [
        ("/runs", 100, None),
        ("/runs", 110, "server.max_body_bytes"),
        ("/upload", 1000, None),
        ("/upload/batch", 1010, "sandbox.limits.file_bytes"),
        ("/upload/other", 110, "server.max_body_bytes"),
    ],
)
async def test_a_path_may_have_a_bar_of_its_own(path: str, size: int, setting: str | None) -> None:
    if setting is None:
        assert await sent_to(path, size) == size - 10
        return
    with pytest.raises(errors.TooLarge, match=re.escape(f"raise {setting}")):
        await sent_to(path, size)
