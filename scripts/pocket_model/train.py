"""Trains the decoder for a budget of minutes or of steps.

Matrices inside the layers are trained by Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers", in PyTorch's
own implementation), embedding and norms by AdamW. After 410,000 tokens in steps of 2,048 the loss was 2.14, with AdamW
for everything (rate 0.003, decay 0.05) 3.08; Muon's step costs a tenth more.

Shape letters: B windows, T tokens of a window, N = B x T, V vocabulary.
"""

import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import tokenizers
import torch
from torch import Tensor, nn

from scripts.pocket_model import corpus, packing
from scripts.pocket_model.plan import Plan
from scripts.pocket_model.team import Team, join
from trainyard.engine.model import Decoder


@dataclass
class Progress:
    """What training has done so far.

    Attributes:
        tokens: tokens in the windows that were trained on, padding included.
        seconds: by the clock, since the first step.
        cpu_seconds: processor time of the first process since then.
        loss: the last value of the weighted loss, in nats per token.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    long_tokens: int = 0
    loss: float = math.nan


class Watch:
    """Measures what has been spent since it was made."""

    def __init__(self) -> None:
        self._begin = time.perf_counter(), time.process_time()

    def spent(self) -> tuple[float, float]:
        """Seconds by the clock and of this process's processor time."""
        return time.perf_counter() - self._begin[0], time.process_time() - self._begin[1]


def learning_rate(done: float, warmup: float = 0.03) -> float:
    """Scale the peak rate: linear warm-up, then a cosine down to 1 %, over the done share 0..1 of the budget."""
    if done < warmup:
        return max(done, 0.002) / warmup
    return 0.01 + 0.99 * (1 + math.cos(math.pi * min(1.0, (done - warmup) / (1 - warmup)))) / 2


def matrices_of(decoder: nn.Module) -> list[nn.Parameter]:
    """List the matrices inside the layers."""
    return [p for name, p in decoder.named_parameters() if p.dim() == 2 and "embed" not in name]


def optimizers(decoder: nn.Module, plan: Plan, team: Team) -> list[torch.optim.Optimizer]:
    """Give the member's share of the layers' matrices to Muon, and everything else to AdamW.

    Queries and keys would grow under Muon until attention looks at single tokens and learns nothing any more (at a rate
    of 0.012 the largest score was 460 and the entropy 0.05 nats after 600 steps), and without growth attention stays
    even (at 0.002 with a decay of 1: 5.0 nats after 200 steps). A decay of 0.6 lies between the two.
    """
    attention = {id(p) for name, p in decoder.named_parameters() if name.endswith("qkv.weight")}
    mine = team.owned(matrices_of(decoder), team.rank)
    groups = [
        {"params": [p for p in mine if id(p) in attention], "weight_decay": 0.6},
        {"params": [p for p in mine if id(p) not in attention], "weight_decay": 0.1},
    ]
    rest = [p for name, p in decoder.named_parameters() if p.dim() != 2 or "embed" in name]
    return [
        torch.optim.Muon(
            [group for group in groups if group["params"]], lr=plan.muon_rate, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(rest, lr=plan.adamw_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def loss_of(decoder: Decoder, tokens_BT: Tensor, weights_BT: Tensor) -> Tensor:
    """Weighted mean cross-entropy of the next token, in nats; matmuls run in bfloat16, the loss in float32."""
    with torch.autocast("cpu", torch.bfloat16):
        logits_BTV = decoder(tokens_BT[:, :-1])
    losses_N = nn.functional.cross_entropy(
        logits_BTV.float().flatten(0, 1), tokens_BT[:, 1:].flatten(), reduction="none"
    )
    weights_N = weights_BT[:, 1:].flatten()
    return (losses_N * weights_N).sum() / weights_N.sum()


def run(
    decoder: Decoder, tokenizer: tokenizers.Tokenizer, plan: Plan, team: Team, report: Callable[[Progress], None]
) -> Progress:
    """Train in place, first on short windows, for the last part of the budget on long ones."""
    steppers = optimizers(decoder, plan, team)
    groups = [(group, group["lr"]) for stepper in steppers for group in stepper.param_groups]
    progress, watch = Progress(), Watch()
    short = _stream(tokenizer, plan, team, plan.short_window, 0.0)
    long = _stream(tokenizer, plan, team, plan.long_window, plan.long_share)
    while (done := plan.done(progress.step, progress.cpu_seconds, progress.seconds)) < 1:
        is_long = done >= plan.long_after
        tokens_BT, weights_BT = next(long if is_long else short)
        for group, peak in groups:
            group["lr"] = peak * learning_rate(done)
        progress.loss = _step(decoder, steppers, tokens_BT, weights_BT, team, progress, watch)
        progress.step += 1
        progress.long_tokens += tokens_BT.numel() * team.size * is_long
        progress.tokens += tokens_BT.numel() * team.size
        report(progress)
    return progress


def _step(
    decoder: Decoder,
    steppers: list[torch.optim.Optimizer],
    tokens_BT: Tensor,
    weights_BT: Tensor,
    team: Team,
    progress: Progress,
    watch: Watch,
) -> float:
    loss = loss_of(decoder, tokens_BT, weights_BT)
    loss.backward()  # type: ignore[no-untyped-call]
    parameters = list(decoder.parameters())
    progress.seconds, progress.cpu_seconds = team.average(parameters, watch.spent())
    nn.utils.clip_grad_norm_(parameters, 1.0)
    for stepper in steppers:
        stepper.step()
    decoder.zero_grad()
    team.publish(matrices_of(decoder))
    return loss.item()


def _stream(
    tokenizer: tokenizers.Tokenizer, plan: Plan, team: Team, window: int, long_share: float
) -> Iterator[tuple[Tensor, Tensor]]:
    documents = corpus.documents(plan.seed + window + 10_000 * team.rank, long_share)
    return packing.batches(documents, tokenizer, window, max(1, plan.batch_tokens // window // team.size))


def assist(rank: int, plan: Plan, tokenizer_file: str, meeting_file: str) -> None:
    """Be a member other than the first, in a process of its own."""
    team = join(rank, plan.threads, meeting_file)
    torch.manual_seed(plan.seed)
    run(Decoder(plan.config()), tokenizers.Tokenizer.from_file(tokenizer_file), plan, team, lambda _: None)


def lead(decoder: Decoder, tokenizer_file: str, plan: Plan, report: Callable[[Progress], None]) -> Progress:
    """Start the other members, be the first and train a decoder made right after `torch.manual_seed(plan.seed)`."""
    with tempfile.TemporaryDirectory() as folder:
        meeting_file = f"{folder}/meeting"
        context = multiprocessing.get_context("spawn")
        others = [
            context.Process(target=assist, args=(rank, plan, tokenizer_file, meeting_file), daemon=True)
            for rank in range(1, plan.threads)
        ]
        for other in others:
            other.start()
        team = join(0, plan.threads, meeting_file)
        progress = run(decoder, tokenizers.Tokenizer.from_file(tokenizer_file), plan, team, report)
        for other in others:
            other.join()
    return progress
