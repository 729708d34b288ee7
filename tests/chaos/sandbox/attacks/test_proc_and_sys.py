"""Attacks through /proc and /sys, on the machine and on process 1."""

import pytest

from tests.chaos.sandbox.attacks.attempts import ABSENT, READ_ONLY, REFUSED, said
from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.inside.scene import DEVICE_PATHS, HIDDEN_FILES, WRITABLE

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/randomize_va_space",
        "/proc/sys/kernel/hostname",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/self/uid_map",
        "/proc/self/setgroups",
        "/proc/self/oom_score_adj",
        "/proc/self/attr/current",
        "/proc/self/coredump_filter",
        "/proc/self/autogroup",
        "/proc/self/clear_refs",
        "/proc/self/timens_offsets",
        "/proc/irq/default_smp_affinity",
        "/proc/1/oom_score_adj",
    ],
)
async def test_writing_to_the_kernel_by_a_file(box: Box, path: str) -> None:
    answer = await said(box, f"print(tried(lambda: open({path!r}, 'w').write('1')))")

    assert answer in READ_ONLY | ABSENT or (answer == "done" and path == "/proc/sysrq-trigger")  # that is /dev/null


async def test_pulling_the_trigger_of_sysrq(box: Box) -> None:
    code = """
path = '/proc/sysrq-trigger'
print(os.stat(path).st_rdev if os.path.exists(path) else os.stat('/dev/null').st_rdev, os.stat('/dev/null').st_rdev)
"""
    trigger, nothing = (await said(box, code)).split()
    assert trigger == nothing


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/kmsg", "/proc/keys", "/proc/vmallocinfo", "/proc/slabinfo"])
async def test_reading_the_memory_of_the_kernel(box: Box, path: str) -> None:
    assert await said(box, f"try: print(open({path!r}, 'rb').read(100))\nexcept OSError as e: print(b'')") == "b''"


async def test_reading_where_the_kernel_lies(box: Box) -> None:
    code = "print({line.split()[0] for line in open('/proc/kallsyms')} if os.path.exists('/proc/kallsyms') else {'0'})"

    assert set((await said(box, code)).strip("{}'").replace("0", "")) <= {""}


@pytest.mark.parametrize("path", ["/sys", "/sys/fs/cgroup", "/sys/kernel/debug", "/sys/firmware", "/sys/class/net"])
async def test_looking_into_sys(box: Box, path: str) -> None:
    assert await said(box, f"print(tried(os.listdir, {path!r}))") == "ENOENT"


@pytest.mark.parametrize(
    "file", ["mem", "environ", "maps", "smaps", "auxv", "stack", "syscall", "io", "personality", "map_files", "timers"]
)
async def test_reading_process_1(box: Box, file: str) -> None:
    look = "os.listdir" if file == "map_files" else "(lambda path: open(path, 'rb').read(1))"

    assert await said(box, f"print(tried({look}, '/proc/1/{file}'))") in REFUSED | {"ENOENT"} or file == "timers"


@pytest.mark.parametrize("way", ["/proc/1/root/etc/shadow", "/proc/1/cwd/../..", "/proc/1/exe", "/proc/1/task/1/root"])
async def test_going_through_process_1(box: Box, way: str) -> None:
    assert await said(box, f"print(tried(os.open, {way!r}, os.O_RDONLY))") in REFUSED


@pytest.mark.parametrize("name", ["fd", "fdinfo"])
async def test_using_descriptors_of_process_1(box: Box, name: str) -> None:
    assert await said(box, f"print(tried(os.listdir, '/proc/1/{name}'))") in REFUSED
    opened = f"print({{tried(os.open, f'/proc/1/{name}/{{n}}', os.O_RDWR) for n in range(64)}})"
    assert await said(box, opened) in ("{'EACCES'}", "{'EPERM'}")


async def test_joining_the_namespaces_of_process_1(box: Box) -> None:
    kinds = "('user', 'mnt', 'pid', 'net', 'ipc', 'uts', 'cgroup', 'time')"

    assert await said(box, f"print({{tried(open, f'/proc/1/ns/{{kind}}') for kind in {kinds}}})") == "{'EACCES'}"


async def test_finding_the_host_in_its_mounts(box: Box) -> None:
    code = "print([line.split()[4] for line in open('/proc/self/mountinfo') if ' rw' in line.split(' - ')[0]])"

    written = {part.strip("'") for part in (await said(box, code)).strip("[]").split(", ")}
    assert written <= {*WRITABLE, *DEVICE_PATHS, *(f"/proc/{name}" for name in HIDDEN_FILES)}


async def test_seeing_processes_of_others(box: Box) -> None:
    code = "print(sorted(int(name) for name in os.listdir('/proc') if name.isdigit()) == [1, os.getpid()])"

    assert await said(box, code) == "True"


async def test_opening_a_process_of_the_host_by_its_number(box: Box) -> None:
    code = "print({tried(os.pidfd_open, pid) for pid in range(100, 3000)})"

    assert await said(box, code) == "{'ESRCH'}"
