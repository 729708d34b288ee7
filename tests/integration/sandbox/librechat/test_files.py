"""The files of a user, between LibreChat's own calls and what the model does with them."""

from collections.abc import Iterator

import pytest

from tests.integration.sandbox.librechat import backend as backends
from tests.integration.sandbox.librechat import generations
from tests.integration.sandbox.librechat.backend import Backend, Owner
from tests.integration.sandbox.librechat.conftest import Begin
from tests.integration.sandbox.librechat.generations import Generation
from tests.integration.sandbox.librechat.yard import NOTHING, Credential, LibreChatYard, signed

pytestmark = pytest.mark.timeout(600)

MINE = Owner(entity_id="agent_Zx81-b")
NOBODY = "A" * 21
FROM_C = [generations.C, generations.NEWEST]


@pytest.fixture
def own(generation: Generation, credential: Credential) -> Credential:
    """Of generation B nothing is sent with LibreChat's own calls: the network is trusted, and the tool has no key."""
    return NOTHING if generation == generations.B else credential


@pytest.fixture
def backend(server: LibreChatYard, generation: Generation, own: Credential) -> Iterator[Backend]:
    opened = backends.opened(generation, server.relay.url, own)
    yield opened
    opened.client.close()


def test_the_model_reads_what_the_user_has_uploaded(backend: Backend, begin: Begin, own: Credential) -> None:
    stored = backend.upload("größe 1.csv", b"a,b\n1,2\n", MINE)
    session_id, file_id = stored["storage_session_id"], stored["files"][0]["fileId"]
    assert stored["session_id"] == session_id
    refs = [backend.reference(session_id, file_id, "größe 1.csv", MINE)]
    said = begin(own).prime(session_id, refs, "print(open('/mnt/data/größe 1.csv').read())")
    assert said.content.startswith("stdout:\na,b\n1,2")


def test_an_upload_that_the_model_edits_stays_as_it_was(backend: Backend, begin: Begin, own: Credential) -> None:
    stored = backend.upload("in.txt", b"one\n", MINE)
    session_id, file_id = stored["storage_session_id"], stored["files"][0]["fileId"]
    conversation, refs = begin(own), [backend.reference(session_id, file_id, "in.txt", MINE)]
    edited = conversation.prime(session_id, refs, "open('in.txt', 'a').write('two\\n')").files["in.txt"]
    assert edited["storage_session_id"] != session_id
    assert backend.download(session_id, file_id, MINE).content == b"one\n"
    assert backend.download(edited["storage_session_id"], edited["id"], Owner()).content == b"one\ntwo\n"
    assert conversation.run("print(open('in.txt').read())").content.startswith("stdout:\none\ntwo")


def test_librechat_fetches_what_the_model_has_made(backend: Backend, begin: Begin, own: Credential) -> None:
    made = begin(own).run("open('out.bin', 'wb').write(bytes(range(256)))").files["out.bin"]
    answer = backend.download(made["session_id"], made["id"], Owner())
    assert (answer.status_code, answer.content) == (200, bytes(range(256)))
    assert "filename*=UTF-8''out.bin" in answer.headers["content-disposition"]


def test_a_file_is_uploaded_again_only_when_it_is_gone(backend: Backend) -> None:
    stored = backend.upload("in.txt", b"1", MINE)
    session_id, file_id = stored["session_id"], stored["files"][0]["fileId"]
    assert backend.is_fresh(session_id, file_id, MINE)
    assert not backend.is_fresh(session_id, NOBODY, MINE)
    assert not backend.is_fresh(NOBODY, file_id, MINE)


@pytest.mark.parametrize("route", ["files", "sessions"])
def test_a_file_is_removed_once(backend: Backend, route: str) -> None:
    stored = backend.upload("in.txt", b"1", MINE)
    session_id, file_id = stored["session_id"], stored["files"][0]["fileId"]
    assert [backend.remove(route, session_id, file_id, MINE) for _ in range(2)] == [200, 404]
    assert backend.download(session_id, file_id, MINE).status_code == 404


