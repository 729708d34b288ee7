"""Trying models of a running server, one token each."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from trainyard.core import errors
from trainyard.sdk import Client, TrainyardAPIError, results
from trainyard.sdk.call import Call

_PROMPT = "Hi"
_TEMPERATURE = 1.0
"""Drawn answers are not kept, so that every probe reaches the model."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one model.

    Attributes:
        latency_ms: Of the whole request; None when it was not sent.
        answered_by: Model that answered: another one where a fallback stepped in.
        error: What went wrong; None when nothing did.
        code: Machine-readable reason of the error.
    """

    model: str
    backend: str
    latency_ms: float | None
    error: str | None = None
    code: str | None = None
    answered_by: str | None = None

    @property
    def shown(self) -> str:
        """What became of it, in words."""
        if self.error is not None:
            return self.error
        return "ok" if self.answered_by in (None, self.model) else f"ok, answered by its fallback {self.answered_by}"

    @property
    def shown_time(self) -> str:
        """Milliseconds for a table."""
        return "" if self.latency_ms is None else f"{self.latency_ms:.1f}"

    def row(self) -> dict[str, object]:
        """Show it as plain data."""
        return asdict(self) | {"ok": self.error is None}


def chosen(served: Sequence[results.Result], name: str | None) -> list[results.Result]:
    """Choose the models to try: the named one, or all that are not off.

    Raises:
        errors.UnknownModel: There is none of that name.
    """
    if name is None:
        return [model for model in served if model.status != "off"]
    found = [model for model in served if name in (model.id, *model.aliases)]
    if not found:
        names = ", ".join(model.id for model in served) or "none"
        raise errors.UnknownModel(f"this server has no model {name!r}; it has: {names}")
    return found


def probe(client: Client, model: results.Result) -> Result:
    """Ask a model for one token, or for one vector when it can do nothing else."""
    began_s = time.monotonic()
    try:
        answer = _ask(client, model)
    except TrainyardAPIError as error:
        return Result(model.id, model.backend, _since_ms(began_s), str(error), error.code)
    return Result(model.id, model.backend, _since_ms(began_s), answered_by=answer.model)


def _ask(client: Client, model: results.Result) -> results.Result:
    if "chat" in model.capabilities:
        turn = {"role": "user", "content": _PROMPT}
        return client.chat([turn], model=model.id, max_tokens=1, temperature=_TEMPERATURE)
    if "generate" in model.capabilities:
        return client.generate(_PROMPT, model=model.id, max_new_tokens=1, temperature=_TEMPERATURE)
    return client.send(Call("POST", "/v1/embeddings", results.Result, {"model": model.id, "input": _PROMPT}))


def _since_ms(began_s: float) -> float:
    return round((time.monotonic() - began_s) * 1000, 2)
