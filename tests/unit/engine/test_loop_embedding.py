"""Embedding in the compute loop: one step per round beside decode ticks, in order, and let go of in every ending."""

from tests.unit.engine.test_loop import Notes
from trainyard.core import errors
from trainyard.engine import calls, types
from trainyard.engine.fake_core import FakeCore
from trainyard.engine.fake_embedding import FakeEmbedding
from trainyard.engine.loop import ComputeLoop


class NotedEmbedding(FakeEmbedding):
    def __init__(self, request: types.EmbedRequest, texts: list[list[int]], closed: list[int], *, fails: bool) -> None:
        super().__init__(request, texts, "base")
        self._closed, self._fails = closed, fails

    def step(self) -> bool:
        if self._fails:
            raise ArithmeticError("the step broke")
        return super().step()

    def close(self) -> None:
        self._closed.append(len(self._texts))


class NotedCore(FakeCore):
    def __init__(self, *, fails: bool = False) -> None:
        super().__init__()
        self.closed: list[int] = []
        self._fails = fails

    def begin_embedding(self, request: types.EmbedRequest) -> FakeEmbedding:
        texts = [types.read_int32(raw) for raw in request.inputs]
        return NotedEmbedding(request, texts, self.closed, fails=self._fails)


def embed(texts: int) -> calls.Embed:
    return calls.Embed(request=types.EmbedRequest(inputs=(types.int32([1, 2]),) * texts))


def generate(max_tokens: int) -> calls.Generate:
    sampling = types.Sampling(max_tokens=max_tokens)
    return calls.Generate(request=types.GenerateRequest(stream_id="s", prompt=types.int32([1]), sampling=sampling))


def rounds(loop: ComputeLoop, count: int) -> None:
    for _ in range(count):
        loop.round(0)


def test_each_round_decodes_a_token_and_computes_one_step() -> None:
    core, notes = NotedCore(), Notes()
    loop = ComputeLoop(core)
    loop.submit(notes, 1, generate(20))
    loop.submit(notes, 2, embed(3))
    rounds(loop, 2)
    assert (len(notes.streams[1]), notes.results) == (2, {})
    rounds(loop, 1)
    result = notes.results[2]
    assert isinstance(result, types.EmbedResult)
    assert len(result.vectors) == 3
    assert (len(notes.streams[1]), core.closed) == (3, [3])


def test_requests_are_answered_in_order_of_arrival() -> None:
    core, notes = NotedCore(), Notes()
    loop = ComputeLoop(core)
    for number, texts in ((1, 3), (2, 1)):
        loop.submit(notes, number, embed(texts))
    rounds(loop, 3)
    assert list(notes.results) == [1]
    rounds(loop, 1)
    assert (list(notes.results), core.closed) == ([1, 2], [3, 1])


def test_a_request_that_is_taken_back_is_let_go_and_the_next_one_goes_on() -> None:
    core, notes, other = NotedCore(), Notes(), Notes()
    loop = ComputeLoop(core)
    loop.submit(notes, 1, embed(9))
    loop.submit(other, 1, embed(8))
    loop.submit(notes, 2, embed(1))
    rounds(loop, 1)
    loop.cancel(notes, 1)
    loop.drop(other)
    rounds(loop, 1)
    assert core.closed == [9, 8, 1]
    assert (list(notes.results), other.results, notes.errors) == ([2], {}, {})


def test_a_step_that_fails_is_an_error_of_its_caller_alone() -> None:
    core, notes = NotedCore(fails=True), Notes()
    loop = ComputeLoop(core)
    loop.submit(notes, 1, embed(2))
    rounds(loop, 1)
    assert "the step broke" in notes.errors[1].message
    assert core.closed == [2]
    rounds(loop, 1)


def test_a_request_that_waits_at_the_end_is_refused() -> None:
    core, notes = NotedCore(), Notes()
    loop = ComputeLoop(core)
    loop.submit(notes, 1, embed(1_000_000))  # a step each: the drain comes first
    loop.start()
    loop.drain()
    assert isinstance(notes.errors[1], errors.Unavailable)
    assert notes.results == {}
