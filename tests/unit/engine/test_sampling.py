import math
from typing import Any

import pytest
import torch

from trainyard.engine import sampling
from trainyard.engine.types import Sampling

LOGITS = torch.log(torch.tensor([[0.1, 0.4, 0.2, 0.3]]))


def drawn(uniform: float, logits: torch.Tensor = LOGITS, **settings: Any) -> int:
    chosen = Sampling(max_tokens=1, **settings)
    return int(sampling.draw(logits, [chosen], [uniform])[0])


@pytest.mark.parametrize(
    ("settings", "uniform", "expected"),
    [
        ({"temperature": 0.0}, 0.99, 1),
        ({}, 0.05, 0),
        ({}, 0.15, 1),
        ({}, 0.55, 2),
        ({}, 0.95, 3),
        ({"top_k": 1}, 0.99, 1),
        ({"top_k": 2}, 0.5, 1),  # of 0.4 and 0.3: the first 4/7
        ({"top_k": 2}, 0.6, 3),
        ({"top_p": 0.4}, 0.99, 1),
        ({"top_p": 0.5}, 0.99, 3),  # 0.4 does not reach it, so 0.3 stays too
        ({"top_p": 0.9}, 0.99, 2),
        ({"top_p": 0.0001}, 0.99, 1),
        ({"top_k": 2, "top_p": 0.57}, 0.99, 1),  # 4/7 = 0.571 of what top-k left
        ({"top_k": 2, "top_p": 0.58}, 0.99, 3),
        ({"temperature": 0.5}, 0.02, 0),  # squares: 0.01 of 0.30
        ({"temperature": 0.5}, 0.04, 1),
    ],
)
def test_draws_of_hand_cases(settings: dict[str, Any], uniform: float, expected: int) -> None:
    assert drawn(uniform, **settings) == expected


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 50)
    settings = [
        Sampling(max_tokens=1),
        Sampling(max_tokens=1, top_p=0.7),
        Sampling(max_tokens=1, temperature=0.0),
        Sampling(max_tokens=1, top_k=3, temperature=2.0),
        Sampling(max_tokens=1, top_k=9, top_p=0.5),
    ]
    uniforms = [0.3, 0.9, 0.1, 0.77, 0.5]
    together = sampling.draw(logits, settings, uniforms).tolist()
    alone = [int(sampling.draw(logits[i : i + 1], [settings[i]], [uniforms[i]])[0]) for i in range(5)]
    assert together == alone


def test_a_flat_distribution_over_many_tokens_needs_the_whole_vocabulary() -> None:
    logits = torch.zeros(1, 5000)
    seen = {drawn(u / 100, logits, top_p=0.99) for u in range(100)}
    assert max(seen) > sampling.CANDIDATES or len(seen) == 100


def test_frequencies_follow_the_distribution() -> None:
    rows = 4000
    uniforms = [(i + 0.5) / rows for i in range(rows)]
    tokens = sampling.draw(LOGITS.expand(rows, 4), [Sampling(max_tokens=1)] * rows, uniforms)
    shares = torch.bincount(tokens, minlength=4) / rows
    assert shares.tolist() == pytest.approx([0.1, 0.4, 0.2, 0.3], abs=0.002)


def test_logprobs_come_only_where_asked() -> None:
    settings = [Sampling(max_tokens=1), Sampling(max_tokens=1, logprobs=0), Sampling(max_tokens=1, logprobs=2)]
    out = sampling.logprobs(LOGITS.expand(3, 4), torch.tensor([0, 0, 0]), settings)
    assert math.isnan(out[0][0])
    assert out[1][0] == pytest.approx(math.log(0.1))
    assert out[1][1] == ()
    assert [t for t, _ in out[2][1]] == [1, 3]
    assert out[2][1][0][1] == pytest.approx(math.log(0.4))
