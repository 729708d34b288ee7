"""How LibreChat says who asks, generation by generation, and what it tells the model where that is not enough."""

import json
import re
from typing import Any

import pytest

from tests.integration.sandbox.librechat import generations
from tests.integration.sandbox.librechat.conftest import Begin
from tests.integration.sandbox.librechat.generations import Generation
from tests.integration.sandbox.librechat.yard import NOTHING, LibreChatYard, keyed, signed
from tests.unit.core.http import signing

pytestmark = pytest.mark.timeout(600)

CODE = "print(1)"
OF_C = [generations.C, generations.NEWEST]
RETRIES = "\n Please fix your mistakes."


def told(generation: Generation, content: str) -> str:
    """Find what the tool says went wrong; of an answer's body, as version 3.2 shows it, the field `error`."""
    said = content.removesuffix(RETRIES).removeprefix("Error: ").removeprefix("Execution error:\n\n")
    found = re.fullmatch(r"CodeAPI request failed: POST \S+ returned (\d+), body: (\{.*\})", said, re.DOTALL)
    assert bool(found) == (generation == generations.C), content
    return f"{found[1]} {json.loads(found[2])['error']}" if found else said


def of_exec(server: LibreChatYard) -> tuple[Any, dict[str, Any]]:
    """Give the headers and the body of the one request that was sent."""
    (exchange,) = server.relay.take()
    return exchange.request.headers, exchange.request.json()


@pytest.mark.parametrize("generation", [generations.A], ids=["a"], indirect=True)
def test_a_key_in_a_header(server: LibreChatYard, begin: Begin) -> None:
    server.relay.take()
    assert begin(LIBRECHAT_CODE_API_KEY=None, apiKey=server.key("anna")).run(CODE).content == "stdout:\n1"
    headers, _ = of_exec(server)
    assert headers["x-api-key"].startswith("sk-")


@pytest.mark.parametrize("generation", [generations.B], ids=["b"], indirect=True)
def test_a_key_in_the_body_alone(server: LibreChatYard, begin: Begin) -> None:
    server.relay.take()
    assert begin().run(CODE).content == "stdout:\n1"
    headers, body = of_exec(server)
    assert (headers["x-api-key"], headers["authorization"]) == (None, None)
    assert body["LIBRECHAT_CODE_API_KEY"].startswith("sk-")


@pytest.mark.parametrize("generation", OF_C, ids=["c", "c-newest"], indirect=True)
@pytest.mark.parametrize("algorithm", ["EdDSA", "RS256"])
def test_a_token_of_the_user(server: LibreChatYard, begin: Begin, algorithm: str) -> None:
    server.relay.take()
    assert begin(signed(server.token(algorithm))).run(CODE).content == "stdout:\n1"
    headers, body = of_exec(server)
    assert headers["authorization"].startswith("Bearer eyJ")
    assert body.keys() == {"lang", "code", "user_id"}


@pytest.mark.parametrize("generation", [generations.B, *OF_C], ids=["b", "c", "c-newest"], indirect=True)
def test_nothing_at_all_from_a_trusted_network(server: LibreChatYard, begin: Begin) -> None:
    server.relay.take()
    assert begin(NOTHING).run(CODE).content == "stdout:\n1"
    headers, body = of_exec(server)
    assert (headers["x-api-key"], headers["authorization"]) == (None, None)
    assert body.keys() == {"lang", "code", "user_id"}


UNAUTHORIZED = {
    "a": "HTTP error! status: 401",
    "b": "HTTP error! status: 401",
    "c": "401 {}",
    "c-newest": "Code execution is not authorized. Verify access before trying again.",
}


def test_a_wrong_key_or_token_is_refused(server: LibreChatYard, begin: Begin, generation: Generation) -> None:
    wrong = signed(server.token(key=signing.OTHER_ED)) if generation.has_tokens else keyed("sk-wrong")
    said = begin(wrong).run(CODE)
    assert said.status == "error"
    refusal = "Invalid token: Signature verification failed"
    assert told(generation, said.content) == UNAUTHORIZED[generation.name].format(refusal)


@pytest.mark.parametrize("generation", OF_C, ids=["c", "c-newest"], indirect=True)
@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"exp": 1_700_000_300, "iat": 1_700_000_000, "nbf": 1_700_000_000}, "it has expired"),
        ({"aud": "another"}, "Audience doesn't match"),
        ({"iss": "another"}, "Invalid issuer"),
    ],
)
def test_a_token_that_is_not_for_here_is_refused(
    server: LibreChatYard, begin: Begin, generation: Generation, changed: dict[str, Any], refusal: str
) -> None:
    said = begin(signed(server.token(**changed))).run(CODE)
    assert told(generation, said.content) == UNAUTHORIZED[generation.name].format(f"Invalid token: {refusal}")


@pytest.mark.parametrize("generation", OF_C, ids=["c", "c-newest"], indirect=True)
def test_nothing_at_all_through_a_proxy_is_refused(server: LibreChatYard, begin: Begin, generation: Generation) -> None:
    conversation = begin(NOTHING)
    conversation.headers = {"X-Forwarded-For": "203.0.113.9"}
    content = conversation.run(CODE).content
    assert told(generation, content).startswith(UNAUTHORIZED[generation.name].format("Missing API key"))


def test_a_limit_that_is_reached_names_the_seconds(server: LibreChatYard, begin: Begin, generation: Generation) -> None:
    conversation = begin(server.credential(generation, requests=1))
    assert conversation.run(CODE).status == "success"
    server.relay.take()
    said = told(generation, conversation.run(CODE).content)
    exchange = server.relay.take()[-1]  # generation B asks for the files of a session first
    seconds = exchange.answer.json()["retry_after_seconds"]
    assert 0 < seconds <= 60
    assert (
        said
        == {
            "a": "HTTP error! status: 429",
            "b": "HTTP error! status: 429",
            "c": "429 rate_limited",
            "c-newest": f"Code execution is temporarily rate-limited. Retry after {seconds} seconds.",
        }[generation.name]
    )