@pytest.mark.parametrize("generation", [generations.B, *FROM_C], ids=["b", "c", "c-newest"], indirect=True)
def test_a_batch_keeps_its_folders_and_tells_what_was_refused(backend: Backend, begin: Begin, own: Credential) -> None:
    files = [("skill/SKILL.md", b"# Read me"), ("skill/scripts/run.py", b"print(6 * 7)"), ("../x.py", b"1")]
    stored = backend.upload_batch(files, MINE)
    told = [(file["status"], file["filename"]) for file in stored["files"]]
    assert told == [("success", "skill/SKILL.md"), ("success", "skill/scripts/run.py"), ("error", "../x.py")]
    assert (stored["message"], stored["succeeded"], stored["failed"]) == ("partial_success", 2, 1)
    session_id = stored["storage_session_id"]
    kept = [file for file in stored["files"] if file["status"] == "success"]
    refs = [backend.reference(session_id, file["fileId"], file["filename"], MINE) for file in kept]
    code = "import runpy\nrunpy.run_path('skill/scripts/run.py')"
    assert begin(own).prime(session_id, refs, code).content.startswith("stdout:\n42")


@pytest.mark.parametrize("generation", FROM_C, ids=["c", "c-newest"], indirect=True)
class TestSharedFiles:
    """Files of agents and skills, which generation C tells apart from those of a user."""

    SKILL = Owner("skill", "skill-1", 3)

    @pytest.mark.parametrize("owner", [SKILL, Owner("agent", "agent_1")], ids=["skill", "agent"])
    def test_every_user_of_the_tenant_reads_them(
        self, server: LibreChatYard, generation: Generation, begin: Begin, owner: Owner
    ) -> None:
        ours, theirs = (signed(server.token(sub=name, tenant_id="shared")) for name in ("ada", "bob"))
        stored = backends.opened(generation, server.relay.url, ours).upload_batch([("run.py", b"print(42)")], owner)
        session_id, file_id = stored["storage_session_id"], stored["files"][0]["fileId"]
        other = backends.opened(generation, server.relay.url, theirs)
        assert other.is_fresh(session_id, file_id, owner)
        said = begin(theirs).prime(
            session_id, [other.reference(session_id, file_id, "run.py", owner)], "exec(open('run.py').read())"
        )
        assert said.content.startswith("stdout:\n42")

    def test_what_is_read_only_is_never_announced_as_new(self, backend: Backend, begin: Begin, own: Credential) -> None:
        stored = backend.upload_batch([("SKILL.md", b"one")], self.SKILL, read_only="true")
        session_id, file_id = stored["storage_session_id"], stored["files"][0]["fileId"]
        refs = [backend.reference(session_id, file_id, "SKILL.md", self.SKILL)]
        said = begin(own).prime(session_id, refs, "open('SKILL.md', 'w').write('two')")
        assert "Generated files" not in said.content
        echoed = said.files["SKILL.md"]
        assert (echoed["id"], echoed["storage_session_id"], echoed["inherited"]) == (file_id, session_id, True)
        assert backend.download(session_id, file_id, self.SKILL).content == b"one"

    def test_another_version_of_a_skill_is_not_this_one(self, backend: Backend) -> None:
        stored = backend.upload_batch([("SKILL.md", b"one")], self.SKILL)
        session_id, file_id = stored["storage_session_id"], stored["files"][0]["fileId"]
        assert not backend.is_fresh(session_id, file_id, Owner("skill", "skill-1", 4))
        assert backend.download(session_id, file_id, Owner("agent", "skill-1")).status_code == 404


def test_users_do_not_see_each_other(
    server: LibreChatYard, backend: Backend, generation: Generation, begin: Begin
) -> None:
    stored = backend.upload("in.txt", b"1", MINE)
    session_id, file_id = stored["session_id"], stored["files"][0]["fileId"]
    stranger = server.credential(generation)
    if generation != generations.B:  # whose own calls are all those of one user
        assert not backends.opened(generation, server.relay.url, stranger).is_fresh(session_id, file_id, MINE)
    refs = [backend.reference(session_id, file_id, "in.txt", MINE)]
    said = begin(stranger).prime(session_id, refs, "print(open('in.txt').read())")
    assert (said.status, "stdout" in said.content) == ("error", False)
