import errno
import hashlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from tests.unit.sandbox.inside.values import dump, fresh, reasons, through
from trainyard.sandbox.inside import container, state
from trainyard.sandbox.types.orders import Dumped, Loaded


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def passing_module(tmp_path: Path) -> Iterator[Any]:
    """A module that can be imported until `gone` is called."""
    module = types.ModuleType("passing")
    exec("class Thing: pass\ndef function(): return 1", module.__dict__)  # noqa: S102 - stands for a file of the user
    sys.modules["passing"] = module
    yield lambda: sys.modules.pop("passing")
    sys.modules.pop("passing", None)


@pytest.mark.parametrize(
    ("code", "question", "answer"),
    [
        ("x = 41", "x + 1", 42),
        ("x = {'a': [1, (2, {3})]}", "x", {"a": [1, (2, {3})]}),
        ("_hidden = 5", "_hidden", 5),
        ("def f(a, *, b=2): return a + b", "f(1)", 3),
        ("x = 1\ndef f(): return x", "(globals().update(x=7), f())[1]", 7),
        ("n = 0\ndef f():\n    global n\n    n += 1", "(f(), f(), n)[2]", 2),
        ("f = lambda n: 1 if n == 0 else n * f(n - 1)", "f(5)", 120),
        (
            "def outer():\n    def rec(n): return 1 if n == 0 else n * rec(n - 1)\n    return rec\nr = outer()",
            "r(5)",
            120,
        ),
        (
            "def pair():\n    n = 0\n    def up():\n        nonlocal n\n        n += 1\n"
            "    def get(): return n\n    return up, get\nup, get = pair()",
            "(up(), up(), get())[2]",
            2,
        ),
        ("def f(): return 1\nf.mark = 'kept'", "f.mark", "kept"),
        (
            "class A:\n    def __init__(self, v): self.v = v\n    def twice(self): return self.v * 2\na = A(4)",
            "a.twice()",
            8,
        ),
        ("class A: pass\na = A()", "type(a) is A", True),
        (
            "class A:\n    def who(self): return 'A'\n"
            "class B(A):\n    def who(self): return super().who() + 'B'\nb = B()",
            "b.who()",
            "AB",
        ),
        ("import math", "math.pi > 3", True),
        ("import urllib.request", "urllib.request.__name__", "urllib.request"),
        ("import enum\nclass C(enum.Enum):\n    RED = 1\nc = C.RED", "c is C.RED", True),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\np = P(3)", "p == P(3)", True),
        ("a = [1]\nb = a", "b is a", True),
        ("a = [1]\nb = {'deep': (a,)}", "b['deep'][0] is a", True),
        ("a = []\na.append(a)", "a[0] is a", True),
        ("g = globals()", "g is globals()", True),
        ("import sys\nout = sys.stdout", "out is sys.stdout", True),
        ("import numpy as np\na = np.arange(6).reshape(2, 3).T", "a.tolist()", [[0, 3], [1, 4], [2, 5]]),
        ("import numpy as np\na = np.arange(100_000)\nb = [a]", "b[0] is a and int(a.sum())", 4_999_950_000),
        ("import numpy as np\na = np.arange(100_000)[::2]", "int(a[-1])", 99_998),
        ("import numpy as np\na = np.asfortranarray(np.ones((300, 300)))", "a.flags.f_contiguous", True),
        ("chain = None\nfor i in range(1500):\n    chain = [chain]", "len(chain)", 1),
    ],
)
def test_a_variable_comes_back_as_it_was(code: str, question: str, answer: object, path: Path) -> None:
    namespace, dumped, loaded = through(code, path)
    assert dumped["dropped"] == loaded["dropped"] == []
    assert eval(question, namespace) == answer  # noqa: S307 - it stands for the code of the next run


