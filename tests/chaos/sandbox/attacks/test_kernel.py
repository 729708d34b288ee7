"""Attacks on the kernel: calls that give privileges, or that reach what other processes have."""

import os

import pytest

from tests.chaos.sandbox.attacks.attempts import REFUSED, number, said
from tests.contract.sandbox.backends.orders import run, shell
from trainyard.sandbox.backends.base import Box

pytestmark = pytest.mark.asyncio(loop_scope="session")

CALLS = {
    # on x86-64, on arm64, arguments
    "move_mount": (429, 429, "-100, b'/tmp', -100, b'/etc', 0"),
    "fsmount": (432, 432, "0, 0, 0"),
    "fspick": (433, 433, "-100, b'/', 0"),
    "mount_setattr": (442, 442, "-100, b'/', 0, bytes(32), 32"),
    "statmount": (457, 457, "bytes(24), bytes(512), 512, 0"),
    "listmount": (458, 458, "bytes(24), bytes(512), 8, 0"),
    "name_to_handle_at": (303, 264, "-100, b'/', bytes(128), bytes(4), 0"),
    "fanotify_init": (300, 262, "0, 0"),
    "seccomp": (317, 277, "1, 8, bytes(16)"),
    "landlock_create_ruleset": (444, 444, "bytes(24), 24, 0"),
    "request_key": (249, 218, "b'user', b'x', 0, 0"),
    "kcmp": (312, 272, "1, os.getpid(), 0, 0, 0"),
    "process_vm_writev": (311, 271, "1, bytes(16), 1, bytes(16), 1, 0"),
    "process_madvise": (440, 440, "0, bytes(16), 1, 4, 0"),
    "process_mrelease": (448, 448, "0, 0"),
    "move_pages": (279, 239, "1, 0, 0, 0, 0, 0"),
    "migrate_pages": (256, 238, "1, 8, bytes(8), bytes(8)"),
    "set_mempolicy": (238, 237, "1, bytes(8), 8"),
    "vmsplice": (278, 75, "1, bytes(16), 1, 0"),
    "memfd_create": (319, 279, "b'x', 0"),
    "memfd_secret": (447, 447, "0"),
    "shmget": (29, 194, "0, 1 << 20, 0o1666"),
    "msgget": (68, 186, "0, 0o1666"),
    "mq_open": (240, 180, "b'x', 0o102, 0o666, 0"),
    "io_uring_enter": (426, 426, "0, 1, 0, 0, 0, 0"),
    "io_uring_register": (427, 427, "0xFFFFFFFF, 0, 0, 0"),
    "finit_module": (313, 273, "0, b'', 0"),
    "delete_module": (176, 106, "b'x', 0"),
    "kexec_file_load": (320, 294, "0, 0, 0, 0, 0"),
    "setdomainname": (171, 162, "b'x', 1"),
    "settimeofday": (164, 170, "bytes(16), 0"),
    "adjtimex": (159, 171, "bytes(208)"),
    "vhangup": (153, 58, ""),
    "swapoff": (168, 225, "b'/x'"),
    "ioprio_set": (251, 30, "1, 0, 0"),
    "inotify_init1": (294, 26, "0"),
    "sync": (162, 81, ""),
    "syncfs": (306, 267, "0"),
    "clone3": (435, 435, "bytes(88), 88"),
}


@pytest.mark.parametrize("name", sorted(CALLS))
async def test_making_a_call_that_no_program_needs(box: Box, name: str) -> None:
    x86, arm, arguments = CALLS[name]

    assert await said(box, f"print(call({number(x86, arm)}, {arguments}))") in REFUSED


@pytest.mark.parametrize(
    "flag", [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000], ids=hex
)
async def test_cloning_into_a_namespace_of_its_own(box: Box, flag: int) -> None:
    assert await said(box, f"print(call({number(56, 220)}, {flag | 17}, 0, 0, 0, 0))") == "EPERM"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="there are x32 calls on x86-64 only")
async def test_calling_by_the_numbers_of_x32(box: Box) -> None:
    assert await said(box, "print([call(0x40000000 | n, 0, 0, 0) for n in (39, 165, 272)])") == str(["EPERM"] * 3)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="int 0x80 is of x86-64 only")
async def test_calling_as_a_32_bit_program(box: Box) -> None:
    code = """
room = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
room.write(bytes.fromhex('b814000000cd80c3'))  # mov eax, getpid; int 0x80; ret
enter = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(room)))
pid = os.fork()
if pid == 0: os._exit(7 if enter() == -errno.EPERM else 8)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) in (7, -signal.SIGSEGV))
"""
    assert await said(box, code) == "True"


async def test_running_a_file_that_has_no_name(box: Box) -> None:
    code = f"""
about = '/mnt/data/copy'
open(about, 'wb').write(open('/bin/true', 'rb').read()); os.chmod(about, 0o4755)
held = os.open(about, os.O_PATH); os.unlink(about)
pid = os.fork()
if pid == 0: call({number(322, 281)}, held, b'', 0, 0, 0x1000); os._exit(9)
os.waitpid(pid, 0)
print(open('/proc/self/status').read().split('CapEff:')[1].split()[0], os.geteuid())
"""
    assert await said(box, code) == "0000000000000000 1000"


