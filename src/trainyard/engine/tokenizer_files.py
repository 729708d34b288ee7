"""Files of a model directory that say how its text becomes ids."""

import json
from pathlib import Path
from typing import Any

from trainyard.core import errors

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_UNLIMITED = 10**9  # transformers writes 1e30 where a tokenizer has no limit of its own


def read_json(directory: Path, name: str) -> dict[str, Any]:
    """Read one file of the directory; an absent one is an empty object.

    Raises:
        errors.ConfigError: It is not a JSON object.
    """
    try:
        content = json.loads((directory / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise errors.ConfigError(f"{directory / name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise errors.ConfigError(f"{directory / name} must hold a JSON object")
    return content


def with_exact_offsets(value: Any) -> Any:
    """Have offsets cover the spaces of a token too; ids do not depend on it."""
    if isinstance(value, dict) and "vocab" not in value:
        return {key: False if key == "trim_offsets" else with_exact_offsets(item) for key, item in value.items()}
    if isinstance(value, list) and len(value) < 100:
        return [with_exact_offsets(item) for item in value]
    return value


def is_byte_level(raw: dict[str, Any]) -> bool:
    """Whether tokens are spelled in the byte alphabet of GPT-2, judged by the decoder."""
    decoder = raw.get("decoder") or {}
    return any(one.get("type") == "ByteLevel" for one in [decoder, *decoder.get("decoders", [])])


def special_tokens(directory: Path, config: dict[str, Any]) -> dict[str, str]:
    """Collect the named special tokens, `tokenizer_config.json` first."""
    named = {**read_json(directory, "special_tokens_map.json"), **config}
    found = {}
    for name in _NAMED:
        value = named.get(name)
        text = value.get("content") if isinstance(value, dict) else value
        if isinstance(text, str):
            found[name] = text
    return found


def chat_template(directory: Path, config: dict[str, Any]) -> str | None:
    """Find the source of the chat template; of several named ones, the default."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    value = read_json(directory, "chat_template.json").get("chat_template", config.get("chat_template"))
    if isinstance(value, list):  # several named templates
        value = next((one.get("template") for one in value if one.get("name") == "default"), None)
    return value if isinstance(value, str) else None


def limits(directory: Path, config: dict[str, Any]) -> tuple[list[int], int | None]:
    """Read the ids that end a text and the longest sequence in tokens (None = unlimited)."""
    model = read_json(directory, "config.json")
    generation = read_json(directory, "generation_config.json") or model
    eos = generation.get("eos_token_id")
    longest = config.get("model_max_length")
    if not isinstance(longest, int | float) or longest > _UNLIMITED:
        longest = model.get("max_position_embeddings")
    ends = [] if eos is None else eos if isinstance(eos, list) else [eos]
    return ends, None if longest is None else int(longest)
