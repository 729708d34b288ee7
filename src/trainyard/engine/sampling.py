"""Drawing tokens from logits, row by row with its own settings, all rows in a few tensor operations.

The order is that of transformers' processors and of OpenAI's formula: penalties on the model's logits, what a grammar
does not allow out, then temperature, top-k, top-p, min-p. Log-probabilities are the model's own, before all of it.

Shape letters: B rows, V vocabulary, C candidates, R rows that ask for something, W words of 32 bits.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainyard.core import errors
from trainyard.engine.types import Sampling

CANDIDATES = 1024
"""Likeliest tokens that are looked at before a whole vocabulary is sorted for top-p; the answer is the same."""

_NO_CUT = 2.0  # a share that no rounding of a sum of probabilities reaches


def check(sampling: Sampling, vocab_size: int) -> None:
    """Refuse settings out of bounds; errors.InvalidRequest names the field and its range."""
    bounds = {
        "max_tokens": (sampling.max_tokens >= 1, "at least 1"),
        "temperature": (sampling.temperature >= 0.0 and math.isfinite(sampling.temperature), "finite and at least 0"),
        "top_p": (0.0 < sampling.top_p <= 1.0, "above 0 and at most 1"),
        "top_k": (sampling.top_k >= 0, "at least 0"),
        "logprobs": (-1 <= sampling.logprobs <= vocab_size, f"in -1..{vocab_size}"),
        "min_p": (0.0 <= sampling.min_p <= 1.0, "in 0..1"),
        "presence_penalty": (-2.0 <= sampling.presence_penalty <= 2.0, "in -2..2"),
        "frequency_penalty": (-2.0 <= sampling.frequency_penalty <= 2.0, "in -2..2"),
    }
    for name, (is_good, range_text) in bounds.items():
        if not is_good:
            raise errors.InvalidRequest(f"{name} = {getattr(sampling, name)} must be {range_text}", param=name)


def is_penalised(sampling: Sampling) -> bool:
    """Whether tokens that the answer holds change what comes next."""
    return sampling.presence_penalty != 0 or sampling.frequency_penalty != 0


def adjusted(
    logits_BV: Tensor,
    settings: Sequence[Sampling],
    counts: Sequence[Mapping[int, int]],
    masks: Mapping[int, NDArray[np.int32]],
) -> Tensor:
    """Apply penalties and masks to the rows that have some; the same tensor comes back when none has.

    Args:
        logits_BV: (B, V) float32; not changed.
        settings: One per row.
        counts: How often each token stands in the row's answer; read where a penalty is set.
        masks: Row -> (W,) int32, one bit per token, 1 = allowed; at least one bit is set.

    Returns:
        (B, V) float32, -inf where a mask forbids.

    Source:
        OpenAI's API reference, "Frequency and presence penalties": logit -= count * frequency + (count > 0) * presence.
    """
    penalised = [row for row, s in enumerate(settings) if is_penalised(s) and counts[row]]
    if not penalised and not masks:
        return logits_BV
    logits_BV = logits_BV.clone()
    for row in penalised:
        ids = torch.tensor(list(counts[row]), device=logits_BV.device)
        times = torch.tensor(list(counts[row].values()), dtype=torch.float32, device=logits_BV.device)
        setting = settings[row]
        logits_BV[row, ids] -= times * setting.frequency_penalty + setting.presence_penalty
    if masks:
        _mask(logits_BV, masks)
    return logits_BV


def _mask(logits_BV: Tensor, masks: Mapping[int, NDArray[np.int32]]) -> None:
    """Put -inf where a bit is 0, and a number everywhere else, so that what is allowed stays above what is not."""
    rows = torch.tensor(list(masks), device=logits_BV.device)
    words_RW = np.stack(list(masks.values()))
    bits_RV = np.unpackbits(words_RW.view(np.uint8), axis=1, bitorder="little", count=logits_BV.shape[1])
    forbidden_RV = torch.from_numpy(bits_RV == 0).to(logits_BV.device)
    lowest = torch.finfo(torch.float32).min / 4
    numbers_RV = logits_BV[rows].nan_to_num(nan=0.0, neginf=lowest, posinf=-lowest).clamp(lowest, -lowest)
    logits_BV[rows] = numbers_RV.masked_fill(forbidden_RV, -torch.inf)


def draw(logits_BV: Tensor, settings: Sequence[Sampling], uniforms: Sequence[float]) -> Tensor:
    """Draw one token per row by inverting the cumulative distribution at the row's uniform number.

    A row's token depends on its own logits, settings and number only. Temperature 0 takes the likeliest; top-k cuts
    before top-p and top-p before min-p, as in transformers; the likeliest token always stays.

    Args:
        logits_BV: (B, V) float32, penalties and masks applied (see `adjusted`); a token at -inf is never drawn.
        settings: One per row.
        uniforms: One number in [0, 1) per row; unused where temperature is 0.

    Returns:
        (B,) int64.
    """
    tokens_B = logits_BV.argmax(1)
    for is_cut in (False, True):
        rows = [i for i, s in enumerate(settings) if s.temperature > 0 and _is_cut(s) == is_cut]
        if rows:
            chosen = [settings[i] for i in rows]
            index = torch.tensor(rows, device=logits_BV.device)
            scaled = _scaled(logits_BV[index], _column([s.temperature for s in chosen], logits_BV))
            uniform = _column([uniforms[i] for i in rows], logits_BV)
            tokens_B[index] = _cut(scaled, chosen, uniform) if is_cut else _whole(scaled, uniform)
    return tokens_B


def _is_cut(sampling: Sampling) -> bool:
    return sampling.top_p < 1 or sampling.top_k > 0 or sampling.min_p > 0


def _scaled(logits_BV: Tensor, temperature_B1: Tensor) -> Tensor:
    """Divide by the temperature, so that neither one below float32's range nor diverged weights give a non-number.

    Only differences count, so the likeliest token stands at 0 and all others below it. A row without numbers would have
    no place in its cumulative distribution, and the batch that it shares with others would fail.
    """
    numbers_BV = logits_BV.nan_to_num()
    below_BV = numbers_BV - numbers_BV.amax(1, keepdim=True)
    scaled_BV = below_BV / temperature_B1.clamp_min(torch.finfo(torch.float32).tiny)
    return scaled_BV.masked_fill_(logits_BV.isneginf() & (below_BV < 0), -torch.inf)


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None]


def _whole(scaled_BV: Tensor, uniform_B1: Tensor) -> Tensor:
    cumulative_BV = scaled_BV.softmax(1).cumsum(1)
    return _invert(cumulative_BV, uniform_B1)


def _invert(cumulative_BC: Tensor, uniform_B1: Tensor) -> Tensor:
    """Find the first place where the cumulative mass passes the share `uniform` of the whole."""
    whole_B1 = cumulative_BC[:, -1:].contiguous()
    target_B1 = uniform_B1 * whole_B1
    place_B1 = torch.searchsorted(cumulative_BC, target_B1, right=True)
    last_B1 = torch.searchsorted(cumulative_BC, whole_B1)  # the last candidate with any mass
    return torch.minimum(place_B1, last_B1)[:, 0]


def _cut(scaled_BV: Tensor, settings: Sequence[Sampling], uniform_B1: Tensor) -> Tensor:
    vocab_size = scaled_BV.shape[1]
    top_k = [s.top_k or vocab_size for s in settings]
    top_p_B1 = _column([s.top_p if s.top_p < 1 else _NO_CUT for s in settings], scaled_BV)
    min_p_B1 = _column([s.min_p for s in settings], scaled_BV)
    size = min(CANDIDATES, vocab_size)
    normaliser_B1 = scaled_BV.logsumexp(1, keepdim=True)
    while True:
        values_BC, ids_BC = scaled_BV.topk(size, dim=1)
        probability_BC = (values_BC - normaliser_B1).exp()
        allowed_B1 = torch.tensor(top_k, device=scaled_BV.device)[:, None]
        probability_BC *= torch.arange(size, device=scaled_BV.device) < allowed_B1
        before_BC = probability_BC.cumsum(1) - probability_BC
        mass_B1 = _mass(probability_BC, allowed_B1)
        is_last_cut_B1 = probability_BC[:, -1:] < min_p_B1 * probability_BC[:, :1]
        if size == vocab_size or bool(((allowed_B1 <= size) | (before_BC[:, -1:] >= top_p_B1) | is_last_cut_B1).all()):
            break
        size = vocab_size
    is_kept_BC = (before_BC < top_p_B1 * mass_B1) & (probability_BC >= min_p_B1 * probability_BC[:, :1])
    probability_BC *= is_kept_BC
    place_B = _invert(probability_BC.cumsum(1), uniform_B1)
    return ids_BC.gather(1, place_B[:, None])[:, 0]


def _mass(probability_BC: Tensor, allowed_B1: Tensor) -> Tensor:
    """Give what top-p is a share of: the mass that top-k left, or 1 where it left all."""
    kept_B1 = probability_BC.sum(1, keepdim=True)
    return torch.where(allowed_B1 <= probability_BC.shape[1], kept_B1, torch.ones_like(kept_B1))


def logprobs(
    logits_BV: Tensor, tokens_B: Tensor, settings: Sequence[Sampling]
) -> list[tuple[float, tuple[tuple[int, float], ...]]]:
    """Give each row's (log-probability of its token, likeliest pairs) before temperature; (NaN, ()) where not asked."""
    out: list[tuple[float, tuple[tuple[int, float], ...]]] = [(math.nan, ())] * len(settings)
    rows = [i for i, s in enumerate(settings) if s.logprobs >= 0]
    if not rows:
        return out
    index = torch.tensor(rows, device=logits_BV.device)
    log_BV = logits_BV[index].log_softmax(1)
    drawn = log_BV.gather(1, tokens_B[index, None])[:, 0].tolist()
    values_BC, ids_BC = log_BV.topk(max(settings[i].logprobs for i in rows), dim=1)
    for row, own, ids, values in zip(rows, drawn, ids_BC.tolist(), values_BC.tolist(), strict=True):
        count = settings[row].logprobs
        out[row] = (own, tuple(zip(ids[:count], values[:count], strict=True)))
    return out
