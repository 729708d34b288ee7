"""What every backend has to keep from the code that it runs; `fake` keeps nothing, and is not asked."""

import asyncio
import errno
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.sandbox.backends.attempts import NO_WAY_OUT, printed, refusal
from tests.contract.sandbox.backends.implementations import IMPLEMENTATIONS
from tests.contract.sandbox.backends.orders import read, run, shell
from trainyard.core import errors
from trainyard.sandbox.backends.base import Backend, Box, Kept
from trainyard.sandbox.inside import runner
from trainyard.sandbox.types.orders import Reason

ISOLATING = sorted(IMPLEMENTATIONS.keys() - {"fake"})
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.parametrize("backend", ISOLATING, indirect=True, scope="session"),
]

CALL = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
number = {number}.get(os.uname().machine)
result = libc.syscall(ctypes.c_long(number), *[ctypes.c_long(part) for part in {arguments}])
print(result, ctypes.get_errno())
"""
CALLS = {
    # on x86-64, on arm64, arguments
    "mount": (165, 40, (0, 0, 0, 0x1000, 0)),
    "umount2": (166, 39, (0, 2)),
    "pivot_root": (155, 41, (0, 0)),
    "chroot": (161, 51, (0,)),
    "unshare": (272, 97, (0x10000000,)),
    "setns": (308, 268, (0, 0)),
    "ptrace": (101, 117, (16, 1, 0, 0)),
    "process_vm_readv": (310, 270, (1, 0, 0, 0, 0, 0)),
    "bpf": (321, 280, (0, 0, 0)),
    "keyctl": (250, 219, (0, 0)),
    "add_key": (248, 217, (0, 0, 0, 0, 0)),
    "userfaultfd": (323, 282, (0,)),
    "io_uring_setup": (425, 425, (1, 0)),
    "perf_event_open": (298, 241, (0, 0, -1, -1, 0)),
    "init_module": (175, 105, (0, 0, 0)),
    "kexec_load": (246, 104, (0, 0, 0, 0)),
    "reboot": (169, 142, (0, 0, 0, 0)),
    "swapon": (167, 224, (0, 0)),
    "acct": (163, 89, (0,)),
    "sethostname": (170, 161, (0, 0)),
    "clock_settime": (227, 112, (0, 0)),
    "open_by_handle_at": (304, 265, (-100, 0, 0)),
    "open_tree": (428, 428, (-100, 0, 1)),
    "fsopen": (430, 430, (0, 0)),
    "pidfd_getfd": (438, 438, (0, 0, 0)),
    "quotactl": (179, 60, (0, 0, 0, 0)),
    "syslog": (103, 116, (3, 0, 0)),
    "iopl": (172, None, (3,)),
}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as opened:
        opened.setblocking(False)
        yield opened


async def test_no_connection_reaches_this_machine(cell: Box, listener: socket.socket) -> None:
    port = listener.getsockname()[1]

    said = await printed(cell, refusal(f"socket.create_connection(('127.0.0.1', {port}), 5)", "socket"))

    assert int(said) in NO_WAY_OUT
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize("address", ["192.0.2.1", "169.254.169.254", "2001:db8::1"])
async def test_no_connection_leads_out(cell: Box, address: str) -> None:
    assert int(await printed(cell, refusal(f"socket.create_connection(('{address}', 80), 5)", "socket"))) in NO_WAY_OUT


@pytest.mark.parametrize("kind", ["SOCK_RAW", "SOCK_DGRAM"])
async def test_no_packet_is_sent(cell: Box, kind: str) -> None:
    send = f"socket.socket(socket.AF_INET, socket.{kind}, socket.IPPROTO_UDP).sendto(b'x', ('192.0.2.1', 53))"

    assert int(await printed(cell, refusal(send, "socket"))) in NO_WAY_OUT


async def test_no_name_is_resolved(cell: Box) -> None:
    assert int(await printed(cell, refusal("socket.getaddrinfo('example.com', 80)", "socket"))) != 0


@pytest.mark.parametrize("place", ["/var/tmp", "/tmp", "/dev/shm", str(Path.home())])  # noqa: S108 - the machine's own
@pytest.mark.parametrize("way", ["", "/proc/self/root", "/proc/1/root", "/mnt/data/../.."])
async def test_no_file_of_this_machine_is_there(cell: Box, place: str, way: str) -> None:
    with tempfile.NamedTemporaryFile(dir=place, prefix="canary-") as canary:
        os.fchmod(canary.fileno(), 0o644)

        said = await printed(cell, refusal(f"open('{way}{canary.name}')"))

    assert int(said) in (errno.ENOENT, errno.EACCES)


@pytest.mark.parametrize("path", ["/etc/shadow", "/sys/kernel", "/run/systemd", "/boot", "/var/log", "/dev/kmsg"])
async def test_no_place_of_this_machine_is_there(cell: Box, path: str) -> None:
    assert int(await printed(cell, refusal(f"os.stat('{path}')"))) == errno.ENOENT


@pytest.mark.parametrize(
    "place", ["/", "/usr", "/usr/bin", "/etc", "/dev", "/proc", "/proc/sys/kernel", "/mnt", "/opt"]
)
async def test_nothing_of_the_root_can_be_written(cell: Box, place: str) -> None:
    said = int(await printed(cell, refusal(f"open('{place}/new', 'w')")))

    assert said in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT)


@pytest.mark.parametrize("place", ["/tmp", "/dev/shm", "/mnt/data"])  # noqa: S108 - of the box
async def test_what_can_be_written_is_bounded_and_no_device(cell: Box, place: str) -> None:
    about = f"import os\na = os.statvfs('{place}')\nprint(a.f_blocks * a.f_frsize, bool(a.f_flag & os.ST_NODEV))"

    size, is_plain = (await printed(cell, about)).split()

    assert 0 < int(size) <= 256 << 20
    assert is_plain == "True", place
    assert int(await printed(cell, refusal(f"os.mknod('{place}/sda', 0o60666, os.makedev(8, 0))"))) in (
        errno.EPERM,
        errno.EACCES,
    )


async def test_a_full_workspace_is_an_error_of_the_code_and_of_nobody_else(box: Box) -> None:
    fill = "\n    with open('big', 'wb') as file:\n        for _ in range(300): file.write(bytes(1 << 20))"

    kept = await run(box, refusal(fill), memory_bytes=1 << 30)

    assert int(kept.stdout) in (errno.ENOSPC, errno.EFBIG)
    assert await printed(box, "os.remove('big')\nopen('small', 'w').write('x')\nprint('well')") == "well"


async def test_files_without_end_end_the_run_or_fail(box: Box) -> None:
    code = "import itertools\nfor n in itertools.count(): open(f'/tmp/{n}', 'w').close()"

    kept = await run(box, code, memory_bytes=64 << 20, timeout_s=60)

    assert kept.report.reason is Reason.MEMORY or b"No space left on device" in kept.stderr
    assert kept.report.wall_s < 60


async def test_process_1_and_code_have_no_privilege(cell: Box) -> None:
    for pid in ("1", "self"):
        text = await printed(cell, f"print(open('/proc/{pid}/status').read())")
        status = {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}

        assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
        assert "0" not in status["Uid"].split() + status["Gid"].split() + status["Groups"].split()


@pytest.mark.parametrize("name", sorted(CALLS))
async def test_calls_that_isolation_rests_on_are_refused(cell: Box, name: str) -> None:
    x86, arm, arguments = CALLS[name]
    if {"x86_64": x86, "aarch64": arm}[os.uname().machine] is None:
        pytest.skip(f"{os.uname().machine} has no such call")

    said = await printed(cell, CALL.format(number={"x86_64": x86, "aarch64": arm}, arguments=arguments))

    assert said in (f"-1 {errno.EPERM}", f"-1 {errno.ENOSYS}")


@pytest.mark.parametrize("file", ["environ", "mem", "maps", "fd/0", "cwd", "root", "exe", "ns/net"])
async def test_process_1_is_closed_to_its_code(cell: Box, file: str) -> None:
    look = "open" if file in ("environ", "mem", "maps") else "os.readlink"

    assert int(await printed(cell, refusal(f"{look}('/proc/1/{file}')"))) in (errno.EACCES, errno.EPERM)


@pytest.mark.parametrize(
    "number", ["SIGKILL", "SIGSTOP", "SIGTERM", "SIGINT", "SIGHUP", "SIGCHLD", "SIGUSR1", "SIGALRM"]
)
async def test_process_1_outlives_every_signal_of_its_code(cell: Box, number: str) -> None:
    await run(cell, f"import os, signal\nfor _ in range(100): os.kill(1, signal.{number})")

    assert await printed(cell, "print('well')") == "well"


async def test_other_processes_are_neither_seen_nor_hit(backend: Backend) -> None:
    ours = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)", "canary"])  # noqa: ASYNC220 - some ms
    boxes = [await backend.take("lean", "tenant") for _ in range(2)]
    other = asyncio.ensure_future(run(boxes[1], "import time\ntime.sleep(2)\nprint('unharmed')"))
    code = (
        "import glob, json, os, signal\n"
        "print(json.dumps([os.getpid(), [open(p, 'rb').read().decode() for p in glob.glob('/proc/[0-9]*/cmdline')]]),"
        " flush=True)\n"
        f"for pid in (-1, *range(2, 400), {ours.pid}):\n"
        "    if pid != os.getpid():\n        try: os.kill(pid, signal.SIGKILL)\n        except OSError: pass"
    )
    try:
        kept = await run(boxes[0], code)
        own, commands = json.loads(kept.stdout)

        assert own < 1000
        assert len(commands) <= 4
        assert not any("canary" in command for command in commands)
        assert (await other).stdout == b"unharmed\n"
        assert ours.poll() is None
    finally:
        ours.kill()
        ours.wait()
        await asyncio.gather(*(box.close() for box in boxes))


async def test_descriptors_are_bounded(box: Box) -> None:
    code = (
        "files = []\ntry:\n    while len(files) < 5000: files.append(open('/dev/null'))\nexcept OSError: pass\n"
        "print(len(files))"
    )

    assert 32 <= int((await run(box, code)).stdout) <= 256
    assert await printed(box, "print('well')") == "well"


async def test_a_dump_of_the_core_is_never_written(cell: Box) -> None:
    limits = (
        "import resource as r\nprint(r.getrlimit(r.RLIMIT_CORE), r.getrlimit(r.RLIMIT_NPROC)[1] != r.RLIM_INFINITY)"
    )

    assert await printed(cell, limits) == "(0, 0) True"


@pytest.mark.parametrize(("start", "code"), [(run, "import os\nprint(*os.environ, sep='\\n')"), (shell, "compgen -e")])
async def test_the_environment_tells_nothing(
    cell: Box, start: Callable[[Box, str], Awaitable[Kept]], code: str
) -> None:
    names = set((await start(cell, code)).stdout.decode().split())

    assert names <= runner.ENVIRON.keys() | {"LC_CTYPE", "PWD", "OLDPWD", "SHLVL", "_"}


async def test_no_descriptor_leads_out(cell: Box) -> None:
    code = (
        "import os\nfor n in sorted(map(int, os.listdir('/proc/self/fd'))):\n"
        "    try: print(os.readlink(f'/proc/self/fd/{n}'))\n    except OSError: pass"
    )

    for target in (await printed(cell, code)).splitlines():
        is_own = target.startswith(("/proc/", "/mnt/data", "pipe:", "socket:", "anon_inode:"))
        assert is_own or target == "/dev/null" or target.endswith(" (deleted)"), target


async def test_the_name_of_this_machine_is_not_told(cell: Box) -> None:
    assert await printed(cell, "import socket\nprint(socket.gethostname())") != socket.gethostname()


async def test_nothing_of_one_box_is_in_the_next(backend: Backend) -> None:
    places = ("/tmp", "/dev/shm", "/mnt/data")  # noqa: S108 - of the box
    first = await backend.take("lean", "tenant")
    await run(first, f"import builtins\nbuiltins.leak = x = 1\nfor p in {places}: open(p + '/leak', 'w').write('x')")
    await shell(first, "echo leaked")
    await first.close()

    for _ in range(3):
        after = await backend.take("lean", "tenant")
        look = f"[p for p in {places} if os.listdir(p)], hasattr(builtins, 'leak'), 'x' in dir()"
        code = f"import builtins, os\nprint({look})"
        assert await printed(after, code) == "[] False False"
        with pytest.raises(errors.NotFound):
            await read(after, "state", "spool")
        await after.close()


async def test_every_required_layer_is_held_and_said_once(backend: Backend) -> None:
    layers = backend.layers()
    await backend.ping()

    assert [layer.name for layer in layers if layer.is_required and not layer.is_held] == []
    assert len({layer.name for layer in layers}) == len(layers) > 3
    assert all(layer.detail for layer in layers)
