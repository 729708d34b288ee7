"""Constrained decoding on the pocket model: 300 random schemas, whose answers parse, validate and come to their end."""

import json
from collections import deque
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.contract.engine import random_schemas
from tests.contract.engine.random_schemas import Case
from trainyard.engine import types
from trainyard.engine.core import EngineCore
from trainyard.engine.tokenizer import Tokenizer

POCKET = Path(__file__).parents[3] / "src/trainyard/engine/pocket"
SCHEMAS = 300
AT_ONCE = 48
TEMPERATURES = (0.0, 0.7, 1.0, 1.5)
BUDGETS = (64, 128)


@pytest.fixture(scope="module")
def core() -> EngineCore:
    return EngineCore(POCKET, "pocket", threads=1)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_directory(POCKET)


def budget(case: Case, tokenizer: Tokenizer, number: int) -> int:
    """Choose max_tokens: twice the shortest known instance, to the token, for every other schema; else more."""
    twice = 2 * (len(tokenizer.encode(case.short, add_special_tokens=False)) + 1)
    return twice if number % 2 else next(most for most in (*BUDGETS, 4 * twice) if twice <= most)


def ask(name: str, case: Case, tokenizer: Tokenizer, max_tokens: int, number: int) -> types.GenerateRequest:
    prompt = tokenizer.encode_chat([{"role": "user", "content": "What is it? Answer in JSON."}], True)
    return types.GenerateRequest(
        stream_id=name,
        prompt=types.int32(prompt),
        sampling=types.Sampling(
            max_tokens=max_tokens,
            temperature=TEMPERATURES[number % len(TEMPERATURES)],
            top_p=(1.0, 0.9, 1.0)[number % 3],
            seed=number,
            stop_token_ids=tokenizer.eos_ids,
            grammar=types.Grammar(kind="json_schema", text=case.text),
        ),
    )


def answers(core: EngineCore, requests: list[types.GenerateRequest]) -> dict[str, list[types.TokenEvent]]:
    waiting, out = deque(requests), dict[str, list[types.TokenEvent]]()
    while waiting or core.has_streams:
        while waiting and core.stats().active_streams + core.stats().queued_streams < AT_ONCE:
            request = waiting.popleft()
            core.admit(request)
            out[request.stream_id] = []
        for name, event in core.tick():
            out[name].append(event)
        assert core.failures() == []
    return out


def text_of(tokenizer: Tokenizer, events: list[types.TokenEvent]) -> str:
    return tokenizer.decode([event.token for event in events if event.finish != "stop"])


def validate(schema: dict[str, Any], text: str) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(json.loads(text))


@pytest.mark.timeout(300)
def test_answers_to_random_schemas_are_valid_and_end_within_their_budget(
    core: EngineCore, tokenizer: Tokenizer
) -> None:
    cases = {f"seed {seed}": random_schemas.make(seed) for seed in range(SCHEMAS)}
    requests = [
        ask(name, case, tokenizer, budget(case, tokenizer, number), number)
        for number, (name, case) in enumerate(cases.items())
    ]
    found = answers(core, requests)
    finished = {name: events for name, events in found.items() if events[-1].finish == "stop"}
    for name, events in finished.items():
        validate(cases[name].schema, text_of(tokenizer, events))
    unfinished = sorted(set(found) - set(finished))
    assert len(found) == SCHEMAS
    assert len(unfinished) <= 0.05 * SCHEMAS, unfinished
