"""The calls of the engine protocol as typed messages: one struct per method of `Engine`, tagged by its name.

The same objects are commands of the compute thread, whether they came over a socket or from the same process.
"""

from typing import Literal

import msgspec

from trainyard.engine import types


class Call(msgspec.Struct, frozen=True, kw_only=True, tag_field="call", tag=lambda name: name):
    """Base of every call."""


class Info(Call, frozen=True, kw_only=True):
    """`Engine.info`."""


class Stats(Call, frozen=True, kw_only=True):
    """`Engine.stats`."""


class OpenRun(Call, frozen=True, kw_only=True):
    """`Engine.open_run`."""

    spec: types.RunSpec


class GetRunState(Call, frozen=True, kw_only=True):
    """`Engine.run_state`."""

    run_id: str


class CloseRun(Call, frozen=True, kw_only=True):
    """`Engine.close_run`."""

    run_id: str


class ForwardBackward(Call, frozen=True, kw_only=True):
    """`Engine.forward_backward`."""

    run_id: str
    data: list[types.Datum]
    accumulate: bool
    loss_fn: str


class OptimStep(Call, frozen=True, kw_only=True):
    """`Engine.optim_step`."""

    run_id: str
    learning_rate: float | None


class Save(Call, frozen=True, kw_only=True):
    """`Engine.save`."""

    run_id: str
    mode: Literal["adapter", "merged"]
    directory: str


class Generate(Call, frozen=True, kw_only=True):
    """`Engine.generate`; answered by tokens, not by a result."""

    request: types.GenerateRequest


class Embed(Call, frozen=True, kw_only=True):
    """`Engine.embed`."""

    request: types.EmbedRequest


AnyCall = Info | Stats | OpenRun | GetRunState | CloseRun | ForwardBackward | OptimStep | Save | Generate | Embed

RESULTS: dict[type[Call], type[types.Message]] = {
    Info: types.ModelInfo,
    Stats: types.EngineStats,
    OpenRun: types.RunState,
    GetRunState: types.RunState,
    CloseRun: types.RunState,
    ForwardBackward: types.ForwardBackwardResult,
    OptimStep: types.OptimResult,
    Save: types.SaveResult,
    Embed: types.EmbedResult,
}
"""What each call is answered with; `Generate` is absent because its answer is a stream."""


def run_of(call: AnyCall) -> str | None:
    """Name the run whose order the call keeps; None for calls that wait for nothing (a run's state is told at once)."""
    match call:
        case OpenRun(spec=spec):
            return spec.run_id
        case CloseRun(run_id=run_id) | ForwardBackward(run_id=run_id) | OptimStep(run_id=run_id) | Save(run_id=run_id):
            return run_id
        case _:
            return None
