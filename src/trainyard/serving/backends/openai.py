"""Models behind any server that speaks OpenAI's dialect."""

from collections.abc import Sequence

import msgspec

from trainyard.core import errors
from trainyard.core.catalog import ModelEntry
from trainyard.serving.backends.remote import counts, forms, openai_wire, requests
from trainyard.serving.backends.remote.forms import Check
from trainyard.serving.backends.remote.prompt import RemotePrompt
from trainyard.serving.backends.remote.upstreams import Upstreams
from trainyard.serving.types import Ask, Chat, EmbedAsk, Prompt, Target, Vectors

_EMBED_PATH = "/embeddings"
_FORM = "response_format"


class _Row(msgspec.Struct):
    embedding: list[float]
    index: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None


class _Embeddings(msgspec.Struct):
    data: list[_Row]
    usage: _Usage | None = None
    model: str | None = None


_read_embeddings = msgspec.json.Decoder(_Embeddings)


class OpenAIBackend:
    """Implements `TextBackend` over upstreams of that dialect."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams

    async def prepare(self, target: Target, ask: Ask) -> Sequence[RemotePrompt]:
        """Refuse what the upstream cannot do, and bound every prompt; nothing is sent."""
        upstream = self._upstreams.get(target.base_model)
        entry = upstream.entry
        _refuse(ask, entry)
        check = None if ask.form is None else forms.checker(ask.form, _FORM)
        base = openai_wire.sampling(ask, entry.upstream_model or entry.name, requests.answer_tokens(ask, entry))
        base.response_format = openai_wire.response_format(ask.form)
        prepared = []
        for prompt in ask.prompts:
            wire = _wire(prompt, ask, entry, base, check)
            prepared.append(RemotePrompt(upstream, wire, counts.prompt_bound(prompt), ask.seed, check))
        return prepared

    async def count(self, target: Target, ask: EmbedAsk) -> int:
        """Bound the tokens of texts by their bytes."""
        return requests.embed_bound(ask)

    async def embed(self, target: Target, ask: EmbedAsk, timeout_s: float) -> Vectors:
        """Embed on the upstream; `dimensions` is cut here, so that it works for every server."""
        upstream = self._upstreams.get(target.base_model)
        entry = upstream.entry
        body = {"model": entry.upstream_model or entry.name, "input": ask.inputs, "encoding_format": "float"}

        def decode(raw: bytes) -> Vectors:
            answer = requests.read(_read_embeddings, raw, entry.name)
            rows = [row.embedding for row in sorted(answer.data, key=lambda row: row.index)]
            tokens = answer.usage.prompt_tokens if answer.usage else None
            return requests.vectors(ask, entry, rows, tokens, answer.model)

        return await upstream.whole(_EMBED_PATH, openai_wire.encode(body), timeout_s, decode)


def _refuse(ask: Ask, entry: ModelEntry) -> None:
    """Refuse parameters that are not OpenAI's, unless the operator says that this server knows them."""
    for name in ("top_k", "min_p"):
        if getattr(ask, name) and name not in entry.extra_parameters:
            raise requests.unsupported(
                entry, name, "its server speaks OpenAI's dialect; the operator can allow it by extra_parameters"
            )


def _wire(
    prompt: Prompt, ask: Ask, entry: ModelEntry, base: openai_wire.Body, check: Check | None
) -> openai_wire.ChatWire | openai_wire.CompletionWire:
    if isinstance(prompt, str) and entry.text_prompts == "chat":
        prompt = Chat([{"role": "user", "content": prompt}])
    if isinstance(prompt, Chat):
        changes = openai_wire.tools_of(prompt, ask)
        if ask.logprobs >= 0:
            changes |= {"logprobs": True, "top_logprobs": ask.logprobs}
        if entry.length_parameter != "max_tokens":
            changes |= {"max_tokens": 0, entry.length_parameter: base.max_tokens}
        return openai_wire.ChatWire(msgspec.structs.replace(base, **changes) if changes else base, prompt.messages)
    if not isinstance(prompt, str):
        if entry.text_prompts == "chat":
            raise errors.InvalidRequest(
                f"{entry.name} reads chats and text, no token ids (text_prompts: chat)", param=ask.param
            )
        if check is not None:
            raise requests.unsupported(entry, _FORM, "the prompt is token ids, which cannot be asked again in words")
    own = msgspec.structs.replace(
        base, response_format=None, logprobs=None if ask.logprobs < 0 else ask.logprobs
    )  # /completions has no formats; the answer is checked all the same
    return openai_wire.CompletionWire(own, prompt)