@pytest.mark.parametrize("program", ["su", "sudo", "mount", "passwd", "newgrp", "pkexec", "ping"])
async def test_becoming_root_by_a_program_that_is_set_uid(box: Box, program: str) -> None:
    kept = await shell(box, f"command -v {program} >/dev/null && timeout 5 {program} </dev/null; id -u; id -ru")

    assert kept.stdout.split()[-2:] == [b"1000", b"1000"]


async def test_becoming_root_by_a_copy_that_it_makes_set_uid(box: Box) -> None:
    kept = await shell(box, "cp $(command -v id) x; chmod 6755 x; chown 0:0 x 2>/dev/null; ./x -u")

    assert kept.stdout == b"1000\n"


async def test_becoming_another_user(box: Box) -> None:
    code = "print([tried(os.setresuid, n, n, n) for n in (0, 1, 65534, 1700000000)], tried(os.setgroups, [0]))"

    assert set(await said(box, code)) & set("done") <= set("EINVALPRM"), code


async def test_taking_capabilities_back(box: Box) -> None:
    code = f"""
header, data = struct.pack('=Ii', 0x20080522, 0), struct.pack('=6I', *[0xFFFFFFFF] * 6)
print(call({number(126, 91)}, header, data), call({number(157, 167)}, 47, 2, 21, 0, 0), call({number(157, 167)}, 28, 0))
"""
    assert await said(box, code) == "EPERM EPERM EPERM"


async def test_allowing_itself_new_privileges_again(box: Box) -> None:
    code = f"print(call({number(157, 167)}, 38, 0, 0, 0, 0), call({number(157, 167)}, 39, 0, 0, 0, 0))"

    assert await said(box, code) == "EINVAL 1"


async def test_leaving_the_filter_by_another_that_allows_all(box: Box) -> None:
    code = f"""
allow = struct.pack('=HBBI', 6, 0, 0, 0x7fff0000); held = ctypes.create_string_buffer(allow, 8)
about = ctypes.create_string_buffer(struct.pack('@HP', 1, ctypes.addressof(held)))
pid = os.fork()
if pid == 0:
    put = call({number(157, 167)}, 22, 2, ctypes.addressof(about), 0, 0)
    os._exit(0 if call({number(165, 40)}, b'x', b'/tmp', b'tmpfs', 0, 0) == 'EPERM' else 9)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert await said(box, code) == "0"


async def test_typing_into_a_terminal(box: Box) -> None:
    code = "print(*[tried(fcntl.ioctl, 0, request, b'x') for request in (0x5412, 0x541C)], tried(os.openpty))"

    *typed, opened = (await said(box, code)).split()
    assert typed == ["EPERM", "EPERM"]
    assert opened in ("ENOENT", "EACCES", "EPERM") or "pty" in opened


async def test_becoming_a_process_without_random_addresses(box: Box) -> None:
    assert await said(box, f"print(call({number(135, 92)}, 0x0040000))") == "EPERM"


async def test_keeping_neighbours_off_its_core(box: Box) -> None:
    assert await said(box, f"print(call({number(157, 167)}, 62, 1, 0, 0, 0))") == "EPERM"


async def test_taking_a_real_time_priority(box: Box) -> None:
    code = """
for policy in (os.SCHED_FIFO, os.SCHED_RR): print(tried(os.sched_setscheduler, 0, policy, os.sched_param(1)))
print(tried(os.setpriority, os.PRIO_PROCESS, 0, -20))
"""
    assert set((await said(box, code)).split()) <= {"EPERM", "EACCES"}


async def test_locking_memory_of_the_machine(box: Box) -> None:
    code = "held = ctypes.create_string_buffer(1 << 24)\nprint(libc.mlock(held, 1 << 24), libc.mlockall(3))"

    assert await said(box, code) == "-1 -1"


async def test_tracing_what_it_has_started(box: Box) -> None:
    code = f"pid = os.fork()\nif not pid: time.sleep(9)\nprint(call({number(101, 117)}, 16, pid, 0, 0))"

    assert await said(box, code) == "EPERM"


@pytest.mark.parametrize("path", ["/dev/mem", "/dev/kvm", "/dev/fuse", "/dev/loop-control", "/dev/sda", "/dev/ptmx"])
async def test_opening_a_device_of_the_machine(box: Box, path: str) -> None:
    assert await said(box, f"print(tried(open, {path!r}))") == "ENOENT"


@pytest.mark.parametrize(("kind", "device"), [(0o020666, (1, 1)), (0o060666, (8, 0)), (0o020666, (10, 229))])
async def test_making_a_device_of_its_own(box: Box, kind: int, device: tuple[int, int]) -> None:
    assert await said(box, f"print(tried(os.mknod, 'x', {kind}, os.makedev{device}))") in REFUSED


async def test_reading_the_mounts_of_the_host_after_leaving_its_root(box: Box) -> None:
    code = """
held = os.open('/', os.O_RDONLY)
print(tried(os.chroot, '/tmp'), end=' ')
os.fchdir(held)
for _ in range(40): os.chdir('..')
print(sorted(os.listdir('.')) == sorted(os.listdir('/')), os.path.exists('home'))
"""
    assert await said(box, code) == "EPERM True False"


async def test_crashing_by_machine_code(box: Box) -> None:
    kept = await run(box, "import ctypes\nctypes.string_at(8)")

    assert kept.report.signal == "SIGSEGV"
