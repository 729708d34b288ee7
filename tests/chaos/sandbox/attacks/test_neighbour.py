"""What a neighbour notices of bombs: no error, and no more waiting than the bars say.

With a control group for each box: p99 at most max(2 x, + 20 ms) of the calm run; without: p50 at most 3 x, p99 at most
+ 250 ms. A bomb is begun again as soon as it was ended, so that all of the time there is one.
"""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import httpx
import pytest

from tests.chaos.sandbox.attacks.attempts import PRELUDE
from tests.chaos.sandbox.attacks.serving import Attacked, Caller, attacked
from tests.chaos.sandbox.attacks.test_bombs import FORKS, MEMORY
from tests.contract.sandbox.backends.local.host import groups_of, tree_of

CALLS = 100
PAUSE_S = 0.005
TRIES = 3
"""Other programs of this machine are no bombs: the bars are held when one of the tries keeps to them."""
BETWEEN_TRIES_S = 6.0
"""What else keeps the machine busy then, such as other tests, has often ended."""

BOMBS = {
    "processes": FORKS["a_fork_bomb"],
    "processors": "for _ in range(5): os.fork()\nwhile True: pass",
    "memory": MEMORY["in_the_code_itself"],
    "memory_of_children": MEMORY["in_many_children"],
    "files": "while True:\n    with open('f', 'wb') as file:\n        for _ in range(200): file.write(bytes(1 << 20))",
    "inodes": (
        "while True:\n    for n in range(19000): open(f'f{n}', 'w').close()\n"
        "    for n in range(19000): os.unlink(f'f{n}')"
    ),
    "descriptors": "x = []\nwhile True:\n    try: x.append(socket.socketpair())\n    except OSError: x.clear()",
    "output": "while True: os.write(1, b'x' * 65536); os.write(2, b'x' * 65536)",
}


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with attacked(tmp_path_factory.mktemp("neighbours")) as made:
        yield made


def called(caller: Caller, session: str) -> list[float]:
    """Seconds of calls of one session, in order of size; none of them fails."""
    found_s = list[float]()
    for number in range(CALLS):
        began_s = time.perf_counter()
        done = caller.run(f"print(x + {number})", session_id=session)
        found_s.append(time.perf_counter() - began_s)
        assert (done["stdout"], done["stderr"]) == (f"{41 + number}\n", "")
        time.sleep(PAUSE_S)
    return sorted(found_s)


@contextmanager
def bombed(caller: Caller, code: str) -> Iterator[list[int]]:
    """Keep one bomb going; gives the statuses of its answers."""
    statuses, is_over = list[int](), threading.Event()

    def bomb() -> None:
        while not is_over.is_set():
            body = {"code": PRELUDE + code, "lang": "py", "timeout": 3000}
            statuses.append(caller.http.post("/exec", json=body).status_code)

    bombing = threading.Thread(target=bomb)
    bombing.start()
    try:
        time.sleep(0.2)
        yield statuses
    finally:
        is_over.set()
        bombing.join()


def p99(found_s: list[float]) -> float:
    return found_s[math.ceil(0.99 * len(found_s)) - 1]


def excess(calm_s: list[float], found_s: list[float], has_groups: bool) -> str:
    """Say what is above its bar; nothing when all is well."""
    calm, bombed_s = f"calm p50 {median(calm_s):.4f} p99 {p99(calm_s):.4f}", p99(found_s)
    told = f"{calm}, bombed p50 {median(found_s):.4f} p99 {bombed_s:.4f}"
    if has_groups:
        return "" if bombed_s <= max(2 * p99(calm_s), p99(calm_s) + 0.02) else told
    is_well = median(found_s) <= 3 * median(calm_s) and bombed_s <= p99(calm_s) + 0.25
    return "" if is_well else told


def has_groups(yard: Attacked) -> bool:
    return any(map(groups_of, tree_of(yard.server.pid)))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", sorted(BOMBS))
def test_a_neighbour_notices_nothing_of_a_bomb(yard: Attacked, kind: str) -> None:
    session = str(yard.neighbour.run("x = 41")["session_id"])
    told = list[str]()
    for _ in range(TRIES):
        calm_s = called(yard.neighbour, session)
        with bombed(yard.attacker, BOMBS[kind]) as statuses:
            found_s = called(yard.neighbour, session)
        assert set(statuses) == {httpx.codes.OK}
        told.append(excess(calm_s, found_s, has_groups(yard)))
        if not told[-1]:
            break
        time.sleep(BETWEEN_TRIES_S)
    assert "" in told, told
