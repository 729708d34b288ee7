"""Attention over pages, both ways, against PyTorch's own over each row's plain keys and values."""

import dataclasses
import random

import pytest
import torch
import torch.nn.functional as fn

from tests.unit.engine.test_pages import CONFIG, CPU
from trainyard.engine.kv_cache import Blocks, KvCache
from trainyard.engine.page_attention import GatheredPages, PagesInPlace, RowAttention, choose

SHAPE = dataclasses.replace(CONFIG, layers=1, heads=6, kv_heads=2, head_dim=8)


def filled(lengths: list[int]) -> tuple[KvCache, list[Blocks], list[tuple[torch.Tensor, torch.Tensor]]]:
    """Make rows of these lengths at the front, with room for one token; gives their plain keys and values (T, K, E)."""
    cache = KvCache(SHAPE, torch.float32, CPU, 1 << 20)
    rows, plain = [], []
    for length in lengths:
        blocks = Blocks(None)
        assert cache.reserve(blocks, length)
        pair = torch.randn(length, 2, 8), torch.randn(length, 2, 8)
        cache.write(0, blocks, *pair)
        blocks.tokens = length
        rows.append(blocks)
        plain.append(pair)
    order = list(range(len(rows)))
    random.Random(0).shuffle(order)
    for i in order:
        assert cache.enter(rows[i])
        assert cache.reserve(rows[i], rows[i].tokens + 1)
    return cache, rows, plain


@pytest.mark.parametrize("kind", [PagesInPlace, GatheredPages])
@pytest.mark.parametrize("window", [None, 9, 40])
@pytest.mark.parametrize("lengths", [[5], [31, 32, 33], [1, 200, 3, 64, 95]], ids=str)
def test_both_ways_equal_plain_attention_of_each_row(
    kind: type[RowAttention], window: int | None, lengths: list[int]
) -> None:
    torch.manual_seed(0)
    cache, rows, plain = filled(lengths)
    attention = kind(cache, {None, window})
    for _ in range(3):
        q_BHE, k_BKE, v_BKE = (torch.randn(len(rows), heads, 8) for heads in (6, 2, 2))
        assert attention.begin(rows).tolist() == [row.tokens for row in rows]
        got = attention.attend(0, q_BHE, k_BKE, v_BKE, window)
        for i, row in enumerate(rows):
            plain[i] = torch.cat((plain[i][0], k_BKE[i : i + 1])), torch.cat((plain[i][1], v_BKE[i : i + 1]))
            keys_KTE, values_KTE = (t[-(window or len(t)) :].transpose(0, 1) for t in plain[i])
            expected = fn.scaled_dot_product_attention(q_BHE[i].view(2, 3, 8), keys_KTE, values_KTE)
            assert torch.allclose(got[i], expected.reshape(-1), atol=1e-5)
            row.tokens += 1
            assert cache.reserve(row, row.tokens + 1)


@pytest.mark.parametrize("kind", [PagesInPlace, GatheredPages])
def test_a_row_without_numbers_stays_alone(kind: type[RowAttention]) -> None:
    cache, rows, _ = filled([40, 70, 3])
    attention = kind(cache, {None})
    q_BHE, k_BKE, v_BKE = (torch.randn(3, heads, 8) for heads in (6, 2, 2))
    for page in rows[1].pages:
        cache.pool.data[:, :, page.slot] = float("nan")
    attention.begin(rows)
    got = attention.attend(0, q_BHE, k_BKE, v_BKE, None)
    assert [bool(torch.isfinite(row).all()) for row in got] == [True, False, True]


def test_scores_beyond_the_range_of_exp_are_no_matter() -> None:
    cache, rows, _ = filled([40, 70])
    attention = PagesInPlace(cache, {None})
    q_BHE, k_BKE, v_BKE = (torch.randn(2, heads, 8) for heads in (6, 2, 2))
    attention.begin(rows)
    assert torch.isfinite(attention.attend(0, q_BHE * 1e4, k_BKE, v_BKE, None)).all()


def test_float32_on_a_cpu_is_attended_to_in_place() -> None:
    assert isinstance(choose(KvCache(SHAPE, torch.float32, CPU, 1 << 20), {None}), PagesInPlace)
    assert isinstance(choose(KvCache(SHAPE, torch.bfloat16, CPU, 1 << 20), {None}), GatheredPages)
