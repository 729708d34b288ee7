"""Running code in sessions."""

import re

import pytest

from tests.services import require
from tests.unit.sandbox.service.conftest import ANNA, BERT, CARL, Make, Server, uploads
from trainyard.core import errors
from trainyard.sandbox.languages import Reach


async def test_code_runs_and_its_session_has_a_name_that_clients_take(server: Server) -> None:
    done = await server.run("print('hello'); import sys; print('oh', file=sys.stderr)")
    assert (done.stdout, done.stderr, done.exit_code, done.reason) == ("hello\n", "oh\n", 0, None)
    assert re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]{19}[A-Za-z0-9]", done.session_id)
    assert done.is_new_runtime
    assert done.files == done.inherited == done.deleted == ()


async def test_variables_stay_for_the_next_run_of_the_session(server: Server) -> None:
    first = await server.run("x = 42")
    second = await server.run("print(x)", session_id=first.session_id)
    assert second.stdout == "42\n"
    assert second.session_id == first.session_id
    assert not second.is_new_runtime


async def test_code_that_fails_is_a_result(server: Server) -> None:
    done = await server.run("1 / 0")
    assert done.exit_code == 1
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("who", [BERT, CARL])
async def test_a_stranger_finds_no_session(server: Server, who: object) -> None:
    mine = await server.run("x = 1")
    with pytest.raises(errors.NotFound) as foreign:
        await server.run("print(x)", who, session_id=mine.session_id)  # type: ignore[arg-type]
    with pytest.raises(errors.NotFound) as unknown:
        await server.run("print(x)", who, session_id="A" * 21)  # type: ignore[arg-type]
    assert (foreign.value.code, foreign.value.message) == (unknown.value.code, unknown.value.message)
    assert foreign.value.code == "session_not_found"


async def test_a_run_is_charged_with_its_work(server: Server) -> None:
    await server.run("print('x' * 10)")
    (charge,) = server.meter.settled
    assert (charge.job.route, charge.job.model) == ("/exec", "sandbox/py")
    assert charge.used is not None
    assert charge.used.work is not None
    assert (charge.used.work.bytes_in, charge.used.work.bytes_out) == (15, 11)
    assert charge.used.work.cpu_s > 0
    assert charge.principal is ANNA


_INCLUDING = '#include <stdio.h>\n#include <value.h>\nint main() { printf("%d\\n", VALUE); }'


@pytest.fixture
async def compiling(make: Make) -> Server:
    server = make(reach=Reach())
    await server.service.start()
    if "c" not in {language.code for language in server.service.languages()}:
        require.missing("gcc", "apt-get install gcc libc6-dev")
    return server


async def _compiled(server: Server, session: str) -> str:
    done = await server.run(_INCLUDING, language="c", session_id=session, env={"CPATH": "."})
    return done.stdout


async def test_a_program_is_compiled_again_when_a_file_that_it_includes_has_changed(compiling: Server) -> None:
    session, _ = await compiling.upload(value_h="#define VALUE 1")
    said = []
    for value in (1, 1, 2):
        await compiling.service.upload(ANNA, uploads({"value.h": f"#define VALUE {value}"}), session_id=session)
        said.append(await _compiled(compiling, session))
    assert said == ["1\n", "1\n", "2\n"]


async def test_a_program_is_compiled_again_where_code_that_failed_has_changed_what_it_includes(
    compiling: Server,
) -> None:
    session, _ = await compiling.upload(value_h="#define VALUE 1")
    await compiling.service.upload(ANNA, uploads({"value.h": "#define VALUE 1"}), session_id=session)
    assert await _compiled(compiling, session) == "1\n"
    change = "open('value.h', 'w').write('#define VALUE 2')\nimport os\nos._exit(3)"
    assert (await compiling.run(change, session_id=session)).exit_code == 3
    assert await _compiled(compiling, session) == "2\n"
