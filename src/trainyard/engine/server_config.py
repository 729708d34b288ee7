"""What an engine process is told on its standard input."""

from typing import Literal

import msgspec

from trainyard.engine import streams, waiting


class EngineServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an engine process is told.

    Attributes:
        socket: Path to listen on, at most 107 bytes; its directory exists.
        model_dir: Hugging Face directory; unused by a fake.
        device: "auto", "cpu", "cuda" or "cuda:N"; auto takes a GPU when there is one.
        threads: Threads of torch; null leaves torch's own choice.
        kv_max_bytes: Memory for keys and values; null takes 2 GiB on a CPU and half of what the weights leave on an
            accelerator.
        max_queue: Streams that may wait; one more is refused.
        core: "fake" loads no model and no torch; its two delays are seconds per decode tick and per training
            micro-step, and `fake_max_streams` decode at once.
    """

    socket: str
    name: str
    model_dir: str
    core: Literal["model", "fake"] = "model"
    device: str = "auto"
    threads: int | None = None
    stream_stall_s: float = streams.STREAM_STALL_S
    kv_max_bytes: int | None = None
    max_queue: int = waiting.MAX_QUEUE
    fake_max_streams: int = 1024
    fake_token_s: float = 0.0
    fake_micro_step_s: float = 0.0
