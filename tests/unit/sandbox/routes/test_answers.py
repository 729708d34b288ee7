import msgspec
import pytest

from tests.unit.sandbox.routes.executions import ADA, FILE, SESSION, ended, stored, stream
from trainyard.sandbox.routes import answers
from trainyard.sandbox.types.domain import Executed, FileRef, Shelf, StateInfo
from trainyard.sandbox.types.orders import Dropped, Reason, Result


def state(**changed: object) -> StateInfo:
    fields = {
        "session_id": SESSION, "size_bytes": 0, "sha256": None, "created_at": None, "expires_at": 0.0,
        "is_live": False, "is_durable": True, "kept": (), "dropped": (),
    }  # fmt: skip
    return StateInfo(**{**fields, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (ended(), None),
        (ended(exit_code=1), "Sandbox exited with code 1"),
        (ended(exit_code=None, signal="SIGKILL"), "Sandbox exited with code -9"),
        (ended(exit_code=None, signal="SIG40"), "Sandbox exited with code -40"),  # a real-time signal has no name
        (ended(exit_code=None, signal="SIGNORED"), "Sandbox exited with code unknown"),
        (ended(exit_code=None), "Sandbox exited with code unknown"),
        (ended(exit_code=None, signal="SIGKILL", reason=Reason.TIMEOUT), "Time limit exceeded"),
        (ended(exit_code=None, reason=Reason.CPU), "Time limit exceeded"),
        (ended(exit_code=None, reason=Reason.MEMORY), "Out of memory"),
        (ended(exit_code=None, reason=Reason.KILLED), "Execution failed or timed out"),
        (ended(exit_code=1, reason=Reason.INTERRUPTED), "Execution interrupted"),
        (ended(reason=Reason.OUTPUT, stdout_stream=stream(9)), "stdout length exceeded"),
        (ended(reason=Reason.OUTPUT, stderr_stream=stream(9)), "stderr length exceeded"),
    ],
)
def test_why_a_run_was_no_success_in_the_sentences_that_librechat_knows(run: Executed, said: str | None) -> None:
    assert answers.fault(run) == said


@pytest.mark.parametrize(
    ("run", "stderr"),
    [
        (ended(stderr="warning"), "warning"),
        (ended(stderr="Traceback\n", exit_code=1), "Traceback\n"),  # it says by itself what happened
        (ended(exit_code=3), "Sandbox exited with code 3\n"),
        (ended(stderr=" \n", exit_code=3), " \nSandbox exited with code 3\n"),
        (ended(stderr="cut", exit_code=None, reason=Reason.TIMEOUT), "cut\nTime limit exceeded\n"),
        (ended(stderr="a\n", exit_code=None, signal="SIGABRT"), "a\nSandbox exited with code -6\n"),
    ],
)
def test_clients_that_show_stderr_alone_are_told_as_well(run: Executed, stderr: str) -> None:
    assert answers.executed(ADA, run).stderr == stderr


def test_inherited_files_are_marked_and_no_others() -> None:
    run = ended(files=(stored("new.txt"),), inherited=(stored("old.txt", Shelf(kind="agent", resource_id="a1")),))
    first, second = (msgspec.to_builtins(file) for file in answers.executed(ADA, run).files)
    assert first == {
        "id": FILE, "name": "new.txt", "path": "new.txt", "session_id": SESSION, "storage_session_id": SESSION,
        "resource_id": "ada", "kind": "user", "size": 3, "content_type": "text/plain", "sha256": "0" * 64,
    }  # fmt: skip
    assert (second["inherited"], second["kind"], second["resource_id"]) == (True, "agent", "a1")


@pytest.mark.parametrize(
    ("shelf", "version"),
    [(Shelf(kind="skill", resource_id="s1", version="3"), {"version": 3}), (None, {})],
)
def test_an_inherited_file_has_the_ids_by_which_it_was_asked_for(shelf: Shelf | None, version: dict[str, int]) -> None:
    ref = FileRef(session_id="S" * 21, file_id="F" * 21, name="old.txt", shelf=shelf)
    run = ended(files=(stored("new.txt"),), inherited=(stored("old.txt"), stored("older.txt")))
    new, old, older = (msgspec.to_builtins(file) for file in answers.executed(ADA, run, refs=[ref]).files)
    assert (old["id"], old["session_id"], old["storage_session_id"]) == ("F" * 21, "S" * 21, "S" * 21)
    expected = ("skill", "s1") if shelf else ("user", "ada")
    assert (old["kind"], old["resource_id"], {"version": old["version"]} if "version" in old else {}) == (
        *expected,
        version,
    )
    assert new["id"] == older["id"] == FILE


def test_inputs_are_left_out_for_clients_that_would_take_them_for_new_files() -> None:
    run = ended(files=(stored("new.txt"),), inherited=(stored("old.txt"),))
    assert [file.name for file in answers.executed(ADA, run, echoes=False).files] == ["new.txt"]


@pytest.mark.parametrize(
    ("files", "failed", "delivery"),
    [
        ((), {}, None),
        ((stored(),), {}, None),
        ((stored(),), {"b": "too large", "c": "no"}, ("partial", 3, 1, 2)),
        ((), {"b": "too large"}, ("failed", 1, 0, 1)),
    ],
)
def test_files_that_could_not_be_kept_are_told_in_numbers_that_agree(
    files: tuple[object, ...], failed: dict[str, str], delivery: tuple[str, int, int, int] | None
) -> None:
    told = answers.executed(ADA, ended(files=files, failed_files=failed)).artifact_delivery
    if delivery is None:
        assert told is None
        return
    assert told is not None
    assert (told.status, told.attempted, told.delivered, told.failed) == delivery
    assert (told.code, told.failures) == ("artifact_delivery_failed", failed)


@pytest.mark.parametrize(
    ("known", "has_state", "size", "digest"),
    [
        (None, False, 0, None),
        (state(), False, 0, None),
        (state(is_live=True), True, 0, None),
        (state(sha256="a" * 64, size_bytes=7), True, 7, "a" * 64),
    ],
)
def test_what_is_told_of_the_state(known: StateInfo | None, has_state: bool, size: int, digest: str | None) -> None:
    told = answers.executed(ADA, ended(state=known))
    assert (told.has_state, told.state_size, told.state_hash) == (has_state, size, digest)


def test_what_came_back_and_what_was_lost_is_named() -> None:
    told = answers.executed(ADA, ended(restored=("x",), lost=(Dropped(name="f", reason="a socket"),)))
    assert told.restored == ["x"]
    assert [(one.name, one.reason) for one in told.lost] == [("f", "a socket")]


def test_values_have_the_shape_of_a_notebooks_output() -> None:
    value = Result(kind="display_data", data={"image/png": "iVBO"}, file="figure-1.png")
    assert msgspec.to_builtins(answers.output(value)) == {
        "output_type": "display_data",
        "data": {"image/png": "iVBO"},
        "metadata": {},
        "file": "figure-1.png",
    }


@pytest.mark.parametrize(
    ("version", "written"), [(None, None), ("3", 3), ("v3", "v3"), ("٣", "٣"), ("9" * 30, "9" * 30)]
)
def test_the_version_of_a_skill_is_a_number_where_it_is_one(version: str | None, written: int | str | None) -> None:
    assert answers.version(Shelf(kind="skill", resource_id="s", version=version)) == written


def test_times_are_written_as_javascript_writes_them() -> None:
    assert answers.moment(1_700_000_000.5) == "2023-11-14T22:13:20.500Z"
