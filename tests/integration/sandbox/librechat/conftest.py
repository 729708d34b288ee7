"""One server and one process per generation of LibreChat's client, for all tests of this folder."""

from collections.abc import Callable, Iterator
from itertools import count

import pytest

from tests.integration.sandbox.librechat import chat as chats
from tests.integration.sandbox.librechat import generations, yard
from tests.integration.sandbox.librechat.chat import Chat, Conversation
from tests.integration.sandbox.librechat.generations import Generation
from tests.integration.sandbox.librechat.yard import Credential, LibreChatYard

Begin = Callable[..., Conversation]

_numbers = count(1)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LibreChatYard]:
    with yard.opened(tmp_path_factory.mktemp("librechat")) as opened:
        yield opened


@pytest.fixture(scope="session", params=generations.ALL, ids=lambda generation: generation.name)
def generation(request: pytest.FixtureRequest) -> Generation:
    """Each of the four."""
    found: Generation = request.param
    return found


@pytest.fixture(scope="session")
def chat(generation: Generation, server: LibreChatYard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    """LibreChat with the package of this generation."""
    with chats.opened(generation, server.relay.url, tmp_path_factory.mktemp(generation.name)) as opened:
        yield opened


@pytest.fixture(scope="session")
def credential(server: LibreChatYard, generation: Generation) -> Credential:
    """What a user without limits has."""
    return server.credential(generation)


@pytest.fixture
def begin(chat: Chat, credential: Credential) -> Begin:
    """Begin a conversation, by default that of the user without limits; more parameters of the tools may be named."""

    def begun(other: Credential | None = None, **params: object) -> Conversation:
        used = other or credential
        return Conversation(chat, f"conversation-{next(_numbers)}", {**used.params, **params}, used.headers)

    return begun
