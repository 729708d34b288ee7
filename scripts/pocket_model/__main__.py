"""`python -m scripts.pocket_model`: makes the pocket model in one command."""

import argparse
import hashlib
import platform
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import tokenizers
import torch

from scripts.pocket_model import card, corpus, dialogues, measure, tokenizer, train
from scripts.pocket_model.exchange import Document
from scripts.pocket_model.plan import Plan
from trainyard.engine import loading
from trainyard.engine.model import Decoder

SHIPPED = Path(__file__).parents[2] / "src/trainyard/engine/pocket"
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
# Streams of these seeds are disjoint from the training streams, which use seed + window length.
_HELD_OUT_SEED, _SAMPLE_SEED, _TEMPERATURE = 1_000_003, 2024, 0.3
_CHECKPOINT_S = 120.0


def main(arguments: list[str] | None = None) -> None:
    """Make the model from command-line arguments."""
    plan, out = _parse(arguments)
    learned = tokenizer.train(_texts(islice(corpus.documents(plan.seed), plan.tokenizer_documents)), plan.vocab_size)
    tokenizer.save(learned, out, plan.max_positions)
    torch.manual_seed(plan.seed)
    decoder = Decoder(plan.config())
    progress = train.lead(decoder, str(out / "tokenizer.json"), plan, _Reporter(decoder, out))
    loading.save_decoder(decoder, out, torch.bfloat16)
    shipped = loading.load_decoder(out)
    card.write(out / "CARD.md", plan, progress, figures(shipped, learned, plan, out))
    print(f"wrote {out}")


def _parse(arguments: list[str] | None) -> tuple[Plan, Path]:
    parser = argparse.ArgumentParser(prog="python -m scripts.pocket_model", description="Make the pocket model.")
    parser.add_argument("--quick", action="store_true", help="a tiny model in seconds, to test the path")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="directory to write (default: the shipped model)")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--threads", type=int, default=Plan.threads)
    parser.add_argument(
        "--minutes", type=float, default=Plan.minutes, help="processor minutes per process for training"
    )
    parser.add_argument("--wall-minutes", type=float, default=Plan.wall_minutes, help="longest training by the clock")
    given = parser.parse_args(arguments)
    if given.quick and given.out == SHIPPED:
        parser.error("--quick needs --out, so that it does not replace the shipped model")
    plan = Plan(seed=given.seed, threads=given.threads, minutes=given.minutes, wall_minutes=given.wall_minutes)
    return (plan.quick() if given.quick else plan), given.out


class _Reporter:
    """Prints progress and saves the weights now and then, so that a broken run leaves something."""

    def __init__(self, decoder: Decoder, out: Path) -> None:
        self._decoder, self._out, self._saved_s = decoder, out, 0.0

    def __call__(self, progress: train.Progress) -> None:
        if progress.step % 25 == 0:
            rate = progress.tokens / progress.seconds
            print(
                f"step {progress.step}  {progress.seconds:.0f} s  loss {progress.loss:.4f}  {rate:.0f} tokens/s",
                flush=True,
            )
        if progress.seconds - self._saved_s > _CHECKPOINT_S:
            self._saved_s = progress.seconds
            loading.save_decoder(self._decoder, self._out, torch.bfloat16)


def figures(decoder: Decoder, learned: tokenizers.Tokenizer, plan: Plan, out: Path) -> card.Figures:
    """Measure everything that the card states, on the weights as they were written."""
    words, forms = count(islice(corpus.documents(plan.seed), plan.counted_documents))
    files = [path for path in out.iterdir() if path.name != "CARD.md"]
    return card.Figures(
        command=_command(plan),
        parameters=sum(parameter.numel() for parameter in decoder.parameters()),
        words=len(words),
        forms=len(forms),
        scores=measure.score(decoder, learned, corpus.held_out(_HELD_OUT_SEED, plan.checked)),
        sums_20=measure.sum_accuracy(decoder, learned, "plus_20", plan.checked, _HELD_OUT_SEED),
        sums_100=measure.sum_accuracy(decoder, learned, "plus_100", plan.checked, _HELD_OUT_SEED),
        samples=_samples(decoder, learned),
        sample_seed=_SAMPLE_SEED,
        temperature=_TEMPERATURE,
        sha256=hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest(),
        file_bytes=sum(path.stat().st_size for path in files),
        processor=platform.processor() or platform.machine(),
    )


def _command(plan: Plan) -> str:
    """Write the command line that makes this plan, wherever its files go."""
    if plan.steps:
        return f"python -m scripts.pocket_model --quick --seed {plan.seed} --threads {plan.threads}"
    options = (
        f"--seed {plan.seed} --threads {plan.threads} --minutes {plan.minutes:g} --wall-minutes {plan.wall_minutes:g}"
    )
    return f"python -m scripts.pocket_model {options}"


def count(documents: Iterator[Document]) -> tuple[set[str], set[str]]:
    """Collect the distinct words (lower case) and forms of documents."""
    words: set[str] = set()
    forms: set[str] = set()
    for document in documents:
        forms.update(document.forms)
        for text in _contents(document):
            words.update(_WORD.findall(text.lower()))
    return words, forms


def _contents(document: Document) -> list[str]:
    return [content for _, content in document.turns] or [document.text]


def _texts(documents: Iterator[Document]) -> Iterator[str]:
    for document in documents:
        yield from _contents(document)


def _samples(decoder: Decoder, learned: tokenizers.Tokenizer) -> list[tuple[str, str]]:
    rng, generator = Random(_SAMPLE_SEED), torch.Generator().manual_seed(_SAMPLE_SEED)
    requests: list[str] = []
    while len(requests) < 10:
        made = dialogues.single(rng)
        if made.is_held_out and not made.system:
            requests.append(made.user)
    return [(user, measure.sample(decoder, learned, user, generator, _TEMPERATURE)) for user in requests]


if __name__ == "__main__":
    main()
