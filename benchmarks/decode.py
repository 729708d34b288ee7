"""Sixteen greedy streams at once beside `transformers.generate` on a static batch, and the hand-over of new weights."""

import random
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import transformers

import trainyard.engine
from benchmarks import report, rivals, shapes
from trainyard.engine import types
from trainyard.engine.calls import ForwardBackward
from trainyard.engine.core import EngineCore

POCKET = Path(trainyard.engine.__file__).parent / "pocket"
RIVAL = "transformers.generate tokens/cpu-s"


def main() -> None:
    """Measure both models and print the report."""
    options = report.arguments(__doc__ or "")
    torch.set_num_threads(1)
    count = 3 if options.quick else 7
    results = []
    for shape in shapes.DECODE:
        directory, model = rivals.random_llama(shape)
        results += measure(shape.name, directory, model, count)
    pocket = transformers.AutoModelForCausalLM.from_pretrained(POCKET, dtype=torch.float32).eval()
    results += measure("pocket", POCKET, pocket, count)
    report.publish("decode", results, options.json)


def measure(label: str, directory: Path, model: Any, count: int) -> list[report.Result]:
    """Compare one model; every stream must give the rival's tokens."""
    core = EngineCore(directory, label, threads=1)
    rng = random.Random(0)
    vocab = core.info().vocab_size
    prompts = [
        [rng.randrange(3, vocab) for _ in range(rng.randint(*shapes.DECODE_PROMPT))]
        for _ in range(shapes.DECODE_STREAMS)
    ]
    if ours(core, prompts) != theirs(model, prompts):
        raise SystemExit(f"{label}: the two sides decode different tokens")
    seconds = report.rounds({"ours": lambda: ours(core, prompts), "theirs": lambda: theirs(model, prompts)}, count)
    tokens = shapes.DECODE_STREAMS * shapes.DECODE_NEW
    speed = report.ratio("vs_transformers_generate", label, RIVAL, seconds, tokens)
    return [speed, handover(label, core, prompts[0], count)]


def request(name: str, prompt: list[int], max_tokens: int, run_id: str | None = None) -> types.GenerateRequest:
    """Ask for greedy tokens."""
    sampling = types.Sampling(max_tokens=max_tokens, temperature=0.0)
    return types.GenerateRequest(stream_id=name, prompt=types.int32(prompt), sampling=sampling, run_id=run_id)


def ours(core: EngineCore, prompts: list[list[int]]) -> list[list[int]]:
    """Decode all prompts as streams that arrive at once."""
    out: list[list[int]] = [[] for _ in prompts]
    for i, prompt in enumerate(prompts):
        core.admit(request(str(i), prompt, shapes.DECODE_NEW))
    while core.has_streams:
        for name, event in core.tick():
            out[int(name)].append(event.token)
    return out


@torch.inference_mode()
def theirs(model: Any, prompts: list[list[int]]) -> list[list[int]]:
    """Decode all prompts as one batch padded on the left."""
    width = max(map(len, prompts))
    out = model.generate(
        torch.tensor([[0] * (width - len(p)) + p for p in prompts]),
        attention_mask=torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts]),
        max_new_tokens=shapes.DECODE_NEW,
        min_new_tokens=shapes.DECODE_NEW,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return [[int(t) for t in row[width:]] for row in out]


def handover(label: str, core: EngineCore, prompt: list[int], count: int) -> report.Result:
    """Time from the return of `optim_step` until a request is admitted with the new weights; no file is written."""
    core.open_run(rivals.run_spec())
    datum = types.Datum(
        tokens=types.int32(prompt[:-1]),
        targets=types.int32(prompt[1:]),
        weights=types.float32([1.0] * (len(prompt) - 1)),
    )
    times_ms = []
    for number in range(count):
        running = core.begin_training(
            [ForwardBackward(run_id="run_0", data=[datum], accumulate=False, loss_fn="causal_lm")]
        )
        while not running.step():
            pass
        core.optim_step("run_0")
        start = time.perf_counter()
        core.admit(request("a", prompt, 1, "run_0"))
        times_ms.append((time.perf_counter() - start) * 1e3)
        ((_, event),) = core.tick()
        if event.weights_version != f"run_0@{number + 1}":
            raise SystemExit(f"{label}: the request got {event.weights_version}, not the new weights")
    core.close_run("run_0")
    return report.Result("handover_ms", label, statistics.median(times_ms), "ms", None, None, report.spread(times_ms))


if __name__ == "__main__":
    main()
