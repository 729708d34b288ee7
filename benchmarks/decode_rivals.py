"""Who decodes beside us: each takes the same prompts and gives its CPU seconds and its tokens, round by round."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks import setup, shapes

Tokens = list[list[int]]
Contender = Callable[[], tuple[float, Tokens]]
"""One round: (CPU seconds, new tokens of each prompt)."""

_WORKER = Path(__file__).with_name("ct2_worker.py")


def timed(work: Callable[[], Tokens]) -> Contender:
    """Count the CPU seconds of this process around a piece of work."""

    def contender() -> tuple[float, Tokens]:
        start = time.process_time()
        tokens = work()
        return time.process_time() - start, tokens

    return contender


def generate(model: Any, prompts: Tokens) -> Contender:
    """`transformers.generate` on one static batch, padded on the left."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])

    @torch.inference_mode()
    def run() -> Tokens:
        out = model.generate(
            ids,
            attention_mask=mask,
            max_new_tokens=shapes.DECODE_NEW,
            min_new_tokens=shapes.DECODE_NEW,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        return [[int(t) for t in row[width:]] for row in out]

    return timed(run)


def continuous_batching(model: Any, prompts: Tokens, *, is_sized: bool = False) -> Contender:
    """`transformers.generate_batch`: its own continuous batching, as it comes or told the size of its memory."""
    transformers.utils.logging.set_verbosity_error()
    settings = transformers.GenerationConfig(
        max_new_tokens=shapes.DECODE_NEW, do_sample=False, eos_token_id=-1, pad_token_id=0
    )
    batching = transformers.ContinuousBatchingConfig(**(shapes.CONTINUOUS_BATCHING if is_sized else {}))

    @torch.no_grad()
    def run() -> Tokens:
        out = model.generate_batch(
            inputs=prompts, generation_config=settings, continuous_batching_config=batching, progress_bar=False
        )
        ordered = sorted(out.items(), key=lambda item: int(item[0].rpartition("_")[2]))
        return [list(result.generated_tokens) for _, result in ordered]

    return timed(run)


@contextlib.contextmanager
def ctranslate2(directory: Path, prompts: Tokens) -> Iterator[Contender]:
    """CTranslate2 in a process of its own, which counts its CPU seconds around the generation alone."""
    setup.make("ct2")
    python = setup.environment("ct2") / "bin" / "python"
    environ = os.environ | {"OMP_NUM_THREADS": "1"}
    argv = [str(python), "-W", "ignore", str(_WORKER), str(directory), str(shapes.DECODE_NEW)]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("both pipes were asked for")
        lines_in, lines_out = process.stdin, process.stdout

        def ask(line: str) -> None:
            lines_in.write(line + "\n")
            lines_in.flush()

        def contender() -> tuple[float, Tokens]:
            ask("")
            answer = json.loads(lines_out.readline())
            return answer["cpu_s"], answer["tokens"]

        ask(json.dumps(prompts))
        yield contender
        lines_in.close()