@pytest.mark.parametrize(
    ("code", "name", "reason"),
    [
        ("import threading\nx = threading.Lock()", "x", "cannot pickle '_thread.lock' object"),
        ("import threading\nx = threading.Thread(target=print)", "x", "cannot pickle"),
        ("import socket\nx = socket.socket()\nx.close()", "x", "cannot pickle 'socket' object"),
        ("x = (i for i in [])", "x", "cannot pickle 'generator' object"),
        ("x = open('/dev/null')", "x", "an open file cannot be kept"),
        ("x = open('/dev/null', 'rb')", "x", "cannot pickle"),
        ("x = [{'deep': open('/dev/null')}]", "x", "an open file cannot be kept"),
        ("class X:\n    def __reduce__(self): raise SystemExit('out')\nx = X()", "x", "SystemExit: out"),
        ("class X:\n    def __reduce__(self): return 5\nx = X()", "x", "PicklingError"),
        ("x = None\nfor i in range(100_000):\n    x = [x]", "x", "recursion"),
    ],
)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_what_cannot_be_kept_is_named_and_the_rest_is_kept(code: str, name: str, reason: str, path: Path) -> None:
    namespace, dumped, _ = through(f"first = [1]\n{code}\nlast = [first]", path)
    assert reason in reasons(dumped)[name]
    assert list(reasons(dumped)) == [name]
    assert namespace["last"][0] is namespace["first"]
    assert namespace["first"] == [1]


def test_what_failed_half_way_leaves_nothing_in_what_shares_with_it(path: Path) -> None:
    code = "shared = {'a': 1}\nbad = [shared, (i for i in [])]\ngood = [shared]"
    namespace, dumped, _ = through(code, path)
    assert dumped["kept"] == ["shared", "good"]
    assert namespace["good"][0] is namespace["shared"]


