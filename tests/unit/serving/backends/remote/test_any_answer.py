"""Whatever a server sends, it is read or told apart; nothing else is ever raised."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard.serving.backends.remote import ollama_wire
from trainyard.serving.backends.remote.ollama_wire import OllamaWire
from trainyard.serving.backends.remote.openai_wire import Body, ChatWire, CompletionWire
from trainyard.serving.backends.remote.wire import Filtered, Garbage, Reported, Wire
from trainyard.serving.types import Ask, Piece

ASK = Ask(model=None, prompts=["hi"], param="messages", default_max_tokens=20)
BASE = Body(model="m", max_tokens=20, temperature=1.0, top_p=1.0)
WIRES: list[Wire] = [
    ChatWire(BASE, []),
    CompletionWire(BASE, "hi"),
    OllamaWire(ollama_wire.sampling(ASK, "m", 20, None), "/api/chat"),
]
NAMES = tuple(
    "choices message delta content text finish_reason logprobs tool_calls function name arguments id "  # noqa: SIM905 - readable
    "prompt_tokens completion_tokens prompt_tokens_details cached_tokens tokens token token_logprobs top_logprobs "
    "index usage bytes logprob model error done done_reason response eval_count prompt_eval_count".split()
)

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(NAMES)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
)
choices = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(("message", "delta", "text", "finish_reason", "logprobs", "index"), values),
)
likely = st.fixed_dictionaries(
    {"choices": st.lists(choices, max_size=2)},
    optional=dict.fromkeys(("usage", "model", "error", "message", "done", "response"), values),
)


def written(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("wire", WIRES)
@given(raw=st.one_of(st.binary(max_size=60), values.map(written), likely.map(written)))
def test_every_body_is_an_answer_or_a_fault(wire: Wire, raw: bytes) -> None:
    with contextlib.suppress(Garbage, Reported, Filtered):
        piece = wire.whole(raw)
        assert isinstance(piece, Piece)
        assert piece.finish_reason is not None
        assert piece.completion_tokens >= 0
    with contextlib.suppress(Garbage, Reported, Filtered):
        reader = wire.reader()
        reader.push(raw)
        reader.end()
