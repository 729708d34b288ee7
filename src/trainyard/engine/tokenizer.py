"""Tokenizer of a model directory: text to ids and back, chats to ids, free of torch and transformers.

Reads `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json`, `chat_template.jinja` or
`chat_template.json`, `generation_config.json` and `config.json`. Ids equal those of transformers' fast tokenizers.
"""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tokenizers

from trainyard.core import errors
from trainyard.engine import chat_template, tokenizer_files
from trainyard.engine.chat_template import Messages

if TYPE_CHECKING:
    from trainyard.core.catalog import Change, ModelRegistry

Answer = TypeVar("Answer")

LONG_TEXT_CHARS = 8 * 1024
"""Text beyond this is encoded in a thread; measured at 0.4 µs per character, so the event loop waits 3 ms at most."""
_BYTE_TOKEN = re.compile("<0x([0-9A-F]{2})>")


def _bytes_by_character() -> dict[str, int]:
    """Invert the byte alphabet of byte-level BPE: printable Latin-1 stands for itself, the rest follows from U+0100.

    Source:
        Radford et al. 2019 (GPT-2), `bytes_to_unicode` of the published encoder.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + at): byte for at, byte in enumerate(others)}


_BYTE_OF = _bytes_by_character()


class Tokenizer:
    """Vocabulary, special tokens and chat template of one model; safe to use from several threads.

    Attributes:
        vocab_size: Ids that the vocabulary holds, added tokens included.
        model_max_length: Longest sequence in tokens; None when neither the tokenizer nor the model names one.
        bos_id, eos_id, pad_id, unk_id: Ids of the named special tokens; None where absent.
        eos_ids: Every id that ends a turn: the end-of-sequence token and the list in `generation_config.json`.
        special_ids: Every id that stands for no text: control tokens, those that end a turn among them.
        special_tokens: Named special tokens, such as `{"eos_token": "</s>"}`.
        chat_template: Jinja source; None when the model has none.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        special_tokens: dict[str, str],
        template: str | None,
        eos_ids: Sequence[int],
        model_max_length: int | None,
        is_byte_level: bool,
    ) -> None:
        self._backend = backend
        self._is_byte_level = is_byte_level
        self.special_tokens = special_tokens
        self.chat_template = template
        self.vocab_size: int = backend.get_vocab_size(with_added_tokens=True)
        self.model_max_length = model_max_length
        self.bos_id, self.eos_id = self._id_of("bos_token"), self._id_of("eos_token")
        self.pad_id, self.unk_id = self._id_of("pad_token"), self._id_of("unk_token")
        listed = {*eos_ids, *([] if self.eos_id is None else [self.eos_id])}
        self.eos_ids: tuple[int, ...] = tuple(sorted(listed))
        self._template = chat_template.ChatTemplate(template, special_tokens) if template is not None else None
        added = backend.get_added_tokens_decoder().values()
        self._added = {token.content for token in added}
        self._specials = sorted({token.content for token in added if token.special and token.content}, key=len)[::-1]
        special = {one for one, token in backend.get_added_tokens_decoder().items() if token.special}
        self.special_ids: tuple[int, ...] = tuple(sorted(listed | special))
        self._first_special = _any_of(self._specials)
        control = {token.content for token in added if token.special or (template and token.content in template)}
        self._control = re.compile(f"(?={_any_of([text for text in control if len(text) > 1]).pattern})(?s:.)")
        self._newline = self._encode("\n").ids

    @classmethod
    def from_directory(cls, path: Path | str) -> "Tokenizer":
        """Read the tokenizer of a model directory.

        Raises:
            errors.ConfigError: `tokenizer.json` is missing or a file cannot be read.
        """
        directory = Path(path)
        config = tokenizer_files.read_json(directory, "tokenizer_config.json")
        raw = tokenizer_files.read_json(directory, "tokenizer.json")
        if not raw:
            raise errors.ConfigError(f"{directory} holds no tokenizer.json; convert the tokenizer to that format first")
        try:
            backend = tokenizers.Tokenizer.from_str(json.dumps(tokenizer_files.with_exact_offsets(raw)))
        except Exception as error:  # the binding raises plain Exception for every unreadable file
            raise errors.ConfigError(f"{directory / 'tokenizer.json'} cannot be read: {error}") from error
        backend.no_padding()
        backend.no_truncation()
        special = tokenizer_files.special_tokens(directory, config)
        return cls(
            backend,
            special,
            tokenizer_files.chat_template(directory, config),
            *tokenizer_files.limits(directory, config),
            is_byte_level=tokenizer_files.is_byte_level(raw),
        )

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Turn text into ids; special tokens that the text spells out become their ids.

        Args:
            text: Any text.
            add_special_tokens: Add what the model expects around a text, such as a beginning-of-sequence token.
        """
        return list(self._backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0].ids)

    async def encode_async(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Encode without holding up the event loop: long texts go to a thread."""
        return await beside_loop(len(text), lambda: self.encode(text, add_special_tokens))

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """Turn ids into text; ids beyond the vocabulary give no text.

        Raises:
            errors.InvalidRequest: An id is negative or does not fit 32 bits.
        """
        if any(not 0 <= one < 2**32 for one in ids):
            raise errors.InvalidRequest(f"Token ids lie between 0 and {self.vocab_size - 1}", param="token_ids")
        return str(self._backend.decode(list(ids), skip_special_tokens=skip_special_tokens))

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Name ids as the vocabulary spells them (`Ġhello`); an id beyond the vocabulary is an empty string."""
        return [self._backend.id_to_token(one) or "" for one in ids]

    def token_id(self, token: str) -> int | None:
        """Find the id of a token by its exact spelling in the vocabulary."""
        found: int | None = self._backend.token_to_id(token)
        return found

    def token_bytes(self, token_id: int) -> bytes:
        """Tell which bytes of text one token stands for; they need not be whole characters.

        An id beyond the vocabulary stands for none.
        """
        token = self._backend.id_to_token(token_id) or ""
        if token in self._added:
            return token.encode()
        if self._is_byte_level:
            return bytes(_BYTE_OF[character] for character in token)
        if byte := _BYTE_TOKEN.fullmatch(token):
            return bytes([int(byte.group(1), 16)])
        return token.replace("▁", " ").encode()

    def render_chat(self, messages: Messages, add_generation_prompt: bool = False) -> str:
        """Render a chat to text, exactly as transformers' `apply_chat_template(tokenize=False)`.

        For ids use `encode_chat`: the text alone cannot tell a control token from a message that spells one out.

        Raises:
            errors.InvalidRequest: The model has no chat template (`chat_template_missing`), or it refuses the messages.
        """
        return self._needs_template().render(messages, add_generation_prompt=add_generation_prompt)

    @property
    def knows_tools(self) -> bool:
        """Whether the chat template shows the model which functions there are."""
        return self._template is not None and self._template.knows_tools

    def encode_chat(
        self, messages: Messages, add_generation_prompt: bool, tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """Turn a chat into ids; what messages spell out stays plain text, only the template writes control tokens.

        Args:
            messages: The turns.
            add_generation_prompt: End with the beginning of the assistant's turn.
            tools: Functions in OpenAI's shape, for a template that knows tools.

        Raises:
            errors.InvalidRequest: As `render_chat`.
        """
        marks = chat_template.choose_marks([*messages, *tools])
        marked = self._render_marked(messages, marks, add_generation_prompt, tools)
        return self._encode_pieces(chat_template.read_marks(marked, marks)[0])[0]

    async def encode_chat_async(
        self, messages: Messages, add_generation_prompt: bool, tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """Encode a chat without holding up the event loop: long chats go to a thread."""
        characters = sum(len(str(message.get("content", ""))) for message in messages) + len(str(tools))
        return await beside_loop(characters, lambda: self.encode_chat(messages, add_generation_prompt, tools))

    def encode_chat_for_training(self, messages: Messages) -> tuple[list[int], list[bool]]:
        """Turn a chat into ids and a mask of those that the assistant says, each end of turn included.

        The mask comes from the template's `{% generation %}` blocks. A template without them is rendered once more per
        assistant turn, up to that turn, and the renderings have to agree.

        Returns:
            (ids, is_assistant), both of the same length.

        Raises:
            errors.InvalidRequest: As `render_chat`; or no message is the assistant's; or the renderings disagree, as
                with templates that show earlier turns differently (`assistant_turns_unclear`).
        """
        if not any(message.get("role") == "assistant" for message in messages):
            raise errors.InvalidRequest("messages holds no assistant turn to learn from", param="messages")
        marks = chat_template.choose_marks(messages)
        marked = self._render_marked(messages, marks, False)
        if not self._needs_template().has_generation_blocks:
            marked = self._mark_turns(messages, marked, marks)
        pieces, spans = chat_template.read_marks(marked, marks)
        ids, offsets = self._encode_pieces(pieces)
        return ids, [any(begin < end_ and start < stop for start, end_ in spans) for begin, stop in offsets]

    def _needs_template(self) -> chat_template.ChatTemplate:
        if self._template is None:
            raise errors.InvalidRequest(
                "This model has no chat template; send a plain prompt instead of messages",
                code="chat_template_missing",
                param="messages",
            )
        return self._template

    def _render_marked(
        self,
        messages: Messages,
        marks: chat_template.Marks,
        add_generation_prompt: bool,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        broken, shown = (
            chat_template.break_tokens(list(one), self._control, marks.broken) for one in (messages, tools)
        )
        return self._needs_template().render(
            broken, add_generation_prompt=add_generation_prompt, marks=marks, tools=shown
        )

    def _mark_turns(self, messages: Messages, full: str, marks: chat_template.Marks) -> str:
        marked, done = "", 0
        for index, message in enumerate(messages):
            if message.get("role") != "assistant":
                continue
            start, end = self._turn(messages, index, full, marks)
            if start < done:
                raise _unclear(index)
            marked += full[done:start] + marks.start + full[start:end] + marks.end
            done = end
        return marked + full[done:]

    def _turn(self, messages: Messages, index: int, full: str, marks: chat_template.Marks) -> tuple[int, int]:
        """Find an assistant turn in the rendered chat: from the end of its prompt to the end of its end token."""
        if index == 0:
            raise errors.InvalidRequest(
                "The first message is the assistant's, and this chat template does not show where it begins; put a "
                "system or user message before it",
                code="assistant_turns_unclear",
                param="messages[0]",
            )
        start = len(before := self._render_marked(messages[:index], marks, True))
        until = self._render_marked(messages[: index + 1], marks, False)
        if not full.startswith(before) or not until.startswith(before):
            raise _unclear(index)
        special = self._first_special.search(full, start)
        ends = special is not None and self.token_id(special.group(0)) in self.eos_ids
        if full.startswith(until):
            return start, special.end() if special and ends and special.end() <= len(until) else self._bare_end(until)
        said = chat_template.break_tokens(messages[index].get("content"), self._control, marks.broken)
        if special and ends and _says(full[start : special.start()], said):
            return start, special.end()
        raise _unclear(index)

    def _bare_end(self, until: str) -> int:
        """Leave out the space after a closing control token; it belongs to the template, not to the turn."""
        bare = until.rstrip()
        return len(bare) if bare.endswith(tuple(self._specials)) else len(until)

    def _encode(self, text: str) -> tokenizers.Encoding:
        """Encode with offsets; a batch of one, since the binding keeps Python's lock while it encodes a single text."""
        return self._backend.encode_batch([text], add_special_tokens=False)[0]

    def _encode_pieces(self, pieces: list[str]) -> tuple[list[int], list[tuple[int, int]]]:
        encoding = self._encode(pieces[0])
        ids, offsets, length = list(encoding.ids), list(encoding.offsets), len(pieces[0])
        for piece in pieces[1:]:
            more, spans = self._encode_inner(piece)
            ids += more
            offsets += [(start + length, end + length) for start, end in spans]
            length += len(piece)
        return ids, offsets

    def _encode_inner(self, piece: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Encode text that does not begin a document: a leading newline keeps sentencepiece from adding its space."""
        encoding, count = self._encode("\n" + piece), len(self._newline)
        if encoding.ids[:count] == self._newline:
            return encoding.ids[count:], [(start - 1, end - 1) for start, end in encoding.offsets[count:]]
        encoding = self._encode(piece)
        return encoding.ids, encoding.offsets

    def _id_of(self, name: str) -> int | None:
        text = self.special_tokens.get(name)
        return None if text is None else self.token_id(text)


class Tokenizers:
    """The tokenizers of the catalog's local models, each read once."""

    def __init__(self, registry: "ModelRegistry") -> None:
        self._registry = registry
        self._loaded: dict[str, Tokenizer] = {}
        self._lock = threading.Lock()
        registry.on_change(self._forget)

    def get(self, model_name: str) -> Tokenizer:
        """Find the tokenizer of a model or alias; the first call reads its files, which blocks.

        Raises:
            errors.UnknownModel: No such model.
            errors.InvalidRequest: The model has no directory (code `tokenizer_missing`).
            errors.ConfigError: Its files cannot be read.
        """
        entry = self._registry.entry(model_name)
        with self._lock:
            if entry.name not in self._loaded:
                if entry.path is None:
                    raise errors.InvalidRequest(
                        f"{entry.name} is not on this machine; write its directory into models.yaml as `path`",
                        code="tokenizer_missing",
                        param="model",
                    )
                self._loaded[entry.name] = Tokenizer.from_directory(entry.path)
            return self._loaded[entry.name]

    def _forget(self, change: "Change") -> None:
        with self._lock:
            for name in (*change.changed, *change.removed):
                self._loaded.pop(name, None)

    async def load(self, model_name: str) -> Tokenizer:
        """Find it like `get`, but read files in a thread."""
        found = self._loaded.get(model_name)
        return await asyncio.to_thread(self.get, model_name) if found is None else found


async def beside_loop(characters: int, work: Callable[[], Answer]) -> Answer:
    """Do work on text of this length; in a thread when it is long, so that the event loop goes on."""
    return work() if characters < LONG_TEXT_CHARS else await asyncio.to_thread(work)


def _any_of(texts: Sequence[str]) -> re.Pattern[str]:
    longest_first = sorted(texts, key=len, reverse=True)
    return re.compile("|".join(re.escape(text) for text in longest_first) or "(?!)")


def _says(shown: str, content: object) -> bool:
    """Whether a rendered turn is the message's content or, where the template drops its reasoning, the end of it."""
    if not isinstance(content, str) or not shown.strip():
        return False
    return shown.strip().endswith(content.strip()) or content.strip().endswith(shown.strip())


def _unclear(index: int) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        "The chat template renders earlier turns differently once later ones follow, so the assistant's tokens cannot "
        "be told apart; put {% generation %} blocks into the template or train on one turn per example",
        code="assistant_turns_unclear",
        param=f"messages[{index}]",
    )
