"""LibreChat's published client runs code: what its tools tell the model, generation by generation."""

import re

import pytest

from tests.integration.sandbox.librechat import generations
from tests.integration.sandbox.librechat.chat import Chat
from tests.integration.sandbox.librechat.conftest import Begin
from tests.integration.sandbox.librechat.generations import Generation

pytestmark = pytest.mark.timeout(600)  # the first use of a version installs it

has_shell = pytest.mark.parametrize(
    "generation", generations.ALL[1:], ids=lambda generation: generation.name, indirect=True
)

EMPTY = "stdout: Empty. Ensure you're writing output explicitly."
SUMMARY = "Session files: 1 persisted file(s) are available in /mnt/data, including {} image(s)."
LISTED = {
    "a": "Generated files:\n- /mnt/data/{} | {}",
    "b": "Generated files:\n- /mnt/data/{} | {}",
    "c": f"Generated files:\n{SUMMARY}",
    "c-newest": f"Generated files:\n{SUMMARY}",
}


def test_output_reaches_the_model(begin: Begin) -> None:
    said = begin().run("print('grüße')\nimport sys\nprint('beside', file=sys.stderr)")
    assert (said.status, said.content) == ("success", "stdout:\ngrüße\n\nstderr:\nbeside")


def test_no_output_is_told_so(begin: Begin) -> None:
    assert begin().run("x = 1").content == EMPTY


def test_arguments_reach_the_code(begin: Begin) -> None:
    said = begin().run("import sys\nprint(sys.argv[1:])", args=["a b", "ü"])
    assert said.content == "stdout:\n['a b', 'ü']"


@pytest.mark.parametrize(
    ("name", "kind", "images"),
    [
        ("a.csv", "File is already downloaded by the user", 0),
        ("plot.png", "Image is already displayed to the user", 1),
    ],
)
def test_files_are_announced(begin: Begin, generation: Generation, name: str, kind: str, images: int) -> None:
    said = begin().run(f"open({name!r}, 'w').write('1')")
    told = LISTED[generation.name]
    assert (told.format(name, kind) if "|" in told else told.format(images)) in said.content
    assert said.files.keys() == {name}


def test_the_next_call_reads_what_the_last_one_wrote(begin: Begin) -> None:
    conversation = begin()
    conversation.run("import os\nos.makedirs('data')\nopen('data/größe.txt', 'w').write('42')")
    assert conversation.run("print(open('/mnt/data/data/größe.txt').read())").content.startswith("stdout:\n42")


def test_a_file_is_edited_in_place(begin: Begin) -> None:
    conversation = begin()
    conversation.run("open('notes.txt', 'w').write('one\\n')\nopen('other.txt', 'w').write('1')")
    edited = conversation.run("open('notes.txt', 'a').write('two\\n')\nprint('done')")
    assert edited.files["notes.txt"].get("inherited") is None
    assert conversation.run("print(open('notes.txt').read())").content.startswith("stdout:\none\ntwo")


def test_a_file_of_the_first_call_is_there_in_the_third(begin: Begin) -> None:
    conversation = begin()
    conversation.run("open('first.txt', 'w').write('1')")
    conversation.run("open('second.txt', 'w').write('2')")
    said = conversation.run("print(open('first.txt').read() + open('second.txt').read())")
    assert said.content.startswith("stdout:\n12")


def test_an_error_in_the_code_is_shown_and_nothing_of_the_call_is_kept(begin: Begin) -> None:
    conversation = begin()
    failed = conversation.run("open('half.txt', 'w').write('1')\nprint('before')\nraise ValueError('no')")
    assert failed.status == "success"
    assert re.fullmatch(r"stdout:\nbefore\n\nstderr:\nTraceback .*\nValueError: no", failed.content, re.DOTALL), (
        failed.content
    )
    assert failed.files == {}
    after = conversation.run("import os\nprint(os.path.exists('half.txt'))")
    assert after.content == "stdout:\nFalse"


