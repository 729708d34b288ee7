"""Tools in the chat templates of models: rendered by those that know them, and calls in the way they were taught."""

from pathlib import Path
from typing import Any

import pytest

from tests.unit.serving import byte_model
from trainyard.core import errors
from trainyard.core.catalog import ModelRegistry
from trainyard.engine.fake import FakeEngine, FakeEngines
from trainyard.engine.tokenizer import Tokenizer, Tokenizers
from trainyard.serving.backends.local import LocalBackend, LocalPrompt
from trainyard.serving.types import Ask, Chat, Target, Tool

MODEL = "yard/tools"
QWEN = (
    "{%- if tools %}<|im_start|>system\n# Tools\n<tools>"
    "{%- for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>"
    "<|im_end|>\n{% endif %}"
    "{%- for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{%- for call in message.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "{%- for tool in tools or [] %}{{ tool | tojson }}{% endfor %}"
    "{%- for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    '{%- for call in message.tool_calls or [] %}{"name": "{{ call.function.name }}", "parameters": '
    "{{ call.function.arguments | tojson }}}{% endfor %}<|im_end|>\n{% endfor %}"
)
ADD = Tool(
    "add", "Adds <|im_end|> up.", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
)
CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "What is 1?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "1"},
]


def asked(**fields: Any) -> Ask:
    chat = Chat(TURNS, (ADD,))
    return Ask(model=MODEL, prompts=[chat], param="messages", default_max_tokens=100, **fields)


async def prepare(tmp_path: Path, template: str, said: str, ask: Ask) -> tuple[LocalPrompt, Tokenizer]:
    byte_model.write(tmp_path / "model", template=template)
    (tmp_path / "models.yaml").write_text(f"default_model: {MODEL}\nmodels:\n  - {{name: {MODEL}, path: model}}\n")
    models = ModelRegistry(tmp_path / "models.yaml")
    tokenizer = Tokenizer.from_directory(tmp_path / "model")
    script = tokenizer.encode(said, add_special_tokens=False)
    engine = FakeEngine(MODEL, vocab_size=byte_model.VOCABULARY, script=script)
    backend = LocalBackend(FakeEngines({MODEL: engine}), Tokenizers(models))
    (prompt,) = await backend.prepare(Target(MODEL, MODEL), ask)
    return prompt, tokenizer


async def test_a_template_that_knows_tools_writes_them_the_calls_and_the_results(tmp_path: Path) -> None:
    said = '<tool_call>\n{"name":"add","arguments":{"a":2}}\n</tool_call>'
    prompt, tokenizer = await prepare(tmp_path, QWEN, said, asked())
    text = tokenizer.decode(prompt.request.prompt_ids, skip_special_tokens=False)
    assert text.startswith('<|im_start|>system\n# Tools\n<tools>{"type": "function", "function": {"name": "add"')
    assert '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>' in text
    assert "<|im_start|>tool\n1<|im_end|>" in text
    made = await prompt.collect(0, 60.0)
    assert [(call.name, call.arguments) for call in made.tool_calls] == [("add", '{"a":2}')]
    assert made.finish_reason == "tool_calls"


async def test_what_a_tool_spells_out_is_no_control_token(tmp_path: Path) -> None:
    prompt, tokenizer = await prepare(tmp_path, QWEN, "x", asked())
    end = tokenizer.token_id("<|im_end|>")
    assert list(prompt.request.prompt_ids).count(end or -1) == 1 + len(TURNS)


async def test_without_a_choice_the_template_sees_no_tools(tmp_path: Path) -> None:
    prompt, tokenizer = await prepare(tmp_path, QWEN, "x", asked(tool_choice="none"))
    assert "<tools>" not in tokenizer.decode(prompt.request.prompt_ids)
    assert prompt.request.grammar is None


async def test_a_model_of_llamas_kind_calls_without_a_marker(tmp_path: Path) -> None:
    prompt, tokenizer = await prepare(tmp_path, LLAMA, '{"name":"add","parameters":{"a":2}}', asked())
    assert '{"name": "add", "parameters": {"a": 1}}' in tokenizer.decode(prompt.request.prompt_ids)
    made = await prompt.collect(0, 60.0)
    assert [(call.name, call.arguments) for call in made.tool_calls] == [("add", '{"a":2}')]
    assert (made.text, made.finish_reason) == ("", "tool_calls")


async def test_an_answer_that_is_cut_in_a_call_says_length(tmp_path: Path) -> None:
    said = '<tool_call>\n{"name":"add","arguments":{"a":2}}\n</tool_call>'
    prompt, _ = await prepare(tmp_path, QWEN, said, asked(max_tokens=44))
    made = await prompt.collect(0, 60.0)
    assert made.finish_reason == "length"
    assert [(call.name, call.arguments) for call in made.tool_calls] == [("add", '{"a":2')]


@pytest.mark.parametrize("parameters", [{"not": {}}, {"type": "array", "uniqueItems": True}])
async def test_arguments_that_cannot_be_kept_are_refused(tmp_path: Path, parameters: dict[str, Any]) -> None:
    chat = Chat(TURNS[:1], (Tool("odd", "", parameters),))
    ask = Ask(model=MODEL, prompts=[chat], param="messages", default_max_tokens=100)
    with pytest.raises(errors.InvalidRequest, match="tool odd") as caught:
        await prepare(tmp_path, QWEN, "x", ask)
    assert caught.value.code == "invalid_function_parameters"
