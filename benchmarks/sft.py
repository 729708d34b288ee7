"""One tenant's supervised fine-tune: our step beside a plain transformers + PEFT loop, tokens per CPU second."""

import copy
from collections.abc import Callable

import torch

from benchmarks import report, rivals, shapes
from trainyard.core import errors
from trainyard.engine import loading, types
from trainyard.engine.calls import ForwardBackward
from trainyard.engine.trainer import Trainer

SHARES = {"unmasked_vs_hf": 1.0, "half_masked_vs_hf": 0.5}
"""Result -> share of the positions that the loss counts."""
FIRST_LOSS_TOLERANCE = 1e-3
"""Both sides start from the same function (B = 0), so their first losses must agree."""


def main() -> None:
    """Measure all shapes and print the report."""
    options = report.arguments(__doc__ or "")
    torch.set_num_threads(1)
    results = [
        measure(shape, name, share, 5 if options.quick else 11)
        for shape in shapes.TRAINING
        for name, share in SHARES.items()
    ]
    report.publish("sft", results, options.json)


def measure(shape: shapes.Shape, name: str, share: float, count: int) -> report.Result:
    """Compare one shape and one mask."""
    directory, model = rivals.random_llama(shape)
    batch = rivals.examples(shape, shapes.TRAINING_ROWS, shapes.TRAINING_TOKENS, share)
    trainer = Trainer(loading.load_decoder(directory))
    trainer.open_run(rivals.run_spec())
    theirs, ours = rivals.peft_step(copy.deepcopy(model), batch), our_step(trainer, batch)
    first = theirs(), ours()
    if abs(first[0] - first[1]) > FIRST_LOSS_TOLERANCE:
        raise SystemExit(f"the two sides compute different losses: {first}")
    seconds = report.rounds({"ours": ours, "theirs": theirs}, count)
    tokens = shapes.TRAINING_ROWS * shapes.TRAINING_TOKENS
    return report.ratio(name, shape.name, "transformers+peft tokens/cpu-s", seconds, tokens)


def our_step(trainer: Trainer, batch: list[types.Datum]) -> Callable[[], float]:
    """Build our forward_backward and optim_step on the same data."""
    call = ForwardBackward(run_id="run_0", data=batch, accumulate=False, loss_fn="causal_lm")

    def step() -> float:
        running = trainer.begin([call])
        while not running.step():
            pass
        (result,) = running.results()
        if isinstance(result, errors.TrainyardError):
            raise result
        trainer.optim_step("run_0")
        return result.loss

    return step


if __name__ == "__main__":
    main()