def test_a_call_that_takes_too_long_is_ended_and_said_so(begin: Begin) -> None:
    said = begin().run("print('begun', flush=True)\nwhile True: pass")
    assert said.status == "success"
    assert said.content.startswith("stdout:\nbegun\n\nstderr:\n")
    assert said.content.endswith("\nTime limit exceeded")


REFUSED = {
    "a": "Execution error:\n\nHTTP error! status: 400",
    "b": "Error: Execution error:\n\nHTTP error! status: 400\n Please fix your mistakes.",
    "c-newest": "Error: Execution error:\n\nThe code execution request was rejected. Please check the tool input and "
    "try again.\n Please fix your mistakes.",
}


def test_a_language_that_is_not_here_is_refused(begin: Begin, generation: Generation) -> None:
    said = begin(lang="cobol").run("x")  # the parameters of a tool go over the arguments of the model
    assert said.status == "error"
    if generation == generations.C:
        assert "returned 400, body: {" in said.content
        assert "the language 'cobol' is not supported; choose one of: " in said.content
    else:
        assert said.content == REFUSED[generation.name]


def test_a_host_that_names_the_session_finds_the_variables(begin: Begin) -> None:
    first = begin().run("x = 6")
    assert first.artifact is not None
    said = begin(session_id=first.artifact["session_id"]).run("print(x * 7)")
    assert said.content == "stdout:\n42"


@has_shell
def test_the_shell_and_python_share_their_files(begin: Begin) -> None:
    conversation = begin()
    command = "mkdir -p src && cat > src/twice.py <<'END'\nimport sys\nprint(int(sys.argv[1]) * 2)\nEND"
    conversation.bash(command)
    assert conversation.bash("python3 src/twice.py 21").content.startswith("stdout:\n42")
    assert conversation.run("print(open('src/twice.py').read())").content.startswith("stdout:\nimport sys\n")
    assert conversation.bash('echo "$1-$2"', args=["a", "b c"]).content.startswith("stdout:\na-b c")


@has_shell
def test_the_shell_fails_as_code_does(begin: Begin) -> None:
    said = begin().bash("echo out; cat missing; exit 3")
    assert said.content == "stdout:\nout\n\nstderr:\ncat: missing: No such file or directory"


@pytest.mark.parametrize("generation", [generations.NEWEST], ids=["c-newest"], indirect=True)
class TestTheNewest:
    """What the versions before do not ask for."""

    def test_a_runtime_is_kept_for_the_hint_that_names_it(self, begin: Begin, chat: Chat) -> None:
        stateful = {"statefulSessions": True, "executionProfile": "stateful", "runtimeSessionHint": "thread: ünï/1"}
        calls = [begin(**stateful).run(code).artifact for code in ("x = 1", "print(x)")]
        assert [call and call["runtime_status"] for call in calls] == ["new", "reused"]
        assert len({call["runtime_session_id"] for call in calls if call}) == 1

    def test_the_default_profile_has_no_runtime_that_is_kept(self, begin: Begin) -> None:
        stateless = {"statefulSessions": True, "executionProfile": "default", "runtimeSessionHint": "thread-2"}
        calls = [begin(**stateless).run("print(1)").artifact for _ in range(2)]
        assert [call and call["runtime_status"] for call in calls] == ["new", "new"]

    def test_another_profile_is_told_to_be_no_use_here(self, begin: Begin) -> None:
        said = begin(executionProfile="gpu").run("print(1)")
        told = "Code execution is not supported by the selected environment. The selected environment does not provide "
        assert told + "the requested execution profile." in said.content

    def test_a_deleted_file_is_forgotten(self, begin: Begin) -> None:
        conversation = begin()
        conversation.run("open('a.txt', 'w').write('1')\nopen('b.txt', 'w').write('2')")
        gone = conversation.run("import os\nos.remove('a.txt')\nprint('gone')")
        assert gone.artifact is not None
        assert gone.artifact["deleted_files"] == ["a.txt"]
        assert conversation.run("import os\nprint(sorted(os.listdir()))").content.startswith("stdout:\n['b.txt']")
