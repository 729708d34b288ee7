"""Attacks over sockets: out of the machine, to the machine, and to the kernel."""

import os
import socket
import stat

import pytest

from tests.chaos.sandbox.attacks.attempts import ABSENT, UNREACHABLE, said
from tests.contract.sandbox.backends.local.grounds import Grounds
from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.backends.local import places

pytestmark = pytest.mark.asyncio(loop_scope="session")

FAMILIES = {
    "AX25": 3, "IPX": 4, "APPLETALK": 5, "X25": 9, "KEY": 15, "NETLINK": 16, "PACKET": 17, "RDS": 21, "PPPOX": 24,
    "LLC": 26, "CAN": 29, "TIPC": 30, "BLUETOOTH": 31, "RXRPC": 33, "PHONET": 35, "IEEE802154": 36, "CAIF": 37,
    "ALG": 38, "NFC": 39, "VSOCK": 40, "KCM": 41, "QIPCRTR": 42, "SMC": 43, "XDP": 44, "MCTP": 45,
}  # fmt: skip


@pytest.mark.parametrize("family", sorted(FAMILIES))
async def test_opening_a_socket_of_an_odd_family(box: Box, family: str) -> None:
    code = f"print({{tried(socket.socket, {FAMILIES[family]}, kind) for kind in (1, 2, 3, 5)}})"

    assert await said(box, code) == "{'EPERM'}"


@pytest.mark.parametrize("protocol", [1, 2, 47, 50, 132, 136, 255, 256, 262])
async def test_speaking_an_odd_protocol(box: Box, protocol: int) -> None:
    code = f"print({{tried(socket.socket, family, kind, {protocol}) for family in (2, 10) for kind in (1, 2, 3)}})"

    assert await said(box, code) == "{'EPERM'}"


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "169.254.170.2", "100.100.100.200", "metadata.google.internal", "fd00:ec2::254"],
)
async def test_asking_the_cloud_for_credentials(box: Box, address: str) -> None:
    answer = await said(box, f"print(tried(socket.create_connection, ({address!r}, 80), 5))")

    assert answer in UNREACHABLE or "name" in answer.lower(), "a name is not resolved"


async def test_reaching_the_addresses_of_this_machine(box: Box) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        try:
            asked.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no address but loopback")
        address = asked.getsockname()[0]
    with socket.create_server((address, 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]

        answer = await said(box, f"print(tried(socket.create_connection, ({address!r}, {port}), 5))")

        assert answer in UNREACHABLE
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("port", [53, 5353])
async def test_sending_a_question_to_a_name_server(box: Box, port: int) -> None:
    code = (
        f"s = socket.socket(2, 2)\nprint({{tried(s.sendto, b'x', (to, {port})) for to in ('8.8.8.8', '224.0.0.251')}})"
    )

    assert set((await said(box, code)).strip("{}").replace("'", "").split(", ")) <= UNREACHABLE


async def test_reading_the_name_servers_of_the_host(box: Box) -> None:
    assert await said(box, "print(tried(open, '/etc/resolv.conf'))") in ABSENT


async def test_connecting_to_an_abstract_socket_of_the_host(box: Box) -> None:
    name = f"\0canary-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(name)
        listener.listen()
        listener.setblocking(False)

        assert await said(box, f"s = socket.socket(socket.AF_UNIX)\nprint(tried(s.connect, {name!r}))") in UNREACHABLE
        with pytest.raises(BlockingIOError):
            listener.accept()


async def test_connecting_to_the_zygote(ground: Grounds, box: Box) -> None:
    path = str(places.socket_of(ground.sockets, "lean"))
    assert stat.S_ISSOCK(os.stat(path).st_mode)  # noqa: PTH116 - some microseconds

    assert await said(box, f"s = socket.socket(socket.AF_UNIX)\nprint(tried(s.connect, {path!r}))") in ABSENT


@pytest.mark.parametrize("path", ["/var/run/docker.sock", "/run/dbus/system_bus_socket", "/run/systemd/private"])
async def test_connecting_to_a_daemon_of_the_host(box: Box, path: str) -> None:
    assert await said(box, f"s = socket.socket(socket.AF_UNIX)\nprint(tried(s.connect, {path!r}))") in ABSENT


async def test_bringing_up_an_interface(box: Box) -> None:
    code = "s = socket.socket(2, 2)\nname = b'eth0'.ljust(16, b'\\0')\n"
    code += "print(*[tried(fcntl.ioctl, s, request, name + bytes(24)) for request in (0x8914, 0x8916, 0x89A0, 0x890B)])"

    assert set((await said(box, code)).split()) <= {"EPERM", "ENODEV", "EACCES"}


async def test_sniffing_what_the_machine_sends(box: Box) -> None:
    code = "print(tried(socket.socket, 17, 3, 0x0300), tried(socket.socket, 2, 3, 6), tried(socket.socket, 2, 3, 255))"

    assert await said(box, code) == "EPERM EPERM EPERM"


async def test_asking_the_kernel_for_routes_and_sockets(box: Box) -> None:
    code = "print({tried(socket.socket, 16, 3, protocol) for protocol in range(23)})"

    assert await said(box, code) == "{'EPERM'}"


async def test_attaching_a_filter_of_its_own_to_a_socket(box: Box) -> None:
    code = """
s = socket.socket(2, 2)
print(*[tried(s.setsockopt, 1, *option) for option in ((50, struct.pack('i', 3)), (25, b'eth0'), (36, 1))])
"""
    answers = (await said(box, code)).split()
    assert set(answers) <= {"EPERM", "EBADF", "EINVAL", "ENODEV", "EACCES", "ENOPROTOOPT"}
