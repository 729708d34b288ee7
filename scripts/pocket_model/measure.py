"""Measures a trained decoder: held-out loss and accuracy, sums, and samples.

Greedy decoding writes exactly a given answer when, and only when, every token of the answer is the most likely one
after the true tokens before it; so one forward pass per accepted answer decides whether the model answers right.

Shape letters: B rows, T tokens.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from random import Random

import tokenizers
import torch
from torch import nn

from scripts.pocket_model import packing, sums
from scripts.pocket_model.exchange import Document, Exchange
from scripts.pocket_model.tokenizer import END, END_ID, END_OF_TEXT_ID, START
from trainyard.engine.model import Decoder


@dataclass(frozen=True)
class Score:
    """Right answers out of all, and the mean loss of the answers' tokens in nats."""

    right: int
    count: int
    loss: float

    @property
    def share(self) -> float:
        """Share of right answers, 0 when there are none."""
        return self.right / max(1, self.count)


def _rows(made: Exchange, tokenizer: tokenizers.Tokenizer) -> list[packing.Row]:
    head = (("system", made.system),) if made.system else ()
    turns = [(*head, ("user", made.user), ("assistant", answer)) for answer in made.accepted]
    return [packing.encode(Document((made.form,), asked), tokenizer) for asked in turns]


@torch.inference_mode()
def _check(decoder: Decoder, row: packing.Row) -> tuple[bool, float, int]:
    ids, weights = torch.tensor(row[0]), torch.tensor(row[1])
    is_answer = weights[1:] == 1.0
    logits = decoder(ids[None, :-1])[0, is_answer].float()
    targets = ids[1:][is_answer]
    loss = nn.functional.cross_entropy(logits, targets, reduction="sum")
    return bool((logits.argmax(-1) == targets).all()), loss.item(), len(targets)


def score(decoder: Decoder, tokenizer: tokenizers.Tokenizer, exchanges: Iterable[Exchange]) -> dict[str, Score]:
    """Score exchanges with known answers per family, and all together under "all"."""
    right: dict[str, int] = defaultdict(int)
    count: dict[str, int] = defaultdict(int)
    loss: dict[str, float] = defaultdict(float)
    tokens: dict[str, int] = defaultdict(int)
    for made in exchanges:
        checked = [_check(decoder, row) for row in _rows(made, tokenizer)]
        for family in (made.family, "all"):
            right[family] += any(is_right for is_right, _, _ in checked)
            count[family] += 1
            loss[family] += checked[0][1]
            tokens[family] += checked[0][2]
    return {name: Score(right[name], count[name], loss[name] / tokens[name]) for name in sorted(count)}


def sum_accuracy(decoder: Decoder, tokenizer: tokenizers.Tokenizer, task: str, count: int, seed: int) -> Score:
    """Score held-out sums whose total is at most 20 ("plus_20") or 21 to 100 ("plus_100"), each sum once."""
    made = sums.BY_NAME[f"sums/{task}"]
    rng = Random(seed)
    found: dict[str, Exchange] = {}
    for _ in range(60 * count):
        exchange = made.make(rng)
        if exchange.is_held_out:
            found.setdefault(exchange.key, exchange)
    return score(decoder, tokenizer, list(found.values())[:count])["all"]


@torch.inference_mode()
def sample(
    decoder: Decoder,
    tokenizer: tokenizers.Tokenizer,
    user: str,
    rng: torch.Generator,
    temperature: float,
    limit: int = 160,
) -> str:
    """Answer one request; temperature 0 is greedy."""
    ids = tokenizer.encode(f"{START}user\n{user}{END}\n{START}assistant\n").ids
    start = len(ids)
    while len(ids) < start + limit:
        logits = decoder(torch.tensor([ids]))[0, -1].float()
        probabilities = torch.softmax(logits / max(temperature, 1e-4), -1)
        token = int(torch.multinomial(probabilities, 1, generator=rng)) if temperature else int(logits.argmax())
        if token in (END_ID, END_OF_TEXT_ID):
            break
        ids.append(token)
    return tokenizer.decode(ids[start:])
