"""A training server in a few lines, behind the real client: it keeps a run's step and fails when told to."""

import json
from collections import deque
from typing import Any

import httpx

from trainyard.sdk import Client, RetryPolicy, Run

RUN = "run_0123456789abcdef"
TOKENS = 10


class TrainingYard:
    """Answers the verbs of one run.

    A token is a character, and the chat template writes 10 more around each turn.

    Attributes:
        asked: Every verb so far, oldest first.
        batches: What each `forward_backward` held, oldest first.
        applied: The batch whose gradients each `optim_step` applied, oldest first.
        saves: The step of each checkpoint.
    """

    def __init__(self, step: int = 0) -> None:
        self.step = step
        self.asked: list[str] = []
        self.batches: list[list[Any]] = []
        self.applied: list[list[Any]] = []
        self.saves: list[int] = []
        self._held: list[Any] | None = None
        self._failures: deque[tuple[str, httpx.Response, int | None]] = deque()

    def fail(self, verb: str, status: int, code: str, *, back_to: int | None = None) -> None:
        """Let the next call of a verb fail; the run then is at step back_to, and its gradients are gone."""
        self._failures.append((verb, httpx.Response(status, json={"error": "it died", "code": code}), back_to))

    def run(self, **config: object) -> Run:
        client = Client("sk-x", "http://yard.test", retry=RetryPolicy(attempts=1), transport=httpx.MockTransport(self))
        return Run(client, RUN, config)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        verb = request.url.path.rpartition("/")[2]
        self.asked.append(verb)
        if self._failures and self._failures[0][0] == verb:
            _, answer, back_to = self._failures.popleft()
            if back_to is not None:
                self.step, self._held = back_to, None
            return answer
        return httpx.Response(200, json=getattr(self, f"_{verb}")(json.loads(request.content or "null")))

    def _status(self, body: Any) -> dict[str, Any]:
        return {"run_id": RUN, "current_step": self.step, "status": "active"}

    def _forward_backward(self, body: Any) -> dict[str, Any]:
        assert body["accumulate"] is False
        self._held = body["batch_data"]
        self.batches.append(self._held)
        loss_sum = sum(float(len(example["text"])) for example in self._held)
        metrics = {"tokens": TOKENS, "loss_sum": loss_sum, "weighted_tokens": float(len(self._held))}
        return {"loss": loss_sum / len(self._held), "step": self.step, "metrics": metrics}

    def _optim_step(self, body: Any) -> dict[str, Any]:
        assert self._held is not None, "the loop must compute gradients before it applies them"
        self.applied.append(self._held)
        self._held = None
        self.step += 1
        return {"step": self.step, "learning_rate": 0.5}

    def _save_state(self, body: Any) -> dict[str, Any]:
        self.saves.append(self.step)
        return {"name": f"step_{self.step}", "step": self.step, "local_path": f"/yard/step_{self.step}"}

    def _tokenize(self, body: Any) -> dict[str, Any]:
        return {"token_ids": [list(range(len(body["text"])))], "tokens": [list(body["text"])]}

    def _apply_chat_template(self, body: Any) -> dict[str, Any]:
        text = "".join(f"{turn['role']:10}{turn['content']}" for turn in body["messages"])
        return {"text": text, "token_ids": list(range(len(text)))}
