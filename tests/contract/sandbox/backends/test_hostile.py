"""Code that turns against its own interpreter, or plays it."""

import asyncio

import pytest

from tests.contract.sandbox.backends.orders import run
from trainyard.core import errors
from trainyard.sandbox.backends.base import Backend, Box
from trainyard.sandbox.types.orders import Reason

pytestmark = pytest.mark.asyncio(loop_scope="session")

FIND_LINK = (
    "import json, os, socket, stat, struct, sys\n"
    "links = [int(fd) for fd in os.listdir('/proc/self/fd')]\n"
    "def is_socket(fd):\n    try: return stat.S_ISSOCK(os.fstat(fd).st_mode)\n    except OSError: return False\n"
    "links = [fd for fd in links if is_socket(fd)]\n"
    "def token():\n"
    "    here = sys._getframe()\n    while 'order' not in here.f_locals: here = here.f_back\n"
    "    return here.f_locals['order']['id']\n"
    "def frame(header, payload=b''):\n"
    "    head = json.dumps(header).encode()\n    return struct.pack('!II', len(head), len(payload)) + head + payload\n"
)


async def _is_well(box: Box) -> None:
    assert (await run(box, "print('well')", timeout_s=10)).stdout == b"well\n"


@pytest.mark.parametrize(
    "code",
    [
        "import os\nfor fd in range(3): os.close(fd)",
        "import sys\nsys.stdout.close(); sys.stderr.close(); sys.stdin.close()",
        "import sys, io\nsys.stdout = sys.stderr = io.StringIO()\nsys.__stdout__ = None",
        (
            "import sys\nclass S:\n    def write(self, s): raise OSError\n"
            "    def flush(self): raise SystemExit(3)\nsys.stdout = sys.stderr = S()\n1/0"
        ),
        "import sys\nsys.excepthook = lambda *a: 1/0\n1/0",
        "import sys\nsys.setrecursionlimit(60)",
        "def f(): return f()\nf()",
        "class E(Exception):\n    def __str__(self): raise E\nraise E",
        "class E(BaseException):\n    def __str__(self): import os; raise KeyboardInterrupt\nraise E",
        "import sys\nsys.settrace(lambda *a: 1/0)",
        "import builtins\nbuiltins.__import__ = None\nbuiltins.open = None\nbuiltins.print.__self__",
        "import sys, threading\nthreading.excepthook = None\nthreading.Thread(target=lambda: 1/0).start()",
        "__builtins__.clear() if isinstance(__builtins__, dict) else None",
        "globals().clear()",
        "import os\nos.environ.clear()",
        "import os\nos.chdir('/')\nos.umask(0o777)",
        "import signal\nsignal.signal(signal.SIGINT, lambda *a: 1/0)\nsignal.raise_signal(signal.SIGINT)",
        (
            "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)\n"
            "signal.signal(signal.SIGALRM, lambda *a: None)"
        ),
        "import atexit\natexit.register(lambda: 1/0)",
        "import gc\ngc.disable()\ngc.freeze()",
        "import sys\nsys.argv = None\nsys.path = None",
    ],
)
async def test_an_interpreter_outlives_what_its_code_breaks(box: Box, code: str) -> None:
    kept = await run(box, f"x = 41\n{code}", timeout_s=10)

    assert kept.report.signal is None
    assert kept.report.reason is None
    await _is_well(box)


@pytest.mark.parametrize("change", ["sys.path = None", "sys.path = {}", "sys.path = ('a',)", "del sys.path"])
async def test_a_search_path_that_is_none_is_as_before_in_the_next_run(box: Box, change: str) -> None:
    await run(box, f"import sys\n{change}", timeout_s=10)
    kept = await run(box, "import wave, sys\nprint(type(sys.path).__name__)", timeout_s=10)
    assert (kept.stdout, kept.stderr) == (b"list\n", b"")


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos._exit(0)",
        "import os\nos.closerange(3, 65536)",
        "import sys\nsys.modules.clear()\nimport os\nos._exit(5)",
        "import os, signal\nos.killpg(0, signal.SIGKILL)",
        "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)",
        "import os\nos.execvp('true', ['true'])",
        "import ctypes\nctypes.memset(id(None), 0, 8)\nNone",
    ],
)
async def test_a_box_outlives_its_interpreter(box: Box, code: str) -> None:
    await run(box, code, timeout_s=10)

    await _is_well(box)
    assert (await box.usage()).processes == 1


