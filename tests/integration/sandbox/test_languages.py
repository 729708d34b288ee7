"""The 13 languages in boxes of this machine, through a server: arguments, input, both streams, exit codes, faults."""

from collections.abc import Iterator

import pytest

from tests.contract.sandbox.languages.sources import FAULTY, GOOD
from tests.integration.sandbox.machine import serving
from tests.services.require import missing
from trainyard import Client

LANGUAGES = ("py", "js", "ts", "go", "java", "c", "cpp", "php", "rs", "r", "f90", "d", "bash")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with (
        serving("local", tmp_path_factory.mktemp("languages")) as server,
        Client(server.key, server.url, timeout_s=120) as opened,
    ):
        yield opened


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest, client: Client) -> str:
    there = {str(each["code"]) for each in client.sandbox.languages()}
    if request.param not in there:
        missing(f"the language {request.param}", "the packages that docs/sandbox.md lists")
    return str(request.param)


def test_every_language_has_a_program_here() -> None:
    assert set(LANGUAGES) == GOOD.keys() == FAULTY.keys()


def test_a_program_talks_and_tells_its_exit_code(client: Client, language: str) -> None:
    session = client.sandbox.session()
    done = session.run(GOOD[language], language=language, args=["one", "two words"], stdin="said\n")

    assert (done.stdout, done.stderr) == ("one|two words said\n", "aside\n")
    assert (done.exit_code, done.signal, done.reason) == (3, None, None)
    assert (done.files, done.deleted_files) == ([], [])
    session.delete()


def test_one_that_is_no_program_is_told_so_and_not_run(client: Client, language: str) -> None:
    code, says = FAULTY[language]

    session = client.sandbox.session()
    done = session.run(code, language=language)

    assert says in done.stderr
    assert done.stdout == ""
    assert done.exit_code not in (0, None)
    session.delete()