def test_the_reports_are_those_of_the_orders(path: Path) -> None:
    _, dumped, loaded = through("x = 1\ny = (i for i in [])", path)
    assert msgspec.convert(dumped, Dumped, strict=True).kept == ["x"]
    assert msgspec.convert(loaded, Loaded, strict=True).restored == ["x"]
    assert dumped["size_bytes"] == path.stat().st_size
    assert dumped["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_names_of_the_interpreter_and_no_identifiers_are_left_out(path: Path) -> None:
    namespace = fresh("given = 1\nown = 2\nglobals()['no name'] = 3\n__mine__ = 4")
    assert dump(namespace, {"given"}, path, 1 << 20)["kept"] == ["own"]


def test_the_largest_go_first_when_there_is_too_much(path: Path) -> None:
    code = "small = 'x' * 100\nlarge = b'y' * 60_000\nmiddle = b'z' * 50_000\nother = [large]"
    dumped = dump(fresh(code), (), path, 56_000)
    assert dumped["kept"] == ["small", "middle"]
    assert reasons(dumped) == {
        "large": "TooLarge: larger than the 56000 bytes of a checkpoint",
        "other": "TooLarge: larger than the 56000 bytes of a checkpoint",
    }
    dumped = dump(fresh(code), (), path, 100_000)
    assert dumped["kept"] == ["small", "middle"]
    assert "with the others more than 100000" in reasons(dumped)["large"]
    assert path.stat().st_size == dumped["size_bytes"] <= 100_000


def test_one_array_with_two_names_takes_its_place_once(path: Path) -> None:
    dumped = dump(fresh("import numpy as np\na = np.zeros(100_000)\nb = a"), (), path, 1 << 20)
    assert 800_000 <= dumped["size_bytes"] < 810_000
    assert dumped["dropped"] == []


def test_a_restored_array_can_be_written_and_the_file_stays_as_it_is(path: Path) -> None:
    namespace, _, _ = through("import numpy as np\na = np.zeros(100_000)\nb = np.zeros(3)", path)
    before = path.read_bytes()
    namespace["a"][:] = 1
    namespace["b"][:] = 1
    assert path.read_bytes() == before
    path.unlink()
    assert namespace["a"].sum() == 100_000


def test_a_read_only_array_stays_read_only(path: Path) -> None:
    code = "import numpy as np\na = np.zeros(100_000)\na.flags.writeable = False"
    namespace, _, _ = through(code, path)
    assert not namespace["a"].flags.writeable


def test_a_large_buffer_is_aligned_and_is_not_copied(path: Path) -> None:
    namespace, _, _ = through("import numpy as np\na = np.zeros(5000)\nb = np.ones(5001, 'u1').repeat(5)", path)
    header = container.state_header(path.read_bytes())
    assert [begin % container.ALIGNMENT for begin, _ in header.buffers()] == [0, 0]
    assert not namespace["a"].flags.owndata
    assert np.shares_memory(namespace["a"], namespace["a"].base)


def test_a_state_that_was_loaded_can_be_dumped_over_itself(path: Path) -> None:
    namespace, _, _ = through("import numpy as np\na = np.arange(100_000)\ndef f(): return int(a[-1])", path)
    for _ in range(3):
        dump(namespace, (), path, 1 << 20)
        namespace = fresh()
        state.load(namespace, path)
    assert namespace["f"]() == 99_999


def test_a_module_that_is_gone_takes_only_what_needs_it(path: Path, passing_module: Any) -> None:
    code = (
        "import passing\nimport numpy as np\nlost = [1, passing.Thing()]\nalias = lost\nholder = {'k': lost}\n"
        "class Child(passing.Thing): pass\nchild = Child()\nfunction = passing.function\n"
        "hidden = np.array([passing.Thing()], dtype=object)\n"
        "class Own: pass\nown = Own()\nown.v = [1]\nheld = Own()\nheld.v = lost\ndef default(a=lost): return a\n"
        "array = np.arange(10_000)\nmapping = {'a': own}\ndef f(): return int(array[-1])\ntext = 'lost'"
    )
    dump(fresh(code), (), path, 1 << 20)
    passing_module()
    namespace = fresh()
    loaded = state.load(namespace, path)
    assert loaded["restored"] == ["np", "Own", "own", "array", "mapping", "f", "text"]
    assert set(reasons(loaded).values()) == {"ModuleNotFoundError: No module named 'passing'"}
    assert namespace["mapping"]["a"] is namespace["own"]
    assert (namespace["own"].v, namespace["f"]()) == ([1], 9_999)


@pytest.mark.parametrize(
    "fault",
    [
        "def __setstate__(self, state): raise ValueError('not me')",
        "def __reduce__(self): return int, ('not me',)",
        "def __reduce__(self): return list, (), None, None, iter([(1, 2)])",
        "def __reduce__(self): return dict, (), None, None, iter([([], 2)])",
    ],
    ids=["state", "call", "items", "key"],
)
def test_an_object_that_cannot_be_made_takes_only_what_holds_it(fault: str, path: Path) -> None:
    code = (
        f"before = [1]\nclass Bad:\n    def __init__(self): self.a = 1\n    {fault}\n"
        "bad = Bad()\nholder = [before, bad]\n"
        "class Good:\n    def __init__(self, v): self.v = v\ngood = Good(before)\nnot_good = Good(bad)\n"
    )
    namespace, dumped, loaded = through(code, path)
    assert dumped["dropped"] == []
    assert loaded["restored"] == ["before", "Bad", "Good", "good"]
    assert set(reasons(loaded)) == {"bad", "holder", "not_good"}
    assert namespace["good"].v is namespace["before"]


def test_code_of_another_python_is_refused_and_data_comes_back(path: Path) -> None:
    code = (
        "import numpy as np\na = np.arange(10_000)\ndef f(): return 1\nclass C:\n    def m(self): pass\n"
        "c = C()\nt = [f]\nx = 1"
    )
    dump(fresh(code), (), path, 1 << 20)
    content = path.read_bytes()
    header = container.state_header(content)
    _, start = container.build("3.9.11"[: len(header.python)], header.pickles_sha256, header.variables)
    path.write_bytes(start + content[header.body_at :])
    namespace = fresh()
    loaded = state.load(namespace, path)
    assert loaded["restored"] == ["np", "a", "x"]
    assert list(reasons(loaded)) == ["f", "C", "c", "t"]
    assert all("code that Python 3.9" in reason for reason in reasons(loaded).values())


@pytest.mark.parametrize("length", [0, 1, 4, 5, 60, -1])
def test_a_truncated_state_is_told_and_changes_nothing(length: int, path: Path) -> None:
    dump(fresh("import numpy as np\na = np.zeros(10_000)\nx = 1"), (), path, 1 << 20)
    path.write_bytes(path.read_bytes()[:length])
    namespace = fresh()
    with pytest.raises(container.BadState):
        state.load(namespace, path)
    assert namespace.keys() == fresh().keys()


def test_every_flipped_bit_of_a_pickle_is_told(path: Path) -> None:
    dump(fresh("def f(): return 1\nx = [1, 'a', f]"), (), path, 1 << 20)
    whole = path.read_bytes()
    header = container.state_header(whole)
    for at in range(header.body_at, header.buffers_at):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(container.BadState, match="not those that were written"):
            state.load({}, path)


@pytest.mark.parametrize(
    ("pickles", "restored", "reason"),
    [
        ([b"(K\x01t.", b"garbage"], ["v0"], "the state is damaged: "),
        ([b"\x80\x05K\x01.", b"(K\x01t."], [], "the pickle of a variable is not one of a state"),
        ([b"", b"(K\x01t."], [], "the pickle of a variable is not one of a state"),
        ([b"\x80\x05\x97\x85.", b"(K\x01t."], [], "out-of-band"),
        ([b"h\x05.", b"(K\x01t."], [], "the state is damaged: "),
        ([b"cos\nno_such_name\n\x85.", b"(K\x01t."], ["v1"], "no_such_name"),
    ],
)
def test_hostile_pickles_are_told(pickles: list[bytes], restored: list[str], reason: str, path: Path) -> None:
    variables = tuple(container.Variable(f"v{at}", len(one), ()) for at, one in enumerate(pickles))
    header, start = container.build(sys.version.split()[0], hashlib.sha256(b"".join(pickles)).hexdigest(), variables)
    path.write_bytes(start + b"".join(pickles))
    loaded = state.load({}, path)
    assert loaded["restored"] == restored
    assert reason in next(iter(reasons(loaded).values()))
    assert header.size_bytes == path.stat().st_size


def test_a_dunder_name_in_a_state_is_refused(path: Path) -> None:
    _, start = container.build("3.11.1", "", (container.Variable("__builtins__", 0, ()),))
    path.write_bytes(start)
    with pytest.raises(container.BadState, match="no variable of the name '__builtins__'"):
        state.load({}, path)


def test_a_dump_that_cannot_be_written_says_so() -> None:
    with Path("/dev/full").open("wb") as file, pytest.raises(OSError, match=r".") as raised:
        state.dump(fresh("x = 2"), (), file.fileno(), 1 << 20)
    assert raised.value.errno == errno.ENOSPC


def test_an_interrupt_ends_a_dump(path: Path) -> None:
    code = "class X:\n    def __reduce__(self): raise KeyboardInterrupt\nx = X()"
    with pytest.raises(KeyboardInterrupt):
        dump(fresh(code), (), path, 1 << 20)
    assert path.read_bytes() == b""


@pytest.mark.parametrize(
    ("code", "kept", "others"),
    [
        ("a = 1\nglobals()['x' * (1 << 20)] = 2\nb = 3", ["a"], 2),
        ("for number in range(30_000): globals()[f'v{number}'] = 0\ndel number", None, None),
    ],
)
def test_names_that_a_header_has_no_room_for_are_left_out(
    path: Path, code: str, kept: list[str] | None, others: int | None
) -> None:
    dumped = dump(fresh(code), (), path, 64 << 20)

    header = container.state_header(path.read_bytes())
    assert [variable.name for variable in header.variables] == dumped["kept"]
    assert header.body_at <= container.MAX_HEADER_BYTES
    assert kept is None or dumped["kept"] == kept
    (reason,) = reasons(dumped).values()
    assert others is None or f"with it {others} have no room" in reason


def test_a_name_that_is_no_text_is_refused() -> None:
    _, start = container.build("3.11.1", "", (container.Variable("\ud800", 0, ()),))
    with pytest.raises(container.BadState, match="another form"):
        container.state_header(start)
