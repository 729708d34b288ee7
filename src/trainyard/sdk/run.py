"""A training run as an object: the client's verbs without the run's id."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainyard.sdk import results, training_calls
from trainyard.sdk.binding import OwnVerb
from trainyard.sdk.door import AsyncDoor, Door


class Run:
    """One run, blocking.

    Attributes:
        client: Performs the calls.
        run_id: `run_` + 16 hex digits; once trained, also the name of the model.
        config: As the server made it, defaults filled in.
    """

    def __init__(self, client: Door, run_id: str, config: Mapping[str, Any] | None = None) -> None:
        self.client = client
        self.run_id = run_id
        self.config = results.Result(config or {})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.run_id!r})"

    @property
    def own_id(self) -> str:
        """What its verbs are called with."""
        return self.run_id

    get_status = OwnVerb(training_calls.get_run_status, Door.send)
    get_metrics = OwnVerb(training_calls.get_run_metrics, Door.send)
    list_artifacts = OwnVerb(training_calls.list_artifacts, Door.send)
    forward_backward = OwnVerb(training_calls.forward_backward, Door.send)
    optim_step = OwnVerb(training_calls.optim_step, Door.send)
    sample = OwnVerb(training_calls.sample, Door.send)
    sample_stream = OwnVerb(training_calls.sample_stream, Door.stream)
    embeddings = OwnVerb(training_calls.embeddings, Door.send)
    save_state = OwnVerb(training_calls.save_state, Door.send)
    tokenize = OwnVerb(training_calls.tokenize, Door.send)
    detokenize = OwnVerb(training_calls.detokenize, Door.send)
    get_tokenizer_info = OwnVerb(training_calls.get_tokenizer_info, Door.send)
    get_model_info = OwnVerb(training_calls.get_model_info, Door.send)
    apply_chat_template = OwnVerb(training_calls.apply_chat_template, Door.send)
    complete = OwnVerb(training_calls.complete, Door.send)

    def download(self, artifact: Mapping[str, Any], directory: Path | str) -> Path:
        """Fetch a checkpoint of this run as `Client.download` does."""
        return self.client.download(artifact, directory)


class AsyncRun:
    """One run, on the event loop; attributes as those of `Run`."""

    def __init__(self, client: AsyncDoor, run_id: str, config: Mapping[str, Any] | None = None) -> None:
        self.client = client
        self.run_id = run_id
        self.config = results.Result(config or {})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.run_id!r})"

    @property
    def own_id(self) -> str:
        """What its verbs are called with."""
        return self.run_id

    get_status = OwnVerb(training_calls.get_run_status, AsyncDoor.send)
    get_metrics = OwnVerb(training_calls.get_run_metrics, AsyncDoor.send)
    list_artifacts = OwnVerb(training_calls.list_artifacts, AsyncDoor.send)
    forward_backward = OwnVerb(training_calls.forward_backward, AsyncDoor.send)
    optim_step = OwnVerb(training_calls.optim_step, AsyncDoor.send)
    sample = OwnVerb(training_calls.sample, AsyncDoor.send)
    sample_stream = OwnVerb(training_calls.sample_stream, AsyncDoor.stream)
    embeddings = OwnVerb(training_calls.embeddings, AsyncDoor.send)
    save_state = OwnVerb(training_calls.save_state, AsyncDoor.send)
    tokenize = OwnVerb(training_calls.tokenize, AsyncDoor.send)
    detokenize = OwnVerb(training_calls.detokenize, AsyncDoor.send)
    get_tokenizer_info = OwnVerb(training_calls.get_tokenizer_info, AsyncDoor.send)
    get_model_info = OwnVerb(training_calls.get_model_info, AsyncDoor.send)
    apply_chat_template = OwnVerb(training_calls.apply_chat_template, AsyncDoor.send)
    complete = OwnVerb(training_calls.complete, AsyncDoor.send)

    async def download(self, artifact: Mapping[str, Any], directory: Path | str) -> Path:
        """Fetch a checkpoint of this run as `AsyncClient.download` does."""
        return await self.client.download(artifact, directory)
