"""Sixteen greedy streams at once beside transformers and CTranslate2; the hand-over of weights; whose turn it is."""

import random
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import transformers

import trainyard.engine
from benchmarks import decode_rivals, decode_turns, report, rivals, shapes
from trainyard.engine import types
from trainyard.engine.calls import ForwardBackward
from trainyard.engine.core import EngineCore

POCKET = Path(trainyard.engine.__file__).parent / "pocket"
EXACT = ("transformers_generate", "transformers_cb", "transformers_cb_sized")
"""Whose tokens must be ours; CTranslate2's kernels round differently, so its equal streams are counted and shown."""


def main() -> None:
    """Measure both models and print the report."""
    options = report.arguments(__doc__ or "")
    torch.set_num_threads(1)
    count, is_full = (3, False) if options.quick else (7, True)
    results = []
    for shape in shapes.DECODE:
        directory, model = rivals.random_llama(shape)
        results += measure(shape.name, directory, model, count, is_full=is_full)
    pocket = transformers.AutoModelForCausalLM.from_pretrained(POCKET, dtype=torch.float32).eval()
    results += measure("pocket", POCKET, pocket, count, is_full=is_full)
    report.publish("decode", results, options.json)


def measure(label: str, directory: Path, model: Any, count: int, *, is_full: bool) -> list[report.Result]:
    """Compare one model with every rival, and its own turns with each other."""
    core = EngineCore(directory, label, threads=1)
    rng = random.Random(0)
    vocab = core.info().vocab_size
    prompts = [
        [rng.randrange(3, vocab) for _ in range(rng.randint(*shapes.DECODE_PROMPT))]
        for _ in range(shapes.DECODE_STREAMS)
    ]
    with decode_rivals.ctranslate2(directory, prompts) as ctranslate2:
        contenders: dict[str, decode_rivals.Contender] = {
            "ours": decode_rivals.timed(lambda: ours(core, prompts)),
            "transformers_generate": decode_rivals.generate(model, prompts),
            "transformers_cb": decode_rivals.continuous_batching(model, prompts),
            "ctranslate2": ctranslate2,
        }
        if is_full:
            contenders["transformers_cb_sized"] = decode_rivals.continuous_batching(model, prompts, is_sized=True)
        seconds = rounds(label, contenders, count)
    return [
        *speeds(label, seconds),
        handover(label, core, prompts[0], count),
        *decode_turns.measure(label, core, prompts, count),
    ]


def rounds(label: str, contenders: dict[str, decode_rivals.Contender], count: int) -> dict[str, list[float]]:
    """Let all take turns; the first round is thrown away, and its tokens are compared."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(count + 1):
        said = {}
        for name, run in contenders.items():
            cpu_s, said[name] = run()
            if number:
                seconds[name].append(cpu_s)
        if not number:
            compare(label, said)
    return seconds


def compare(label: str, said: dict[str, decode_rivals.Tokens]) -> None:
    """Count the streams that say what ours say; the run ends where they have to be all."""
    for name, tokens in said.items():
        equal = sum(mine == theirs for mine, theirs in zip(said["ours"], tokens, strict=True))
        print(f"{label}: {equal} of {len(tokens)} streams of {name} say what ours say")
        if name in EXACT and equal < len(tokens):
            raise SystemExit(f"{label}: {name} decodes other tokens than we do")


def speeds(label: str, seconds: dict[str, list[float]]) -> list[report.Result]:
    """Compare tokens per CPU second with each rival's."""
    tokens = shapes.DECODE_STREAMS * shapes.DECODE_NEW
    return [
        report.ratio(f"vs_{name}", label, f"{name} tokens/cpu-s", {"ours": seconds["ours"], "theirs": theirs}, tokens)
        for name, theirs in seconds.items()
        if name != "ours"
    ]


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
