"""What a box is, seen from the host and from inside."""

import asyncio
import errno
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.contract.sandbox.backends.local.grounds import Grounds
from tests.contract.sandbox.backends.local.host import groups_of, namespace_of
from tests.contract.sandbox.backends.orders import run
from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.backends.local import places
from trainyard.sandbox.inside.lockdown import privileges
from trainyard.sandbox.inside.scene import WRITABLE
from trainyard.sandbox.inside.zygote.namespaces import NAMESPACES

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAMESPACE_FILES = {
    "user": "user",
    "mount": "mnt",
    "pid": "pid",
    "network": "net",
    "ipc": "ipc",
    "uts": "uts",
    "cgroup": "cgroup",
}
SECUREBITS = "import ctypes\nprint(ctypes.CDLL(None).prctl(27, 0, 0, 0, 0))"
NO_SUCH = "\ntry: {code}\nexcept OSError as error: print(error.errno)\nelse: print('done')"


def pid_of(ground: Grounds, box: Box) -> int:
    found = next(running.pid for running in ground.backend.running() if running.id == box.id)
    assert found is not None
    return found


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, value in (line.split(":", 1) for line in lines)}


def joined(group: Path, pid: int) -> bool:
    return str(pid) in (group / "cgroup.procs").read_text().split()


async def printed(box: Box, code: str) -> str:
    kept = await run(box, code)
    assert kept.stderr == b""
    return kept.stdout.decode().strip()


async def test_every_layer_that_this_kernel_can_have_is_held(ground: Grounds) -> None:
    missing = [layer.name for layer in ground.backend.layers() if layer.is_required and not layer.is_held]

    assert missing == []


async def namespaces_of(box: Box) -> dict[str, str]:
    code = f"import json, os\nfiles = {NAMESPACE_FILES!r}\n"
    code += "print(json.dumps({name: os.readlink('/proc/self/ns/' + file) for name, file in files.items()}))"
    return dict(json.loads(await printed(box, code)))


async def test_a_box_shares_no_namespace_with_the_host(box: Box) -> None:
    found = await namespaces_of(box)

    ours = {name: namespace_of(os.getpid(), file) for name, file in NAMESPACE_FILES.items()}
    assert {name for name in found if found[name] == ours[name]} == set()
    assert found.keys() == NAMESPACES.keys()


async def test_two_boxes_share_no_namespace_and_as_root_no_user(ground: Grounds, box: Box) -> None:
    other = await ground.backend.take("lean", "tenant")
    found = [await namespaces_of(each) for each in (box, other)]
    users = {status_of(pid_of(ground, each))["Uid"] for each in (box, other)}
    await other.close()

    assert {name for name in found[0] if found[0][name] == found[1][name]} == set()
    assert len(users) == (2 if os.getuid() == 0 else 1)


async def test_process_1_has_no_capability_no_root_and_a_filter(ground: Grounds, box: Box) -> None:
    status = status_of(pid_of(ground, box))

    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert "0" not in status["Uid"].split()
    assert "0" not in status["Gid"].split()
    assert os.getuid() != 0 or status["Groups"] == ""


