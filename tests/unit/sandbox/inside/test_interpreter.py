"""A live interpreter that goes on with whatever code has made of the modules that it uses itself."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from trainyard.sandbox.backends.base import Box, Kept
from trainyard.sandbox.backends.fake import FakeBackend
from trainyard.sandbox.types.orders import Order


@pytest_asyncio.fixture
async def box() -> AsyncIterator[Box]:
    backend = FakeBackend()
    yield await backend.take("lean", "tenant")
    await backend.aclose()


async def run(box: Box, code: str) -> Kept:
    return await box.run(Order(code=code, timeout_s=10.0), b"")


HELPER = "import os\nos.makedirs('lib', exist_ok=True)\nopen('lib/helper.py', 'w').write('x = 7')"


@pytest.mark.parametrize("path", ["os.path.abspath('lib')", "'lib'"])
async def test_a_module_is_found_that_was_written_after_an_import_had_missed_it(box: Box, path: str) -> None:
    await run(box, f"import os, sys\nsys.path.append({path})\ntry:\n    import helper\nexcept ImportError: pass")
    await run(box, HELPER)

    kept = await run(box, "import helper\nprint(helper.x)")

    assert (kept.stdout, kept.stderr) == (b"7\n", b"")


@pytest.mark.parametrize(
    "code",
    [
        "sys.path_importer_cache[7] = None",
        "sys.path_importer_cache[b'/x'] = sys",
        "sys.path_importer_cache['/x'] = type('Finder', (), {'invalidate_caches': lambda self: 1 / 0})()",
        "sys.meta_path.append(type('Finder', (), {'invalidate_caches': lambda self: 1 / 0, 'find_spec': print})())",
        "del sys.path_importer_cache",
        "sys.path_importer_cache = 7",
        "del sys.meta_path",
    ],
)
async def test_what_code_puts_among_the_finders_does_not_end_the_interpreter(box: Box, code: str) -> None:
    await run(box, f"import sys\nx = 1\n{code}")

    kept = await run(box, "print(x)")

    assert (kept.stdout, kept.report.was_reset) == (b"1\n", False)


async def test_a_finder_of_code_is_told_to_forget(box: Box) -> None:
    code = "class Finder:\n    told = 0\n    def find_spec(self, *args): return None\n"
    await run(
        box, f"{code}    def invalidate_caches(self): Finder.told += 1\nimport sys\nsys.meta_path.append(Finder())"
    )

    assert (await run(box, "print(Finder.told)")).stdout == b"1\n"


async def test_a_thread_that_imports_meanwhile_does_not_end_the_interpreter(box: Box) -> None:
    code = (
        "import sys, threading\nsys.setswitchinterval(1e-6)\nx, cache = 1, sys.path_importer_cache\n"
        "class Finder:\n    def invalidate_caches(self):\n        for _ in range(99): pass\n"
        "def change():\n    while True:\n        for number in range(999): cache[f'/none/{number}'] = Finder()\n"
        "        for number in range(999): cache.pop(f'/none/{number}', None)\n"
        "threading.Thread(target=change, daemon=True).start()"
    )
    await run(box, code)
    for _ in range(5):
        kept = await run(box, "print(x)")

        assert (kept.stdout, kept.report.was_reset) == (b"1\n", False)


@pytest.mark.parametrize(
    "code",
    [
        "import signal\ndel signal.SIGINT",
        "import signal\ndel signal.SIG_IGN",
        "import signal\nsignal.signal(signal.SIGINT, type('H', (), {'__call__': print, '__ne__': lambda *a: 1 / 0})())",
        "import sys\nsys.setrecursionlimit = sys.getrecursionlimit = None",
        "import os\nos.dup2 = os.close = os.open = os.fstat = os.chdir = os.getpid = os.write = None",
        "import resource, socket\nresource.getrusage = socket.recv_fds = None",
        "import io\ndel io.TextIOWrapper, io.FileIO",
        "class E(SystemExit):\n    @property\n    def code(self): raise ValueError\nraise E",
    ],
)
async def test_the_interpreter_goes_on_without_what_code_has_broken(box: Box, code: str) -> None:
    await run(box, "x = 1")
    broken = await run(box, code)

    kept = await run(box, "print(x)")

    assert (broken.report.reason, broken.report.was_reset) == (None, False)
    assert (kept.stdout, kept.stderr, kept.report.was_reset) == (b"1\n", b"", False)


async def test_an_interrupt_is_heard_after_code_has_broken_the_signals(box: Box) -> None:
    await run(box, "import signal\ndel signal.SIGINT, signal.SIG_IGN\nx = 1")
    kept = await box.run(Order(code="while True: pass", timeout_s=0.3), b"")

    assert (kept.report.exit_code, kept.report.was_reset) == (1, False)
    assert (await run(box, "print(x)")).stdout == b"1\n"