@pytest.mark.parametrize(
    "code",
    [
        "import linecache, traceback\nlinecache.cache = None\ntraceback.print_exception = None\n1/0",
        "import os, resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\nopen('/dev/null')",
        "import json\njson.dumps = json.loads = None",
        "import sys\nsys.setrecursionlimit = None",
    ],
)
async def test_an_interpreter_that_cannot_go_on_is_replaced_and_says_so(box: Box, code: str) -> None:
    await run(box, code, timeout_s=10)
    kept = await run(box, "print('well')", timeout_s=10)

    if kept.stdout != b"well\n":
        assert kept.report.was_reset
        assert b"its variables are gone" in kept.stderr
    await _is_well(box)


@pytest.mark.parametrize(
    "lie",
    [
        "b'\\xff' * 4096",
        "struct.pack('!II', 1 << 31, 1 << 31)",
        "struct.pack('!II', 4, 0) + b'nope'",
        "frame([1, 2])",
        "frame({})",
        "frame({'id': 1, 'event': 'done'})",
        "frame({'id': 'x' * 100, 'event': 'done', 'exit_code': 0, 'variables': 0})",
        "frame({'id': 10**6, 'event': 'done', 'exit_code': 0, 'variables': 0, 'is_fresh': True, 'results': []})",
        "frame({'id': 1, 'event': 'done', 'exit_code': 1e400, 'variables': [], 'results': {}})",
        "frame({'deep': 0}).replace(b'0', b'[' * 100000)",
    ],
)
async def test_garbage_on_the_interpreters_socket_ends_the_interpreter_alone(box: Box, lie: str) -> None:
    code = f"{FIND_LINK}import time\nfor fd in links: os.write(fd, {lie})\ntime.sleep(1)"

    kept = await run(box, code, timeout_s=10)

    assert kept.report.wall_s < 10
    await _is_well(box)


async def test_an_endless_frame_does_not_make_the_runner_grow(box: Box) -> None:
    code = (
        f"{FIND_LINK}big = struct.pack('!II', 11 << 20, 0) + b'x' * (16 << 20)\n"
        "for fd in links:\n    socket.socket(fileno=os.dup(fd)).sendall(big)"
    )

    await run(box, code, timeout_s=10)

    await _is_well(box)


async def test_a_forged_report_says_nothing_of_what_the_runner_measures(box: Box) -> None:
    code = (
        f"{FIND_LINK}import time\n"
        "lie = {'id': token(), 'event': 'done', 'exit_code': 0, 'variables': 0, 'is_fresh': True, 'cpu_s': -1,\n"
        "       'results': [{'kind': 'evil', 'data': 1}], 'reason': None, 'was_reset': False}\n"
        "for fd in links: os.write(fd, frame(lie))\n"
        "while True: time.sleep(0.001)"
    )

    kept = await run(box, code, timeout_s=5)

    assert (kept.report.exit_code, kept.report.results) == (0, [])
    assert kept.report.cpu_s > 0
    late = await run(box, "print(1)", timeout_s=1)
    after = await run(box, "print(2)")
    assert (late.report.reason, after.stdout) == (Reason.TIMEOUT, b"2\n")
    assert late.report.was_reset or after.report.was_reset


@pytest.mark.parametrize("answer", ["{'event': 'odd'}", "{'event': 'done'}", "{'event': 'done', 'kept': [1]}"])
async def test_a_forged_answer_to_a_question_is_refused(box: Box, answer: str) -> None:
    code = (
        f"{FIND_LINK}class A:\n    def __reduce__(self):\n"
        f"        for fd in links: os.write(fd, frame({{'id': token(), **{answer}}}))\n        return list, ()\na = A()"
    )
    await run(box, code)

    with pytest.raises(errors.Conflict):
        await box.dump(1 << 20)

    await run(box, "1", timeout_s=1)
    await _is_well(box)


async def test_a_fork_bomb_ends_with_its_run(box: Box) -> None:
    code = (
        "import os, time\nfor _ in range(6):\n    try: os.fork()\n"
        "    except OSError: time.sleep(0.1)\nwhile True: time.sleep(1)"
    )

    kept = await run(box, code, timeout_s=1)

    assert kept.report.reason is Reason.TIMEOUT
    assert (await box.usage()).processes == 1
    await _is_well(box)


async def test_a_box_that_is_closed_while_it_runs_says_so(backend: Backend) -> None:
    box = await backend.take("lean", "tenant")
    running = asyncio.ensure_future(run(box, "import time\ntime.sleep(100)"))
    await asyncio.sleep(0.1)
    await box.close()

    with pytest.raises(errors.Unavailable) as caught:
        await running
    assert caught.value.code == "box_gone"
    assert not box.is_alive
    with pytest.raises(errors.Unavailable):
        await run(box, "1")
    await box.close()
