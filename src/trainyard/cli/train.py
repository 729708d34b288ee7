"""`trainyard train`: a whole supervised fine-tune of one JSON Lines file."""

import contextlib
import shlex
from pathlib import Path
from typing import Any

import typer

from trainyard.cli import dataset, lengths, models, options, output, train_options
from trainyard.cli.finetune import FineTune, Outcome, Plan
from trainyard.cli.interrupt import Interrupt
from trainyard.cli.train_view import TrainView
from trainyard.core import errors
from trainyard.sdk import Client, Run

DECAYS = ("cosine", "linear")
"""Schedules that must know how many steps there will be."""


def train(
    data: train_options.Data,
    model: train_options.Model = None,
    epochs: train_options.Epochs = 3,
    steps: train_options.Steps = None,
    batch_size: train_options.BatchSize = 8,
    lr: train_options.Rate = None,
    rank: train_options.Rank = None,
    alpha: train_options.Alpha = None,
    scheduler: train_options.Scheduler = None,
    warmup: train_options.Warmup = None,
    seed: train_options.Seed = 0,
    validation: train_options.Validation = 0.1,
    eval_every: train_options.EvalEvery = None,
    checkpoint_every: train_options.CheckpointEvery = 0,
    resume: train_options.Resume = None,
    url: options.Url = None,
    key: options.Key = None,
    as_json: options.AsJson = False,
) -> None:
    """Fine-tune a model on a file, with validation loss and checkpoints; Ctrl-C saves and says how to go on."""
    lines, held_out = dataset.hold_out(dataset.read(data), validation)
    batches = dataset.Batches(lines, batch_size, seed)
    per_epoch = batches.per_epoch
    plan = Plan(steps or epochs * per_epoch, per_epoch if eval_every is None else eval_every, checkpoint_every)
    config = {
        "lora_r": rank, "lora_alpha": alpha, "learning_rate": lr, "lr_scheduler": scheduler, "warmup_steps": warmup
    }  # fmt: skip
    with Client(key, url) as client:
        with contextlib.ExitStack() as undo:
            if resume:
                run = _continued(client, resume, model, config)
            else:
                run = _new(client, model, config, plan, seed)
                undo.callback(run.complete)  # a run that cannot begin shall not take one of the user's places
            lengths.check(run, [*lines, *held_out], str(data))
            undo.pop_all()
        first = int(run.get_status().current_step)
        if not as_json:
            _announce(run, len(lines), len(held_out), first, plan.steps)
        with Interrupt() as interrupt, TrainView(output.console(), plan.steps, first, is_quiet=as_json) as view:
            outcome = FineTune(run, batches, held_out, plan, view).go(lambda: interrupt.is_set)
    again = _resume_command(
        data, run.run_id, steps=plan.steps, batch_size=batch_size, seed=seed, validation=validation,
        eval_every=plan.evaluate_every, checkpoint_every=checkpoint_every, url=url,
    )  # fmt: skip
    _conclude(run.run_id, outcome, None if outcome.is_complete else again, as_json)


def _new(client: Client, model: str | None, config: dict[str, Any], plan: Plan, seed: int) -> Run:
    total = plan.steps if config["lr_scheduler"] in DECAYS else None
    return client.create_run(model or models.to_train(client), **config, lr_total_steps=total, seed=seed)


def _continued(client: Client, run_id: str, model: str | None, config: dict[str, Any]) -> Run:
    given = [name for name, value in {"model": model, **config}.items() if value is not None]
    if given:
        raise errors.InvalidRequest(
            f"a resumed run keeps the {given[0]} that it was made with; leave that option out", param=given[0]
        )
    return client.runs.get(run_id)


def _announce(run: Run, lines: int, held_out: int, first: int, steps: int) -> None:
    output.plain(
        f"{run.run_id}: {run.config.base_model}, {lines} lines to learn, {held_out} held out, step {first} of {steps}"
    )


def _resume_command(data: Path, run_id: str, **values: object) -> str:
    """Write the command that continues this training with the same batches."""
    words = ["trainyard", "train", "--data", str(data), "--resume", run_id]
    for name, value in values.items():
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


def _conclude(run_id: str, outcome: Outcome, again: str | None, as_json: bool) -> None:
    if as_json:
        validation = [{"step": step, "loss": loss} for step, loss in outcome.validation]
        output.json_line(
            {
                "run_id": run_id, "step": outcome.step, "is_complete": outcome.is_complete, "tokens": outcome.tokens,
                "tokens_per_s": outcome.tokens_per_s, "validation": validation, "checkpoint": outcome.saved,
                "resume": again,
            }
        )  # fmt: skip
    elif again:
        output.plain(f"stopped at step {outcome.step}, saved; continue with\n{again}")
    else:
        made = f"{outcome.tokens:,} tokens at {outcome.tokens_per_s:,.0f} a second" if outcome.tokens else ""
        output.plain(
            f"done: {made or f'all {outcome.step} steps were made before'}\n"
            f"adapter: {outcome.saved.local_path}\ntry it: trainyard chat --model {run_id}"
        )
    if again:
        raise typer.Exit(130)
