"""Models behind Ollama's own interface."""

from collections.abc import Sequence

import msgspec

from trainyard.core import errors
from trainyard.core.catalog import ModelEntry
from trainyard.serving.backends.remote import counts, forms, ollama_wire, requests
from trainyard.serving.backends.remote.ollama_wire import OllamaWire
from trainyard.serving.backends.remote.openai_wire import encode, tools_of
from trainyard.serving.backends.remote.prompt import RemotePrompt
from trainyard.serving.backends.remote.upstreams import Upstreams
from trainyard.serving.types import Ask, Chat, EmbedAsk, Prompt, Target, Vectors

_EMBED_PATH = "/api/embed"
_FORM = "response_format"


class _Embeddings(msgspec.Struct):
    embeddings: list[list[float]]
    prompt_eval_count: int | None = None
    model: str | None = None


_read_embeddings = msgspec.json.Decoder(_Embeddings)


class OllamaBackend:
    """Implements `TextBackend` over Ollama."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams

    async def prepare(self, target: Target, ask: Ask) -> Sequence[RemotePrompt]:
        """Refuse what Ollama cannot do, and bound every prompt; nothing is sent."""
        upstream = self._upstreams.get(target.base_model)
        entry = upstream.entry
        if ask.logprobs >= 0:
            raise requests.unsupported(entry, "logprobs", "Ollama is not asked for any")
        check = None if ask.form is None else forms.checker(ask.form, _FORM)
        limit = requests.answer_tokens(ask, entry)
        base = ollama_wire.sampling(ask, entry.upstream_model or entry.name, limit, entry.context_tokens)
        return [
            RemotePrompt(upstream, _wire(prompt, ask, entry, base), counts.prompt_bound(prompt), ask.seed, check)
            for prompt in ask.prompts
        ]

    async def count(self, target: Target, ask: EmbedAsk) -> int:
        """Bound the tokens of texts by their bytes."""
        return requests.embed_bound(ask)

    async def embed(self, target: Target, ask: EmbedAsk, timeout_s: float) -> Vectors:
        """Embed on the upstream; `dimensions` is cut here."""
        upstream = self._upstreams.get(target.base_model)
        entry = upstream.entry
        if not all(isinstance(text, str) for text in ask.inputs):
            raise errors.InvalidRequest(f"{entry.name} embeds text, no token ids", param=ask.param)
        body = {"model": entry.upstream_model or entry.name, "input": ask.inputs}

        def decode(raw: bytes) -> Vectors:
            answer = requests.read(_read_embeddings, raw, entry.name)
            return requests.vectors(ask, entry, answer.embeddings, answer.prompt_eval_count, answer.model)

        return await upstream.whole(_EMBED_PATH, encode(body), timeout_s, decode)


def _wire(prompt: Prompt, ask: Ask, entry: ModelEntry, base: ollama_wire.Body) -> OllamaWire:
    if isinstance(prompt, Chat):
        tools = _tools(prompt, ask, entry)
        own = msgspec.structs.replace(base, messages=ollama_wire.turns(prompt, ask.param), tools=tools)
        return OllamaWire(own, "/api/chat")
    if not isinstance(prompt, str):
        raise errors.InvalidRequest(f"{entry.name} reads chats and text, no token ids", param=ask.param)
    return OllamaWire(msgspec.structs.replace(base, prompt=prompt, raw=True), "/api/generate")


def _tools(chat: Chat, ask: Ask, entry: ModelEntry) -> Sequence[dict[str, object]]:
    if not chat.tools or ask.tool_choice == "none":
        return ()
    if ask.tool_choice != "auto":
        raise requests.unsupported(entry, "tool_choice", "Ollama lets the model decide; send auto or none")
    if not ask.parallel_tool_calls:
        raise requests.unsupported(entry, "parallel_tool_calls", "Ollama lets the model decide")
    tools: Sequence[dict[str, object]] = tools_of(chat, ask)["tools"]
    return tools
