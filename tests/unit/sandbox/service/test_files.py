"""Files of sessions: uploads, references, what runs make of them."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.unit.sandbox.service.conftest import ADMIN, ANNA, BERT, CARL, Make, Server, uploads
from trainyard.core import errors
from trainyard.core.principal import Principal
from trainyard.core.settings import SandboxLimits
from trainyard.sandbox.types.domain import Executed, FileRef, Shelf, StoredFile, Upload


def _by_path(files: tuple[StoredFile, ...] | list[StoredFile]) -> dict[str, StoredFile]:
    return {file.path: file for file in files}


async def _listed(server: Server, session: str, who: Principal = ANNA) -> list[str]:
    return sorted(file.path for file in await server.service.list_files(who, session))


async def test_a_run_hands_back_the_files_that_it_wrote(server: Server) -> None:
    done = await server.run("import os\nos.makedirs('a/b')\nopen('a/b/ü x.txt', 'w').write('grüße')\nopen('n.csv','w')")
    files = _by_path(done.files)
    assert sorted(files) == ["a/b/ü x.txt", "n.csv"]
    assert (files["a/b/ü x.txt"].size_bytes, files["a/b/ü x.txt"].is_input) == (7, False)
    assert files["n.csv"].content_type == "text/csv"
    assert await server.read(done.session_id, files["a/b/ü x.txt"].id) == "grüße".encode()
    assert await _listed(server, done.session_id) == ["a/b/ü x.txt", "n.csv"]


async def test_a_changed_file_keeps_its_id(server: Server) -> None:
    first = await server.run("open('a.txt', 'w').write('1')")
    second = await server.run("open('a.txt', 'a').write('2')", session_id=first.session_id)
    assert second.files[0].id == first.files[0].id
    assert second.files[0].sha256 != first.files[0].sha256
    assert await server.read(first.session_id, first.files[0].id) == b"12"


async def test_a_deleted_file_is_told_and_gone(server: Server) -> None:
    first = await server.run("open('a.txt', 'w').write('1')")
    second = await server.run("import os; os.remove('a.txt')", session_id=first.session_id)
    assert [file.id for file in second.deleted] == [first.files[0].id]
    assert await _listed(server, first.session_id) == []


async def test_a_failed_run_registers_nothing_and_the_next_success_does(server: Server) -> None:
    failed = await server.run("x = 1\nopen('a.txt', 'w').write('1')\n1/0")
    assert failed.files == ()
    assert await _listed(server, failed.session_id) == []
    done = await server.run("x", session_id=failed.session_id)
    assert [file.path for file in done.files] == ["a.txt"]
    assert await server.read(failed.session_id, done.files[0].id) == b"1"


async def test_what_a_failed_run_left_outlives_its_box(make: Make) -> None:
    server = make()
    await server.service.start()
    failed = await server.run("x = 1\nopen('a.txt', 'w').write('1')\n1/0")
    await server.service.aclose()
    other = make()
    await other.service.start()
    assert await _listed(other, failed.session_id) == []
    done = await other.run("print(open('a.txt').read(), x)", session_id=failed.session_id)
    assert (done.stdout, [file.path for file in done.files]) == ("1 1\n", ["a.txt"])


async def test_an_uploaded_file_is_an_input_of_its_session(server: Server) -> None:
    session, ids = await server.upload(data_csv="a,b\n")
    done = await server.run("print(open('data.csv').read())", session_id=session)
    assert done.stdout == "a,b\n\n"
    assert [(file.id, file.is_input) for file in done.inherited] == [(ids["data.csv"], True)]
    assert done.files == ()


async def test_an_upload_into_a_live_session_is_seen_by_the_next_run(server: Server) -> None:
    first = await server.run("x = 1")
    await server.service.upload(ANNA, uploads({"d/new.txt": "new"}), session_id=first.session_id)
    done = await server.run("print(x, open('d/new.txt').read())", session_id=first.session_id)
    assert done.stdout == "1 new\n"
    await server.service.delete_file(ANNA, first.session_id, done.inherited[0].id)
    gone = await server.run("import os; print(x, os.path.exists('d/new.txt'))", session_id=first.session_id)
    assert (gone.stdout, gone.deleted) == ("1 False\n", ())


async def test_a_file_of_another_session_is_taken_over_and_its_origin_stays_as_it_is(server: Server) -> None:
    session, ids = await server.upload(data_csv="old")
    ref = FileRef(session_id=session, file_id=ids["data.csv"], name="in/sales 1.csv")
    done = await server.run("open('in/sales 1.csv', 'w').write('new')", files=(ref,))
    assert [(file.path, file.is_input) for file in done.files] == [("in/sales 1.csv", False)]
    assert done.files[0].id != ids["data.csv"]
    assert await server.read(done.session_id, done.files[0].id) == b"new"
    assert await server.read(session, ids["data.csv"]) == b"old"


async def test_the_same_reference_again_does_not_undo_an_edit(server: Server) -> None:
    session, ids = await server.upload(data_csv="old")
    ref = FileRef(session_id=session, file_id=ids["data.csv"])
    first = await server.run("open('data.csv', 'w').write('new')", files=(ref,))
    again = await server.run("print(open('data.csv').read())", files=(ref,), session_id=first.session_id)
    assert again.stdout == "new\n"


async def test_a_reference_to_nothing_is_an_error_that_names_it(server: Server) -> None:
    session, ids = await server.upload(data_csv="x")
    for ref in (
        FileRef(session_id=session, file_id="B" * 21, name="lost.csv"),
        FileRef(session_id="C" * 21, file_id=ids["data.csv"], name="lost.csv"),
    ):
        with pytest.raises(errors.NotFound, match=r"lost\.csv") as caught:
            await server.run("1", files=(ref,))
        assert caught.value.code == "file_not_found"


@pytest.mark.parametrize("who", [BERT, CARL])
async def test_a_strangers_files_are_not_there(server: Server, who: Principal) -> None:
    session, ids = await server.upload(data_csv="x")
    file_id = ids["data.csv"]
    calls: dict[str, list[Callable[[str, str], Awaitable[object]]]] = {
        "file_not_found": [
            lambda s, f: server.service.open_file(who, s, f),
            lambda s, f: server.run("1", who, files=(FileRef(session_id=s, file_id=f, name="n"),)),
        ],
        "session_not_found": [
            lambda s, f: server.service.list_files(who, s),
            lambda s, f: server.service.delete_file(who, s, f),
            lambda s, f: server.service.upload(who, uploads({"a": "b"}), session_id=s),
        ],
    }
    for code, several in calls.items():
        for call in several:
            with pytest.raises(errors.NotFound) as foreign:
                await call(session, file_id)
            with pytest.raises(errors.NotFound) as unknown:
                await call("Z" * 21, file_id)
            assert foreign.value.code == unknown.value.code == code
            assert foreign.value.message.replace(session, "Z" * 21) == unknown.value.message
    assert await server.read(session, file_id) == b"x"


async def test_files_of_an_agent_are_read_by_all_who_name_it_and_written_by_who_uploaded_them(server: Server) -> None:
    shelf = Shelf(kind="skill", resource_id="s1", version="2")
    session, done = await server.service.upload(ANNA, uploads({"tool/run.py": "print(1)"}), shelf=shelf)
    file = done[0].file
    assert file is not None
    for who in (ANNA, BERT):
        found, _ = await server.service.open_file(who, session, file.id, shelf)
        assert found.shelf == shelf
        ref = FileRef(session_id=session, file_id=file.id, shelf=shelf)
        assert (await server.run("print(open('tool/run.py').read())", who, files=(ref,))).stdout == "print(1)\n"
    for who, named in (
        (BERT, None),
        (BERT, Shelf()),
        (BERT, Shelf(kind="skill", resource_id="s1", version="1")),
        (BERT, Shelf(kind="agent", resource_id="s1", version="2")),
        (CARL, shelf),
    ):
        with pytest.raises(errors.NotFound):
            await server.service.open_file(who, session, file.id, named)
    with pytest.raises(errors.NotFound):
        await server.service.delete_file(BERT, session, file.id, shelf)
    with pytest.raises(errors.Conflict, match="runs nothing"):
        await server.run("1", session_id=session)


async def test_a_session_of_ones_own_name_is_continued_and_is_nobody_elses(server: Server) -> None:
    session, _ = await server.service.upload(ANNA, uploads({"a.txt": "1"}), entity_id="asst_1")
    mine = await server.run("x = 5; print(open('a.txt').read())", entity_id="asst_1")
    assert (mine.session_id, mine.stdout) == (session, "1\n")
    assert (await server.run("print(x)", entity_id="asst_1")).stdout == "5\n"
    for who in (BERT, CARL):
        other = await server.run("print('x' in globals())", who, entity_id="asst_1")
        assert other.session_id != session
        assert other.stdout == "False\n"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("", "empty part"),
        ("/etc/passwd", "absolute"),
        ("../x", "leads out"),
        ("a/../../x", "leads out"),
        ("a//b", "empty part"),
        ("./a", "empty part"),
        ("a/", "empty part"),
        ("a\0b", "NUL"),
        ("\udcff", "not Unicode"),
        ("ü" * 128, "256 bytes of 255"),
        ("a/" * 2048 + "b", "4097 bytes of 4096"),
    ],
)
async def test_a_name_that_is_none_is_refused(server: Server, path: str, why: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=why) as caught:
        await server.service.upload(ANNA, uploads({path: "x"}))
    assert caught.value.code == "invalid_file_name"


@pytest.mark.parametrize(
    "path",
    ["ü" * 127, "..a", "a b.txt", "🎉/日本語.csv", "a\nb", "CON", "-rf", "a\\b", ("d" * 255 + "/") * 15 + "x" * 255],
)
async def test_any_other_name_goes_into_the_workspace_and_back(server: Server, path: str) -> None:
    session, _ = await server.service.upload(ANNA, uploads({path: "x"}))
    ran = await server.run("import sys; print(open(sys.argv[1]).read())", session_id=session, args=(path,))
    assert (ran.stdout, ran.stderr) == ("x\n", "")


async def test_two_names_that_cannot_both_be_are_refused(server: Server) -> None:
    session, _ = await server.upload(a="x")
    for path in ("a/b", "a/b/c"):
        with pytest.raises(errors.InvalidRequest, match="a file and a folder"):
            await server.service.upload(ANNA, uploads({path: "x"}), session_id=session)
    with pytest.raises(errors.InvalidRequest, match="a file and a folder"):
        await server.service.upload(ANNA, uploads({"d/e": "x", "d": "y"}))


async def test_an_upload_of_a_name_that_is_there_replaces_the_content(server: Server) -> None:
    session, ids = await server.upload(a_txt="old")
    _, done = await server.service.upload(ANNA, uploads({"a.txt": "new"}), session_id=session)
    assert done[0].file is not None
    assert done[0].file.id == ids["a.txt"]
    assert await server.read(session, ids["a.txt"]) == b"new"


async def test_of_an_upload_all_or_nothing_is_stored(server: Server) -> None:
    with pytest.raises(errors.InvalidRequest):
        await server.service.upload(ANNA, uploads({"good": "x" * 100, "../bad": "y"}))
    await server.service.gc(stray_s=0)
    assert [blob async for blob in server.blobs.stored(min_age_s=0)] == []
    assert await server.service.list_sessions(ANNA) == []


async def test_of_a_batch_what_is_good_is_stored(server: Server) -> None:
    session, done = await server.service.upload(
        ANNA, uploads({"good": "x", "../bad": "y", "also good": "z"}), one_by_one=True
    )
    assert session is not None
    assert [(one.path, one.file is not None) for one in done] == [
        ("good", True),
        ("../bad", False),
        ("also good", True),
    ]
    assert isinstance(done[1].error, errors.InvalidRequest)
    assert await _listed(server, session) == ["also good", "good"]
    nothing, failed = await server.service.upload(ANNA, uploads({"../bad": "y"}), one_by_one=True)
    assert nothing is None
    assert failed[0].error is not None


LIMITS = SandboxLimits(file_bytes=2000, files_per_request=3, stored_bytes=1 << 20, output_files=2)


async def test_limits_of_uploads_hold_while_they_come(make: Make) -> None:
    server = make(limits=LIMITS)
    with pytest.raises(errors.TooLarge, match="2000 bytes") as large:
        await server.service.upload(ANNA, uploads({"a": "x" * 2001}))
    assert large.value.code == "file_too_large"
    with pytest.raises(errors.TooLarge, match="3 files") as many:
        await server.service.upload(ANNA, uploads({str(n): "x" for n in range(4)}))
    assert many.value.code == "too_many_files"
    with pytest.raises(errors.InvalidRequest) as none:
        await server.service.upload(ANNA, uploads({}))
    assert none.value.code == "no_files"


async def test_a_tenant_stores_what_it_may_and_no_byte_more(make: Make) -> None:
    server = make(limits=LIMITS.model_copy(update={"file_bytes": 1 << 20}))
    half = 1 << 19
    session, _ = await server.service.upload(ANNA, uploads({"a": "a" * half}))
    await server.service.upload(BERT, uploads({"same": "a" * half}))  # a content is paid for once
    await server.service.upload(BERT, uploads({"b": "b" * (half - 1)}))
    with pytest.raises(errors.QuotaExhausted, match="1048575 of 1048576 bytes") as full:
        await server.service.upload(ANNA, uploads({"c": "cc"}))
    assert full.value.code == "storage_full"
    await server.service.upload(ANNA, uploads({"c": "c"}))
    await server.service.upload(CARL, uploads({"c": "c" * half}))  # of another tenant
    with pytest.raises(errors.QuotaExhausted, match="take all"):
        await server.service.upload(ANNA, uploads({"d": "d"}))
    file = (await server.service.list_files(ANNA, session))[0]
    await server.service.delete_file(ANNA, session, file.id)
    with pytest.raises(errors.QuotaExhausted):
        await server.service.upload(ANNA, uploads({"d": "d"}))  # the other user's name for it is still there


async def test_outputs_beyond_the_limit_are_named_and_not_kept(make: Make) -> None:
    server = make(limits=LIMITS)
    await server.service.start()
    done = await server.run("for n in range(3): open(f'{n}.txt', 'w').write('x')\nopen('0.txt', 'w').write('y' * 2001)")
    assert [file.path for file in done.files] == ["1.txt"]
    assert sorted(done.failed_files) == ["0.txt", "2.txt"]
    assert "2000 bytes" in done.failed_files["0.txt"]
    assert "2 files" in done.failed_files["2.txt"]


async def test_a_read_only_file_is_as_it_was_for_every_run(server: Server) -> None:
    async def files() -> AsyncIterator[Upload]:
        async for upload in uploads({"a.txt": "stored"}):
            yield Upload(path=upload.path, content=upload.content, is_read_only=True)

    session, _ = await server.service.upload(ANNA, files())
    edit = "import os; x = 1; os.chmod('a.txt', 0o600); open('a.txt', 'w').write('edited')"
    first = await server.run(edit, session_id=session)
    assert (first.exit_code, first.files) == (0, ())
    second = await server.run("print(x, open('a.txt').read()); os.remove('a.txt')", session_id=session)
    assert (second.stdout, second.deleted) == ("1 stored\n", ())
    assert (await server.run("print(open('a.txt').read())", session_id=session)).stdout == "stored\n"


async def test_an_output_that_was_cut_is_a_file_in_whole(make: Make) -> None:
    server = make(limits=SandboxLimits(output_bytes=1024))
    await server.service.start()
    done: Executed = await server.run("print('a' * 2000 + 'b' * 2000)")
    assert done.stdout_stream.total_bytes == 4001
    assert "left out" in done.stdout
    assert len(done.logs) == 1
    assert await server.read(done.session_id, done.logs[0].id) == b"a" * 2000 + b"b" * 2000 + b"\n"
    assert (await server.run("import os; print(os.listdir())", session_id=done.session_id)).stdout == "[]\n"


async def test_only_an_administrator_sees_the_sessions_of_others(server: Server) -> None:
    await server.upload(a="1")
    assert len(await server.service.list_sessions(ANNA)) == 1
    assert await server.service.list_sessions(BERT) == []
    assert len(await server.service.list_sessions(ADMIN, everyone=True)) == 1
    with pytest.raises(errors.Forbidden):
        await server.service.list_sessions(BERT, everyone=True)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("data:text/html,x", "application/octet-stream"),
        ("data:text/html\r\nSet-Cookie: a,x", "application/octet-stream"),
        ("data:image/svg+xml,x.csv", "text/csv"),
        ("folder/page.html", "text/html"),
    ],
)
async def test_a_name_that_looks_like_a_url_does_not_choose_its_type(server: Server, path: str, kind: str) -> None:
    write = f"import os\npath = {path!r}\nos.makedirs(os.path.dirname(path), exist_ok=True)\nopen(path, 'w').close()"
    done = await server.run(write)
    _, uploaded = await server.service.upload(ANNA, uploads({path: "x"}))
    assert [file.content_type for file in done.files] == [kind]
    assert [one.file.content_type for one in uploaded if one.file is not None] == [kind]


async def test_files_with_holes_are_no_way_to_fill_the_disk(make: Make) -> None:
    server = make(limits=SandboxLimits(workspace_bytes=1 << 20))
    await server.service.start()
    done = await server.run("for n in range(4):\n    open(f'{n}.bin', 'w').truncate(700_000 + n)")
    assert len(done.files) == 1
    assert set(done.failed_files.values()) == {"the files of one run may have 1048576 bytes together"}
    assert len(done.failed_files) == 3


async def test_outputs_and_states_for_which_there_is_no_room_do_not_stay_on_the_disk(make: Make) -> None:
    server = make(limits=SandboxLimits(stored_bytes=1 << 20))
    await server.service.start()
    done = await server.run("import os\nx = os.urandom(2 << 20)\nopen('a.bin', 'wb').write(x)")
    assert "do not fit" in done.failed_files["a.bin"]
    assert (await server.service.state_info(ANNA, done.session_id)).sha256 is None
    await server.service.aclose()
    assert [blob async for blob in server.blobs.stored(min_age_s=0)] == []
