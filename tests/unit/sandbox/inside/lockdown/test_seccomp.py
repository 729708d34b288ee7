"""The filter, run by an interpreter of its byte code as the kernel has one."""

import errno
import re
import socket
import struct
from pathlib import Path

import pytest

from trainyard.sandbox.inside import kernel
from trainyard.sandbox.inside.lockdown import seccomp, syscalls

ALLOW, REFUSE, ABSENT = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
COLUMN = {"x86_64": 0, "aarch64": 1}
MACHINES = sorted(ARCH)
I386 = 0x40000003
SIGCHLD = 17
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}


def verdict(machine: str, number: int, *arguments: int, arch: int | None = None) -> int:
    """Run the filter on one system call (classic BPF: Documentation/networking/filter.rst)."""
    six = [argument & 0xFFFFFFFFFFFFFFFF for argument in (*arguments, *(0,) * 6)][:6]
    data = struct.pack("<IIQ6Q", number, ARCH[machine] if arch is None else arch, 0, *six)
    program = list(struct.iter_unpack("<HBBI", seccomp.program(machine)))
    at, accumulator = 0, 0
    while True:
        code, if_true, if_false, constant = program[at]
        at += 1
        match code:
            case 0x20:
                accumulator = struct.unpack_from("<I", data, constant)[0]
            case 0x54:
                accumulator &= constant
            case 0x06:
                return int(constant)
            case 0x15:
                at += if_true if accumulator == constant else if_false
            case 0x25:
                at += if_true if accumulator > constant else if_false
            case 0x35:
                at += if_true if accumulator >= constant else if_false
            case 0x45:
                at += if_true if accumulator & constant else if_false
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


def number_of(name: str, machine: str) -> int:
    tables = syscalls.ALLOWED | syscalls.CHECKED | syscalls.ABSENT
    number = tables[name][COLUMN[machine]]
    assert number is not None
    return number


@pytest.mark.parametrize("machine", MACHINES)
def test_every_call_on_the_list_is_allowed(machine: str) -> None:
    numbers = [row[COLUMN[machine]] for row in syscalls.ALLOWED.values()]

    assert {verdict(machine, number) for number in numbers if number is not None} == {ALLOW}


@pytest.mark.parametrize("machine", MACHINES)
def test_every_other_number_is_refused_or_absent(machine: str) -> None:
    column = COLUMN[machine]
    allowed = {row[column] for row in (syscalls.ALLOWED | syscalls.CHECKED).values()}
    absent = {row[column] for row in syscalls.ABSENT.values()}

    for number in range(700):
        if number not in allowed:
            answer = ABSENT if number in absent or number > syscalls.NEWEST else REFUSE
            assert verdict(machine, number) == answer, number


@pytest.mark.parametrize(
    ("name", "x86_64", "aarch64"),
    [
        ("ptrace", 101, 117),
        ("mount", 165, 40),
        ("umount2", 166, 39),
        ("pivot_root", 155, 41),
        ("chroot", 161, 51),
        ("unshare", 272, 97),
        ("setns", 308, 268),
        ("open_tree", 428, 428),
        ("move_mount", 429, 429),
        ("fsopen", 430, 430),
        ("mount_setattr", 442, 442),
        ("add_key", 248, 217),
        ("request_key", 249, 218),
        ("keyctl", 250, 219),
        ("bpf", 321, 280),
        ("userfaultfd", 323, 282),
        ("perf_event_open", 298, 241),
        ("io_uring_setup", 425, 425),
        ("io_uring_enter", 426, 426),
        ("process_vm_readv", 310, 270),
        ("process_vm_writev", 311, 271),
        ("pidfd_getfd", 438, 438),
        ("open_by_handle_at", 304, 265),
        ("init_module", 175, 105),
        ("kexec_load", 246, 104),
        ("vmsplice", 278, 75),
        ("seccomp", 317, 277),
        ("sync", 162, 81),
        ("kcmp", 312, 272),
    ],
)
def test_what_reaches_out_of_a_box_is_refused(name: str, x86_64: int, aarch64: int) -> None:
    assert (verdict("x86_64", x86_64), verdict("aarch64", aarch64)) == (REFUSE, REFUSE), name


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["clone3", "memfd_create", "shmget", "msgget"])
def test_libraries_are_told_to_take_their_other_way(machine: str, name: str) -> None:
    assert verdict(machine, number_of(name, machine)) == ABSENT


