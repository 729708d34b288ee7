"""A byte-level BPE tokenizer with single digits, chat tokens and a chat template."""

import json
from collections.abc import Iterable
from pathlib import Path

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from scripts.pocket_model.exchange import Document

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
END_OF_TEXT_ID, START_ID, END_ID = 0, 1, 2

# On one line, so that it renders the same with and without jinja's trim_blocks.
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt is defined and add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def render(document: Document) -> str:
    """Write a document as the chat template does, ended by the end-of-text token."""
    if not document.turns:
        return document.text + END_OF_TEXT
    return "".join(f"{START}{role}\n{content}{END}\n" for role, content in document.turns) + END_OF_TEXT


def train(texts: Iterable[str], vocab_size: int) -> tokenizers.Tokenizer:
    """Learn the merges from texts without special tokens; digits stay single, so that sums can be learned."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save(tokenizer: tokenizers.Tokenizer, directory: Path, max_length: int) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` and `generation_config.json`."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    _write(
        directory / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": max_length,
            "bos_token": END_OF_TEXT,
            "eos_token": END,
            "pad_token": END_OF_TEXT,
            "unk_token": END_OF_TEXT,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    _write(
        directory / "generation_config.json",
        {
            "bos_token_id": END_OF_TEXT_ID,
            "eos_token_id": [END_ID, END_OF_TEXT_ID],
            "pad_token_id": END_OF_TEXT_ID,
        },
    )


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
