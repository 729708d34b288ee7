"""What calls answer: JSON objects, readable as attributes and as items; the classes name the fields that matter."""

import json
from typing import Any


class Result(dict[str, Any]):
    """A JSON object whose fields are also attributes: `result["loss"]` is `result.loss`.

    Where a field has the name of a method of `dict` (`items`, `keys`, …), the attribute is the method.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no field {name!r} in this answer; it has {sorted(self)}") from None


def decode(text: str | bytes) -> Any:
    """Read JSON with every object in it as a `Result`."""
    return json.loads(text, object_hook=Result)


class ForwardBackward(Result):
    """Answer of `forward_backward`; the loss is the mean over the weighted tokens of this batch, in nats."""

    loss: float
    step: int
    grad_norm: float
    metrics: Result


class OptimStep(Result):
    """Answer of `optim_step`: the step count after it and the learning rate that was applied."""

    step: int
    learning_rate: float
    metrics: Result


class Samples(Result):
    """Answer of `sample`: one entry per prompt in each list."""

    outputs: list[str]
    token_ids: list[list[int]]
    tokens: list[list[str]]
    logprobs: list[list[float]] | None


class SavedState(Result):
    """Answer of `save_state`: where the checkpoint lies and what it holds."""

    artifact_id: str
    name: str
    step: int
    mode: str
    artifact_uri: str
    local_path: str
    download_url: str
    manifest: Result


class RunStatus(Result):
    """A run and where it stands."""

    run_id: str
    user_id: str
    base_model: str
    status: str
    config: Result
    current_step: int


class RunMetrics(Result):
    """The numbers of every call of a run so far, oldest first."""

    run_id: str
    step: int
    metrics: list[Result]


class Tokens(Result):
    """Answer of `tokenize`: one list per text."""

    token_ids: list[list[int]]
    tokens: list[list[str]]


class Embeddings(Result):
    """Answer of `embeddings`: one vector per text."""

    embeddings: list[list[float]]
    dimensions: int


class ChatPrompt(Result):
    """Answer of `apply_chat_template`."""

    text: str
    token_ids: list[int]


class Generation(Result):
    """Answer of `generate`."""

    model: str
    output: str
    cached: bool


class Batch(Result):
    """Answer of `generate_batch`: one entry per prompt."""

    model: str
    results: list[Result]


class Vectors(Result):
    """Answer of `embed`, in the shape of OpenAI's embeddings."""

    model: str
    data: list[Result]
    usage: Result

    @property
    def vectors(self) -> list[list[float]]:
        """One vector per text."""
        return [row["embedding"] for row in self["data"]]


class Chat(Result):
    """Answer of `chat`, in the shape of a chat completion."""

    model: str
    choices: list[Result]
    usage: Result

    @property
    def text(self) -> str:
        """What the assistant said in the first choice."""
        return str(self["choices"][0]["message"]["content"] or "")
