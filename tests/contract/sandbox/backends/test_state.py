"""What a live interpreter keeps, what of it can be written down, and when there is nothing to keep."""

import asyncio

import pytest

from tests.contract.sandbox.backends.orders import put, read, run, shell
from trainyard.core import errors
from trainyard.sandbox.backends.base import Backend, Box
from trainyard.sandbox.types.orders import Order

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_what_is_defined_is_there_in_the_next_run(box: Box) -> None:
    await run(box, "import math\nx = [1]\ndef area(r): return math.pi * r * r\nclass A: y = 2")

    assert (await run(box, "x.append(A.y)\nprint(x, round(area(1), 2))")).stdout == b"[1, 2] 3.14\n"


async def test_what_was_defined_before_an_exception_is_kept(box: Box) -> None:
    await run(box, "x = 1\nraise ValueError")

    assert (await run(box, "print(x)")).stdout == b"1\n"


@pytest.mark.parametrize(
    "code",
    [
        "print(1)",
        "1 + 1",
        "print(sum(i * i for i in range(10)))",
        "1/0",
        "input()",
        "open('a', 'w').write('x') and None",
        "(",
        "",
        "raise SystemExit(2)",
    ],
)
async def test_code_that_leaves_nothing_in_the_interpreter_leaves_it_fresh(box: Box, code: str) -> None:
    report = (await run(box, code)).report

    assert report.is_fresh
    assert report.variables == 0


@pytest.mark.parametrize(
    "code",
    [
        "x = 1",
        "import math",
        "def f(): pass",
        "__import__('random').seed(1)",
        "import random\nrandom.seed(1)\ndel random",
        "eval('__import__(\"random\").seed(1)')",
        "print.__self__.__dict__['y'] = 1",
        "import os\nos.environ['A'] = '1'\ndel os",
        "import threading as t, time\nt.Thread(target=time.sleep, args=(60,), daemon=True).start()\ndel t, time",
        "(x := 5)",
        "for i in range(2): pass",
    ],
)
async def test_code_that_leaves_something_or_may_have_is_not_fresh(box: Box, code: str) -> None:
    assert not (await run(box, code)).report.is_fresh
    assert not (await run(box, "print(1)")).report.is_fresh
    assert not (await shell(box, "true")).report.is_fresh


async def test_a_program_leaves_the_interpreter_as_it_was(box: Box) -> None:
    assert (await shell(box, "echo 1")).report.is_fresh
    await run(box, "x = 1")
    await shell(box, "echo 1")

    kept = await run(box, "print(x)")

    assert (kept.stdout, kept.report.was_reset, kept.report.variables) == (b"1\n", False, 1)


_SLOW = "import time\nclass Slow:\n    def __reduce__(self): time.sleep(1); return int, (1,)\nslow = Slow()"


async def test_a_question_that_nobody_waits_for_any_more_holds_the_next_order_up_and_refuses_none(box: Box) -> None:
    await run(box, _SLOW)
    asking = asyncio.create_task(box.dump(1 << 20))
    await asyncio.sleep(0.3)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert (await run(box, "print('slow' in globals())")).stdout == b"True\n"
    assert (await box.dump(1 << 20)).kept


async def test_variables_are_listed(box: Box) -> None:
    await run(box, "import math\nnumber = 42\n_hidden = 1\nwords = ['a']")

    listed = {variable.name: (variable.type, variable.preview) for variable in await box.variables()}

    assert listed == {"number": ("int", "42"), "words": ("list", "['a']")}


async def test_a_preview_that_prints_or_raises_harms_nothing(box: Box) -> None:
    await run(box, "class A:\n    def __repr__(self):\n        print('loud')\n        raise SystemExit\na = A()")

    assert "a" in {variable.name for variable in await box.variables()}
    assert (await run(box, "print(1)")).stdout == b"1\n"


async def test_a_state_moves_to_another_box(box: Box, backend: Backend) -> None:
    await run(box, "import math\nx = {'a': [1, 2]}\ndef f(): return math.floor(2.5) + len(x)\ngen = (i for i in [1])")
    dumped = await box.dump(1 << 20)
    content = await read(box, "state", "spool")

    other = await backend.take("lean", "tenant")
    try:
        await put(other, "state", content, "spool")
        loaded = await other.load()
        kept = await run(other, "print(f(), x)")
    finally:
        await other.close()

    assert len(content) == dumped.size_bytes
    assert {"x", "f"} <= set(dumped.kept)
    assert [dropped.name for dropped in dumped.dropped] == ["gen"]
    assert {"x", "f"} <= set(loaded.restored)
    assert kept.stdout == b"3 {'a': [1, 2]}\n"
    assert not kept.report.is_fresh


async def test_a_state_that_is_none_is_refused(box: Box) -> None:
    with pytest.raises(errors.TrainyardError):
        await box.load()
    await put(box, "state", b"no state at all", "spool")
    with pytest.raises(errors.InvalidRequest):
        await box.load()

    assert (await run(box, "print(1)")).stdout == b"1\n"


@pytest.mark.parametrize("trap", ["import os; os._exit(3)", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"])
async def test_a_state_that_ends_the_interpreter_ends_nothing_else(box: Box, trap: str) -> None:
    await run(box, f"class A:\n    def __reduce__(self):\n        {trap}\na = A()")

    with pytest.raises(errors.Conflict):
        await box.dump(1 << 20)

    kept = await run(box, "print(1)")
    assert (kept.stdout, kept.report.was_reset) == (b"1\n", True)


async def test_reset_forgets_the_variables_and_keeps_the_files(box: Box) -> None:
    await run(box, "x = 1\nopen('a', 'w').write('x')\nimport subprocess\nsubprocess.Popen(['sleep', '100'])")

    await box.reset()

    kept = await run(box, "print('x' in globals(), open('a').read())")
    assert (kept.stdout, kept.report.was_reset) == (b"False x\n", False)
    assert (await box.usage()).processes == 1


async def test_a_session_call_is_quick(box: Box) -> None:
    await run(box, "x = 0")
    walls = sorted([(await box.run(Order(code="x += 1"))).report.wall_s for _ in range(50)])

    assert walls[25] < 0.05
