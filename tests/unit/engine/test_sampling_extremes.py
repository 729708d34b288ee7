import math
from typing import Any

import pytest
import torch

from trainyard.engine import sampling
from trainyard.engine.types import Sampling

LOGITS = [1.0, 2.0, 4.0, 3.0]
NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("cut", [{}, {"top_p": 0.9}, {"top_k": 2}, {"top_p": 5e-324}])
@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-45, 1e-37, 1e-6])
def test_a_tiny_temperature_takes_the_likeliest_token(temperature: float, cut: dict[str, Any]) -> None:
    chosen = Sampling(max_tokens=1, temperature=temperature, **cut)
    assert sampling.draw(torch.tensor([LOGITS]), [chosen], [0.99]).tolist() == [2]


@pytest.mark.parametrize("cut", [{}, {"top_p": 0.9}, {"top_k": 2}])
@pytest.mark.parametrize("broken", [[NAN] * 4, [INF] * 4, [-INF] * 4, [1.0, NAN, INF, -INF]])
def test_a_row_without_numbers_draws_some_token_and_leaves_its_neighbour_alone(
    broken: list[float], cut: dict[str, Any]
) -> None:
    chosen = [Sampling(max_tokens=1, **cut)] * 2
    drawn = sampling.draw(torch.tensor([broken, LOGITS]), chosen, [0.5, 0.01]).tolist()
    assert 0 <= drawn[0] < 4
    assert drawn[1] == sampling.draw(torch.tensor([LOGITS]), chosen[:1], [0.01]).tolist()[0]