@pytest.mark.parametrize("machine", MACHINES)
def test_calls_of_another_architecture_are_refused(machine: str) -> None:
    assert verdict(machine, number_of("read", machine), arch=I386) == REFUSE


def test_calls_of_x32_are_refused() -> None:
    assert verdict("x86_64", number_of("read", "x86_64") | 0x40000000) == REFUSE


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("flags", "answer"),
    [
        (SIGCHLD, ALLOW),
        (0x3D0F00, ALLOW),  # what pthread_create passes
        (kernel.CLONE_NEWUSER | SIGCHLD, REFUSE),
        (kernel.CLONE_NEWNS, REFUSE),
        (kernel.CLONE_NEWPID, REFUSE),
        (kernel.CLONE_NEWNET, REFUSE),
        (kernel.CLONE_NEWIPC, REFUSE),
        (kernel.CLONE_NEWUTS, REFUSE),
        (kernel.CLONE_NEWCGROUP, REFUSE),
    ],
)
def test_clone_makes_processes_and_threads_but_no_namespaces(machine: str, flags: int, answer: int) -> None:
    assert verdict(machine, number_of("clone", machine), flags) == answer


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("family", "kind", "protocol", "answer"),
    [
        (socket.AF_UNIX, socket.SOCK_STREAM, 0, ALLOW),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC, 0, ALLOW),
        (socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK, socket.IPPROTO_TCP, ALLOW),
        (socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP, ALLOW),
        (socket.AF_INET, socket.SOCK_RAW, 0, REFUSE),
        (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP, REFUSE),
        (socket.AF_INET, socket.SOCK_STREAM, 132, REFUSE),  # SCTP
        (socket.AF_NETLINK, socket.SOCK_RAW, 0, REFUSE),
        (socket.AF_PACKET, socket.SOCK_RAW, 0, REFUSE),
        (socket.AF_VSOCK, socket.SOCK_STREAM, 0, REFUSE),
        (socket.AF_ALG, socket.SOCK_SEQPACKET, 0, REFUSE),
        (
            socket.AF_UNIX | 1 << 32,
            socket.SOCK_STREAM,
            0,
            ALLOW,
        ),  # the kernel looks at 32 bits, the filter too
    ],
)
def test_sockets_are_local_or_of_the_internet(machine: str, family: int, kind: int, protocol: int, answer: int) -> None:
    for name in ("socket", "socketpair"):
        assert verdict(machine, number_of(name, machine), family, kind, protocol) == answer


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("request_code", "answer"), [(0x5401, ALLOW), (0x5413, ALLOW), (0x5412, REFUSE), (0x541C, REFUSE)]
)
def test_nothing_can_be_typed_into_a_terminal(machine: str, request_code: int, answer: int) -> None:
    assert verdict(machine, number_of("ioctl", machine), 0, request_code) == answer


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("persona", "answer"), [(0, ALLOW), (0xFFFFFFFF, ALLOW), (0x0040000, REFUSE), (8, REFUSE)])
def test_a_process_cannot_change_what_it_is_to_the_kernel(machine: str, persona: int, answer: int) -> None:
    assert verdict(machine, number_of("personality", machine), persona) == answer


@pytest.mark.parametrize("machine", MACHINES)
def test_the_program_fits_into_the_kernel(machine: str) -> None:
    assert len(seccomp.program(machine)) // 8 <= 4096  # BPF_MAXINSNS


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_those_of_the_kernels_headers(machine: str) -> None:
    if not HEADERS[machine].exists():
        pytest.skip(f"no {HEADERS[machine]}; install linux-libc-dev")
    text = HEADERS[machine].read_text()
    known = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)\b", text)}
    known |= {"newfstatat": known["fstatat"]} if machine == "aarch64" else {}
    tables = syscalls.ALLOWED | syscalls.CHECKED | syscalls.ABSENT
    compared = {name: row[COLUMN[machine]] for name, row in tables.items() if name in known}

    assert len(compared) > 200
    assert {name: number for name, number in compared.items() if number != known[name]} == {}


def test_a_call_stands_in_one_table() -> None:
    names = [*syscalls.ALLOWED, *syscalls.CHECKED, *syscalls.ABSENT]

    assert len(names) == len(set(names))
