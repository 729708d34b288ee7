"""What went over the wire between LibreChat and the server, held against one file per version of its package."""

from typing import Any

import pytest

from tests.integration.sandbox.librechat import backend as backends
from tests.integration.sandbox.librechat import generations
from tests.integration.sandbox.librechat.backend import Backend, Owner
from tests.integration.sandbox.librechat.chat import Conversation
from tests.integration.sandbox.librechat.conftest import Begin
from tests.integration.sandbox.librechat.generations import Generation
from tests.integration.sandbox.librechat.relay import Exchange
from tests.integration.sandbox.librechat.yard import NOTHING, LibreChatYard, keyed, signed
from tests.services import snapshots
from tests.services.snapshots import Mask
from tests.unit.core.http import signing

pytestmark = pytest.mark.timeout(600)

_CREDENTIALS = ("x-api-key", "authorization")


def test_the_wire_is_as_it_was(server: LibreChatYard, generation: Generation, begin: Begin) -> None:
    user, bounded = server.credential(generation), server.credential(generation, requests=1)
    wrong = signed(server.token(key=signing.OTHER_ED)) if generation.has_tokens else keyed("sk-wrong")
    server.relay.take()
    converse(begin(user), generation)
    for other in (wrong, bounded, bounded):
        begin(other).run("print(1)")
    backend = backends.opened(generation, server.relay.url, NOTHING if generation == generations.B else user)
    keep_files(backend, Owner(entity_id="agent_1"))
    backend.client.close()
    seen = server.relay.take()
    secrets = {secret: "<key>" for exchange in seen for secret in secrets_of(exchange)}
    mask = Mask({**secrets, user.owner: "<user>", bounded.owner: "<bounded user>"})
    snapshots.hold(f"sandbox/agents-{generation.version}.json", [mask.plain(shown(exchange)) for exchange in seen])


def converse(conversation: Conversation, generation: Generation) -> None:
    """Let the model work, and err."""
    conversation.run("open('notes.txt', 'w').write('one\\n')\nopen('kept.csv', 'w').write('1')\nprint('made')")
    conversation.run("open('notes.txt', 'a').write('two\\n')\nprint(open('kept.csv').read())")
    if generation.has_node:
        conversation.bash("cat notes.txt; rm notes.txt")
    else:
        conversation.run("cat = open('notes.txt').read()\nprint(cat)")
    conversation.run("open('half.txt', 'w').write('1')\nraise ValueError('no')")
    conversation.params = {**conversation.params, "lang": "cobol"}
    conversation.run("x")


def keep_files(backend: Backend, owner: Owner) -> None:
    """Do as LibreChat does with a file of its user."""
    stored = backend.upload("in.csv", b"1,2\n", owner)
    session_id, file_id = stored["session_id"], stored["files"][0]["fileId"]
    assert backend.is_fresh(session_id, file_id, owner)
    assert backend.download(session_id, file_id, owner).content == b"1,2\n"
    assert backend.remove("files", session_id, file_id, owner) == 200
    assert not backend.is_fresh(session_id, file_id, owner)


def secrets_of(exchange: Exchange) -> list[str]:
    """Find keys and tokens in a request."""
    headers = exchange.request.headers
    body = exchange.request.json() or {}
    found = [headers["x-api-key"], body.get("LIBRECHAT_CODE_API_KEY"), headers["authorization"]]
    return [str(one).removeprefix("Bearer ") for one in found if one]


def shown(exchange: Exchange) -> dict[str, Any]:
    """Write an exchange down: forms and files by their types alone."""
    request, answer = exchange.request, exchange.answer
    line = request.line.removesuffix(" HTTP/1.1")
    credentials = {name: request.headers[name] for name in _CREDENTIALS if request.headers[name]}
    sent = {"line": line, **credentials, **({"body": request.json()} if request.json() is not None else {})}
    status = int(answer.line.split()[1])
    return {"sent": sent, "status": status, "type": answer.headers["content-type"], "answer": answer.json()}
