"""What is read from a model directory, and what is said when it cannot be read."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.serving import byte_model
from trainyard.core import errors
from trainyard.core.catalog import ModelRegistry
from trainyard.engine.tokenizer import Tokenizer, Tokenizers

HELLO = [{"role": "user", "content": "hi"}]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    byte_model.write(tmp_path / "model", template=None)
    return tmp_path / "model"


def write(directory: Path, name: str, content: Any) -> None:
    (directory / name).write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("chat_template.jinja", "jinja"),
        ("chat_template.json", {"chat_template": "jinja"}),
        ("tokenizer_config.json", {"chat_template": "jinja"}),
        (
            "tokenizer_config.json",
            {"chat_template": [{"name": "tools", "template": "x"}, {"name": "default", "template": "jinja"}]},
        ),
    ],
)
def test_the_template_is_found_wherever_it_is_kept(directory: Path, name: str, content: Any) -> None:
    write(directory, name, content)
    tokenizer = Tokenizer.from_directory(directory)
    assert tokenizer.chat_template == "jinja"
    assert tokenizer.render_chat(HELLO) == "jinja"


@pytest.mark.parametrize(
    ("files", "eos_ids"),
    [
        ({}, (258,)),
        ({"generation_config.json": {"eos_token_id": [256, 258]}}, (256, 258)),
        ({"generation_config.json": {"eos_token_id": 256}}, (256, 258)),
        ({"config.json": {"eos_token_id": 256}}, (256, 258)),
        ({"tokenizer_config.json": {}}, ()),
        ({"tokenizer_config.json": {}, "special_tokens_map.json": {"eos_token": {"content": "<|endoftext|>"}}}, (256,)),
    ],
)
def test_all_ids_that_end_a_turn_are_collected(
    directory: Path, files: dict[str, Any], eos_ids: tuple[int, ...]
) -> None:
    for name, content in files.items():
        write(directory, name, content)
    assert Tokenizer.from_directory(directory).eos_ids == eos_ids


@pytest.mark.parametrize(
    ("limit", "positions", "longest"), [(512, 2048, 512), (1e30, 2048, 2048), (None, 2048, 2048), (1e30, None, None)]
)
def test_the_longest_sequence_is_the_tokenizers_or_the_models(
    directory: Path, limit: float | None, positions: int | None, longest: int | None
) -> None:
    write(directory, "tokenizer_config.json", {"model_max_length": limit})
    write(directory, "config.json", {"max_position_embeddings": positions})
    assert Tokenizer.from_directory(directory).model_max_length == longest


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("tokenizer.json", "{broken", "cannot be read"),
        ("tokenizer.json", "[1]", "JSON object"),
        ("tokenizer.json", {"model": {"type": "no such kind"}}, "cannot be read"),
        ("tokenizer_config.json", {"chat_template": "{% for %}"}, "does not compile"),
    ],
)
def test_unreadable_files_are_named(directory: Path, name: str, content: Any, says: str) -> None:
    write(directory, name, content)
    with pytest.raises(errors.ConfigError, match=says):
        Tokenizer.from_directory(directory)


def test_a_directory_without_tokenizer_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match=r"tokenizer\.json"):
        Tokenizer.from_directory(tmp_path)


@pytest.mark.parametrize("ids", [[-1], [2**32]])
def test_impossible_ids_are_refused(directory: Path, ids: list[int]) -> None:
    with pytest.raises(errors.InvalidRequest, match="between 0 and 258"):
        Tokenizer.from_directory(directory).decode(ids)


async def test_long_texts_are_encoded_beside_the_event_loop(directory: Path) -> None:
    write(directory, "chat_template.jinja", byte_model.TEMPLATE)
    tokenizer = Tokenizer.from_directory(directory)
    text = "long " * 10_000
    assert len(await tokenizer.encode_async(text)) == len(await tokenizer.encode_async("x")) * 50_000
    chat = [{"role": "user", "content": text}]
    assert await tokenizer.encode_chat_async(chat, True) == tokenizer.encode_chat(chat, True)


async def test_the_event_loop_turns_while_a_long_text_is_encoded(directory: Path) -> None:
    write(directory, "chat_template.jinja", byte_model.TEMPLATE)
    tokenizer = Tokenizer.from_directory(directory)
    text = "long " * 50_000
    for encoding in (
        tokenizer.encode_async(text),
        tokenizer.encode_chat_async([{"role": "user", "content": text}], True),
    ):
        task, turns = asyncio.ensure_future(encoding), 0
        while not task.done():
            await asyncio.sleep(0.001)
            turns += 1
        assert turns >= 10  # 2 when the encoder keeps Python's lock


@pytest.fixture
def registry(directory: Path) -> ModelRegistry:
    models = "models: [{name: yard/bytes, path: model, aliases: [b]}, {name: yard/fake, backend: fake}]"
    write(directory.parent, "models.yaml", models)
    return ModelRegistry(directory.parent / "models.yaml")


async def test_each_tokenizer_is_read_once_for_all_its_names(registry: ModelRegistry) -> None:
    tokenizers = Tokenizers(registry)
    first = await tokenizers.load("yard/bytes")
    assert await tokenizers.load("yard/bytes") is first
    assert tokenizers.get("b") is first


def test_a_model_without_files_has_no_tokenizer(registry: ModelRegistry) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        Tokenizers(registry).get("yard/fake")
    assert caught.value.code == "tokenizer_missing"
    with pytest.raises(errors.UnknownModel):
        Tokenizers(registry).get("yard/none")
