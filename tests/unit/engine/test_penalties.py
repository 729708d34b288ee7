"""min-p, penalties and masks: against transformers' processors and against numbers worked out by hand."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers.generation import logits_process

from trainyard.core import errors
from trainyard.engine import sampling
from trainyard.engine.types import Sampling

ROWS, VOCAB = 6, 50


def settings(**fields: Any) -> Sampling:
    return Sampling(max_tokens=1, **fields)


def logits(rows: int = ROWS, vocab: int = VOCAB) -> torch.Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(1)) * 3


def words(allowed: list[int], vocab: int = VOCAB) -> np.ndarray[Any, np.dtype[np.int32]]:
    bits = np.zeros((vocab + 31) // 32 * 32, dtype=np.uint8)
    bits[allowed] = 1
    return np.packbits(bits, bitorder="little").view(np.int32)


def distribution(setting: Sampling, logits_BV: torch.Tensor, draws: int = 4000) -> torch.Tensor:
    """Count what evenly spread uniform numbers draw from each row."""
    counts = torch.zeros_like(logits_BV)
    for row in range(len(logits_BV)):
        many = logits_BV[row].expand(draws, -1)
        tokens = sampling.draw(many, [setting] * draws, [(i + 0.5) / draws for i in range(draws)])
        counts[row] = torch.bincount(tokens, minlength=logits_BV.shape[1]) / draws
    return counts


@pytest.mark.parametrize(
    ("fields", "vocab"),
    [
        ({"min_p": 0.1}, VOCAB),
        ({"min_p": 0.05, "temperature": 0.6}, VOCAB),
        ({"min_p": 0.2, "top_p": 0.8}, VOCAB),
        ({"min_p": 0.02, "top_k": 7}, VOCAB),
        ({"min_p": 0.02, "top_k": 7, "top_p": 0.7, "temperature": 1.3}, VOCAB),
        ({"min_p": 1.0}, VOCAB),
        ({"min_p": 0.001, "temperature": 2.0}, 1500),  # more than the candidates that are looked at first
    ],
)
def test_the_cuts_equal_those_of_transformers(fields: dict[str, float], vocab: int) -> None:
    setting = settings(**fields)
    logits_BV = logits(2, vocab)
    warped = logits_process.TemperatureLogitsWarper(setting.temperature)(None, logits_BV)
    if setting.top_k:
        warped = logits_process.TopKLogitsWarper(setting.top_k)(None, warped)
    if setting.top_p < 1:
        warped = logits_process.TopPLogitsWarper(setting.top_p)(None, warped)
    expected = logits_process.MinPLogitsWarper(setting.min_p)(None, warped).softmax(1)
    got = distribution(setting, logits_BV)
    assert bool(((got > 0) <= (expected > 0)).all())
    torch.testing.assert_close(got, expected, atol=5e-4, rtol=0)


def test_penalties_follow_the_published_formula() -> None:
    both = settings(presence_penalty=0.5, frequency_penalty=0.25)
    logits_BV = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    got = sampling.adjusted(logits_BV, [both, both, settings()], [{0: 2, 2: 1}, {}, {0: 2}], {})
    # 1 - 2 x 0.25 - 0.5 = 0; 3 - 0.25 - 0.5 = 2.25
    assert got.tolist() == [[0.0, 2.0, 2.25], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]
    assert logits_BV[0].tolist() == [1.0, 2.0, 3.0]


def test_negative_penalties_favour_what_was_said() -> None:
    got = sampling.adjusted(torch.zeros(1, 2), [settings(presence_penalty=-2.0, frequency_penalty=-1.0)], [{1: 3}], {})
    assert got.tolist() == [[0.0, 5.0]]


def test_rows_that_ask_for_nothing_are_not_even_copied() -> None:
    logits_BV = logits()
    assert sampling.adjusted(logits_BV, [settings()] * ROWS, [{1: 1}] * ROWS, {}) is logits_BV


@pytest.mark.parametrize("fields", [{"temperature": 0.0}, {}, {"top_p": 0.9}, {"top_k": 40}, {"min_p": 0.01}])
def test_a_forbidden_token_is_never_drawn_and_other_rows_are_as_before(fields: dict[str, float]) -> None:
    logits_BV = logits(2)
    allowed = [3, 31, 32, 49]
    masked = sampling.adjusted(logits_BV, [settings()] * 2, [{}] * 2, {0: words(allowed)})
    assert torch.equal(masked[1], logits_BV[1])
    got = distribution(settings(**fields), masked, draws=400)
    assert set(got[0].nonzero()[:, 0].tolist()) <= set(allowed)
    assert torch.equal(got[1], distribution(settings(**fields), logits_BV[1:], draws=400)[0])


@pytest.mark.parametrize("worst", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1e-30, 1.0, 3e38])
def test_what_is_allowed_is_drawn_however_the_model_diverged(worst: float, temperature: float) -> None:
    for everywhere in (False, True):
        logits_BV = torch.full((1, VOCAB), worst) if everywhere else logits(1)
        logits_BV[0, 5] = worst
        masked = sampling.adjusted(logits_BV, [settings()], [{}], {0: words([5, 6])})
        for uniform in (0.0, 0.3, 0.999999):
            assert int(sampling.draw(masked, [settings(temperature=temperature)], [uniform])) in (5, 6)


@pytest.mark.parametrize(
    ("field", "value", "range_text"),
    [
        ("min_p", -0.1, r"in 0\.\.1"),
        ("min_p", 1.1, r"in 0\.\.1"),
        ("min_p", math.nan, r"in 0\.\.1"),
        ("presence_penalty", 2.1, r"in -2\.\.2"),
        ("frequency_penalty", -2.1, r"in -2\.\.2"),
        ("frequency_penalty", math.nan, r"in -2\.\.2"),
    ],
)
def test_settings_out_of_bounds_are_refused_by_name(field: str, value: float, range_text: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=range_text) as caught:
        sampling.check(settings(**{field: value}), VOCAB)
    assert caught.value.param == field
