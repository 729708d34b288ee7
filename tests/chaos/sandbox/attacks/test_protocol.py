"""Attacks on the two ends of the interpreter's socket: what code says in its name, and what it finds there."""

import pytest

from tests.chaos.sandbox.attacks.attempts import PRELUDE, is_well, said
from tests.contract.sandbox.backends.local.grounds import Grounds
from tests.contract.sandbox.backends.orders import put, read, run, shell
from trainyard.core import errors
from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.types.orders import Program, Step

pytestmark = pytest.mark.asyncio(loop_scope="session")

FORGE = (
    PRELUDE
    + """
import json
def token():
    here = sys._getframe()
    while 'order' not in here.f_locals: here = here.f_back
    return here.f_locals['order']['id']
def say(**header):
    head = json.dumps(header).encode()
    for link in links(): os.write(link, struct.pack('!II', len(head), 0) + head)
"""
)


@pytest.mark.parametrize("count", [-1, 1 << 31, 1 << 64, 10**4000, 1.5, True, None, [], "1"])
async def test_naming_a_number_of_variables_that_is_none(box: Box, count: object) -> None:
    code = f"""
{FORGE}say(id=token(), event='done', exit_code=0, variables={count!r}, is_fresh=False, results=[])
time.sleep(9)
"""

    kept = await run(box, code, timeout_s=5)

    assert 0 <= kept.report.variables < 1 << 31
    await run(box, "1", timeout_s=2)


@pytest.mark.parametrize("code", ["io_error", "unknown", "busy", "", "not_found"])
async def test_refusing_a_checkpoint_in_the_name_of_the_runner(box: Box, code: str) -> None:
    lie = f"say(id=token(), event='failed', code={code!r}, message='lie' * 1000)"
    await run(box, f"{FORGE}class A:\n    def __reduce__(self):\n        {lie}\n        return list, ()\na = A()")

    with pytest.raises(errors.TrainyardError):
        await box.dump(1 << 20)

    await run(box, "1", timeout_s=2)
    await is_well(box)


async def test_sending_descriptors_to_the_runner(box: Box) -> None:
    code = f"""
{PRELUDE}nothing = os.open('/dev/null', 0)
for link in links():
    s = socket.socket(fileno=os.dup(link))

"""
    code += "    for _ in range(50): socket.send_fds(s, [b'x' * 100], [nothing] * 200)\ntime.sleep(1)"

    kept = await run(box, code, timeout_s=5)

    assert kept.report.wall_s < 5


async def test_keeping_a_descriptor_of_the_runner(box: Box) -> None:
    code = """
found = set()
for name in os.listdir('/proc/self/fd'):
    try: found.add(os.readlink(f'/proc/self/fd/{name}').split(':')[0])
    except FileNotFoundError: pass  # that of the listing
print(found <= {'/dev/null', 'pipe', 'socket'})
"""
    assert await said(box, code) == "True"


HELD = (
    PRELUDE
    + """
class Thief:
    def __reduce__(self):
        global held
        held = []
        for name in list(map(int, os.listdir('/proc/self/fd'))):
            try: held.append((os.dup(name), os.readlink(f'/proc/self/fd/{name}')))
            except OSError: pass
        return list, ()
thief = Thief()
"""
)


async def test_reaching_the_runners_files_by_a_descriptor_from_a_checkpoint(box: Box) -> None:
    await run(box, HELD)
    await box.dump(1 << 20)
    code = """
found = []
for descriptor, name in held:
    for path in ('..', '../artifact', 'state', '.'):
        try: found.append(os.open(path, os.O_RDONLY, dir_fd=descriptor))
        except OSError: pass
print([os.listdir(one) for one in found])
"""
    kept = await run(box, code)

    assert kept.stdout == b"[]\n"


async def test_changing_a_program_on_its_way_out_of_the_box(box: Box) -> None:
    await run(box, HELD)
    await box.dump(1 << 20)
    steal = (
        "for pid in /proc/[0-9]*; do for fd in $pid/fd/*; do\n"
        "  [ -d $fd ] && echo evil 2>/dev/null > $fd/artifact; [ -f $fd ] && echo evil 2>/dev/null > $fd\n"
        "done; done; true"
    )
    compiled = Program(
        file="main.sh",
        steps=(Step(phase="compile", argv=("cp", "{file}", "{dir}/built")), Step(phase="run", argv=("sh", "{file}"))),
        artifact="built",
    )
    await run(box, steal, program=compiled)

    assert await read(box, "artifact", "spool") == steal.encode()


async def test_answering_an_order_of_somebody_else(box: Box, neighbour: Box) -> None:
    code = f"""
{FORGE}for number in range(200): say(id=number, event='done', exit_code=0, variables=0, is_fresh=True, results=[])
"""

    await run(box, code, timeout_s=5)

    assert (await run(neighbour, "print(x)")).stdout == b"41\n"


async def test_reading_what_is_uploaded_to_the_runner_before_it_is_complete(box: Box) -> None:
    await put(box, "given/secret.txt", b"given")
    kept = await shell(box, "ls -a given; rm -rf given; ln -s /etc given")

    assert kept.stdout.split() == [b".", b"..", b"secret.txt"]
    with pytest.raises(errors.InvalidRequest):
        await put(box, "given/passwd", b"evil")


async def test_using_up_the_descriptors_on_their_way_of_everybody(ground: Grounds, box: Box, neighbour: Box) -> None:
    """Linux counts them by user of the host; as an ordinary user all boxes are one."""
    code = """
pairs = [socket.socketpair() for _ in range(20)]
nothing = os.open('/dev/null', os.O_RDONLY)
for ours, _ in pairs:
    ours.setblocking(False)
    try:
        while True: socket.send_fds(ours, [b'x'], [nothing] * 250)
    except OSError: pass
held = True
"""
    assert (await run(box, PRELUDE + code)).report.is_success

    kept = await run(neighbour, "print(x)")
    other = await ground.backend.take("lean", "third")

    assert (kept.stdout, kept.report.was_reset) == (b"41\n", False)
    assert (await run(other, "print(1)")).stdout == b"1\n"
    await other.close()


async def test_using_up_the_pipes_of_everybody(box: Box, neighbour: Box) -> None:
    code = """
held = []
for _ in range(12):
    if not os.fork():
        try:
            while True:
                held.append(os.pipe())
                os.set_blocking(held[-1][1], False)
                os.write(held[-1][1], bytes(1 << 16))
        except OSError: time.sleep(20)
        os._exit(0)
print('full', flush=True)
time.sleep(1)
"""
    assert (await run(box, PRELUDE + code, timeout_s=20)).stdout.startswith(b"full")

    assert (await run(neighbour, "print('y' * 60000)", output_bytes=1 << 17)).stdout == b"y" * 60000 + b"\n"
