"""A model directory small enough to write in a millisecond: a tokenizer of bytes, a chat template, no weights."""

import json
from pathlib import Path

MAX_POSITIONS = 4096
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
VOCAB_SIZE = 256 + len(SPECIAL_TOKENS)

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def write(directory: Path) -> Path:
    """Write `config.json`, `tokenizer.json` and `tokenizer_config.json`; ids 0 to 255 are bytes.

    The directory says "fake" where an architecture should be, so that no engine of numbers ever loads it.
    """
    import tokenizers

    directory.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    model = tokenizers.models.BPE(vocab={character: index for index, character in enumerate(alphabet)}, merges=[])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens([tokenizers.AddedToken(text, special=True) for text in SPECIAL_TOKENS])
    tokenizer.save(str(directory / "tokenizer.json"))
    _write_json(directory / "config.json", {"architectures": ["fake"], "max_position_embeddings": MAX_POSITIONS})
    config = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": CHAT_TEMPLATE}
    _write_json(directory / "tokenizer_config.json", {**config, "model_max_length": MAX_POSITIONS})
    return directory


def _write_json(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