async def test_code_has_what_process_1_has(ground: Grounds, box: Box) -> None:
    inside = dict(
        line.split(":\t", 1)
        for line in (await printed(box, "print(open('/proc/self/status').read())")).splitlines()
        if ":\t" in line
    )

    assert {inside[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert (inside["NoNewPrivs"], inside["Seccomp"]) == ("1", "2")
    assert inside["Uid"].split() == ["1000"] * 4


async def test_the_secure_bits_are_locked(box: Box) -> None:
    assert int(await printed(box, SECUREBITS)) == privileges.SECUREBITS == 0b11101111


async def test_the_root_holds_programs_and_nothing_else(box: Box) -> None:
    top = set(json.loads(await printed(box, "import json, os; print(json.dumps(os.listdir('/')))")))

    prefix = Path(places.command(None)[0]).parts[1]
    assert top <= {
        "bin",
        "sbin",
        "lib",
        "lib32",
        "lib64",
        "libx32",
        "usr",
        "etc",
        "dev",
        "mnt",
        "opt",
        "proc",
        "tmp",
        prefix,
    }
    assert not top & {"home", "run", "sys", "var", "srv", "work"}


async def test_there_are_five_devices(box: Box) -> None:
    listed = await printed(
        box,
        "import os, stat; print(*sorted(n for n in os.listdir('/dev') "
        "if stat.S_ISCHR(os.lstat('/dev/' + n).st_mode) or stat.S_ISBLK(os.lstat('/dev/' + n).st_mode)))",
    )

    assert listed.split() == ["full", "null", "random", "urandom", "zero"]


@pytest.mark.parametrize("place", ["/", "/usr", "/etc", "/dev", "/proc", "/opt/sandbox", "/mnt"])
async def test_nothing_outside_of_three_directories_can_be_written(box: Box, place: str) -> None:
    said = await printed(box, NO_SUCH.format(code=f"open('{place}/x', 'w')").strip())

    assert int(said) in (errno.EPERM, errno.EACCES, errno.EROFS, errno.ENOENT)


@pytest.mark.parametrize("place", WRITABLE)
async def test_three_directories_can_be_written(box: Box, place: str) -> None:
    assert await printed(box, f"open('{place}/x', 'w').write('y'); print(open('{place}/x').read())") == "y"


@pytest.mark.parametrize("place", WRITABLE)
async def test_what_can_be_written_is_bounded_in_bytes_and_files(box: Box, place: str) -> None:
    code = f"import os; about = os.statvfs('{place}'); print(about.f_blocks * about.f_frsize, about.f_files)"

    size_bytes, files = map(int, (await printed(box, code)).split())

    assert 0 < size_bytes <= 256 << 20
    assert 0 < files <= 20_000


async def test_the_data_directory_is_nowhere_in_it(ground: Grounds, box: Box) -> None:
    said = await printed(
        box, NO_SUCH.format(code=f"os.listdir({str(ground.home)!r})").replace("\ntry", "import os\ntry", 1)
    )

    assert said == "2"
    assert str(ground.home) not in await printed(box, "print(open('/proc/self/mountinfo').read())")


async def test_only_its_own_processes_are_in_proc(box: Box) -> None:
    code = "import os; print(max(int(n) for n in os.listdir('/proc') if n.isdigit()))"

    assert int(await printed(box, code)) < 20


async def test_code_finds_no_descriptor_that_leads_out(box: Box) -> None:
    code = "import os\nfor n in os.listdir('/proc/self/fd'):\n"
    code += "    try: print(os.readlink(f'/proc/self/fd/{n}'))\n    except OSError: pass"

    for line in (await printed(box, code)).splitlines():
        assert line.split(":")[0] in ("/dev/null", "pipe", "socket") or line.startswith(("/proc/", "/mnt/data")), line


@pytest.mark.parametrize("limit", ["RLIMIT_CORE", "RLIMIT_NPROC", "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_FSIZE"])
async def test_limits_are_set_and_cannot_be_raised(box: Box, limit: str) -> None:
    code = f"import resource as r; s, h = r.getrlimit(r.{limit}); print(h != r.RLIM_INFINITY)\n"
    code += f"try: r.setrlimit(r.{limit}, (s, h + 1))\nexcept ValueError: print('refused')"

    assert await printed(box, code) == "True\nrefused"


@pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user has control groups only by delegation")
async def test_the_box_is_in_a_control_group_of_its_own(ground: Grounds, box: Box) -> None:
    zygote = ground.zygote().pid
    assert zygote is not None
    groups = groups_of(zygote)
    held = {layer.name: layer for layer in ground.backend.layers()}["cgroup"]

    assert held.is_held == bool([path for path in groups if joined(path, pid_of(ground, box))])


async def test_the_answers_of_the_kernel_about_itself_are_empty(box: Box) -> None:
    hidden = "['/proc/cmdline', '/proc/keys', '/proc/config.gz', '/proc/timer_list']"
    code = f"import os\nprint([len(open(p).read()) for p in {hidden} if os.path.exists(p)])"

    assert set(json.loads(await printed(box, code))) <= {0}


async def test_programs_find_the_same_interpreter(box: Box) -> None:
    code = "import subprocess\nprint(subprocess.getoutput('python3 -c \"import sys; print(sys.prefix)\"'))"

    assert await printed(box, code) == "/opt/sandbox"


async def test_a_peer_of_another_user_is_not_answered(ground: Grounds) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can be somebody else")
    ground.sockets.chmod(0o711)
    socket = ground.sockets / "zygote-lean.sock"
    socket.chmod(0o666)
    asking = (
        "import socket\ns = socket.socket(socket.AF_UNIX)\n"
        f's.connect({str(socket)!r}); s.sendall(b\'{{"op": "open"}}\'); print(s.recv(100))'
    )
    try:
        program = ["setpriv", "--reuid=4242", "--clear-groups", "/usr/bin/python3", "-c", asking]
        answer = await asyncio.to_thread(subprocess.run, program, capture_output=True, text=True, check=False)
    finally:
        socket.chmod(0o600)
        ground.sockets.chmod(0o700)

    assert answer.stdout.strip() in ("", "b''")
    assert answer.stdout or "BrokenPipeError" in answer.stderr or "ConnectionResetError" in answer.stderr


async def test_code_cannot_take_more_of_the_processor_than_it_was_given(box: Box) -> None:
    code = "import os\ntry: os.setpriority(os.PRIO_PROCESS, 0, 0)\nexcept PermissionError: print('refused')"

    assert await printed(box, code) == "refused"
