import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard.core import errors
from trainyard.engine import calls, protocol, types
from trainyard.testing import run_specs

MESSAGES = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from(list(protocol.Kind)), st.binary(max_size=200)), max_size=12
)


def wire(messages: list[tuple[int, protocol.Kind, bytes]], part_bytes: int) -> bytes:
    return b"".join(frame for message in messages for frame in protocol.frames(*message, part_bytes=part_bytes))


@given(messages=MESSAGES, part_bytes=st.integers(1, 64), cuts=st.lists(st.integers(0, 4000), max_size=20))
def test_messages_survive_any_split_of_the_bytes(
    messages: list[tuple[int, protocol.Kind, bytes]], part_bytes: int, cuts: list[int]
) -> None:
    raw = wire(messages, part_bytes)
    borders = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    reader, assembler = protocol.FrameReader(), protocol.Assembler()
    arrived = []
    for start, end in itertools.pairwise(borders):
        for frame in reader.feed(raw[start:end]):
            message = assembler.add(frame)
            if message is not None:
                arrived.append((message.stream, message.kind, message.payload))
    assert arrived == messages


def test_parts_of_two_streams_may_alternate() -> None:
    one = list(protocol.frames(1, protocol.Kind.CALL, b"abcd", part_bytes=2))
    two = list(protocol.frames(2, protocol.Kind.CALL, b"wxyz", part_bytes=2))
    reader, assembler = protocol.FrameReader(), protocol.Assembler()
    frames = reader.feed(one[0] + two[0] + one[1] + two[1])
    whole = [message for frame in frames if (message := assembler.add(frame)) is not None]
    assert [(message.stream, message.payload) for message in whole] == [(1, b"abcd"), (2, b"wxyz")]


def test_a_frame_is_a_length_and_an_array_of_four() -> None:
    (raw,) = protocol.frames(7, protocol.Kind.PING, b"")
    assert raw[:4] == (len(raw) - 4).to_bytes(4, "little")
    assert msgspec.msgpack.decode(raw[4:]) == [7, "ping", b"", True]


def test_a_long_message_is_cut_into_frames_under_the_bound() -> None:
    frames = list(protocol.frames(1, protocol.Kind.CALL, bytes(protocol.FRAME_BYTES + 1)))
    assert len(frames) == 9  # 64 MiB + 1 byte in parts of 8 MiB
    assert max(map(len, frames)) < protocol.FRAME_BYTES


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ((101).to_bytes(4, "little"), "a frame of 101 bytes is over the bound of 100"),
        ((3).to_bytes(4, "little") + b"\xc1\xc1\xc1", "cannot be read"),
        ((1).to_bytes(4, "little") + b"\x05", "cannot be read"),
    ],
)
def test_what_is_no_frame_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(protocol.ProtocolError, match=why):
        protocol.FrameReader(frame_bytes=100).feed(raw)


def test_parts_that_never_end_are_refused_at_the_bound() -> None:
    assembler = protocol.Assembler(message_bytes=10)
    assembler.add(protocol.Frame(1, protocol.Kind.CALL, bytes(6), last=False))
    with pytest.raises(protocol.ProtocolError, match="over the bound of 10"):
        assembler.add(protocol.Frame(2, protocol.Kind.CALL, bytes(5), last=False))


def test_parts_of_a_dropped_stream_are_forgotten() -> None:
    assembler = protocol.Assembler()
    assembler.add(protocol.Frame(1, protocol.Kind.CALL, b"old", last=False))
    assembler.drop(1)
    assert assembler.add(protocol.Frame(1, protocol.Kind.CALL, b"new")) == protocol.Frame(1, protocol.Kind.CALL, b"new")


FAMILY = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.TrainyardError)]


@pytest.mark.parametrize("cls", FAMILY)
def test_every_error_comes_back_as_it_was(cls: type[errors.TrainyardError]) -> None:
    sent = cls("what", code="why", param="where", retry_after_s=1.5, data={"a": [1, "b", None], "c": {"d": 2.5}})
    back = protocol.decode_error(protocol.encode_error(sent))
    assert type(back) is cls
    assert vars(back) == vars(sent)


def test_an_error_class_that_is_not_known_here_becomes_the_root() -> None:
    class Newer(errors.Conflict):
        """Not in this version."""

    back = protocol.decode_error(protocol.encode_error(Newer("later")))
    assert type(back) is errors.TrainyardError
    assert back.message == "later"


SPEC = run_specs.make("run_1", "state")
DATUM = types.Datum(tokens=types.int32([1, 2]), targets=types.int32([2, 3]), weights=types.float32([1, 0.5]))


@pytest.mark.parametrize(
    ("call", "run_id"),
    [
        (calls.Info(), None),
        (calls.Stats(), None),
        (calls.GetRunState(run_id="run_1"), None),
        (calls.OpenRun(spec=SPEC), "run_1"),
        (calls.CloseRun(run_id="run_1"), "run_1"),
        (calls.ForwardBackward(run_id="run_1", data=[DATUM], accumulate=True, loss_fn="causal_lm"), "run_1"),
        (calls.OptimStep(run_id="run_1", learning_rate=None), "run_1"),
        (calls.Save(run_id="run_1", mode="merged", directory="out"), "run_1"),
        (
            calls.Generate(
                request=types.GenerateRequest(
                    stream_id="s", prompt=types.int32([1]), sampling=types.Sampling(max_tokens=1)
                )
            ),
            None,
        ),
    ],
)
def test_every_call_comes_back_equal_and_names_the_run_whose_order_it_keeps(
    call: calls.AnyCall, run_id: str | None
) -> None:
    assert protocol.decode(protocol.call_decoder, protocol.encode(call)) == call
    assert calls.run_of(call) == run_id


def test_a_message_over_the_bound_is_refused_before_anything_is_sent() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return protocol.MESSAGE_BYTES + 1

    with pytest.raises(errors.TooLarge, match="send less at once"):
        next(protocol.frames(1, protocol.Kind.CALL, Huge()))
