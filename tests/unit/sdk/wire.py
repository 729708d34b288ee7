"""A server made of canned answers, behind the real client."""

import json
from collections.abc import Callable
from typing import Any

import httpx

from trainyard.sdk import AsyncClient, Client, RetryPolicy

KEY = "sk-of-the-tests"
URL = "http://yard.test"
IMPATIENT = RetryPolicy(first_pause_s=0.0)

Answer = httpx.Response | Exception


class Wire:
    """Answers in order, the last answer for ever, and keeps what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content, request=request)

    @property
    def body(self) -> Any:
        """JSON of the last request; None when it had none."""
        content = self.requests[-1].content
        return json.loads(content) if content else None


def blocking(wire: Callable[[httpx.Request], httpx.Response], **options: Any) -> Client:
    return Client(KEY, URL, retry=IMPATIENT, transport=httpx.MockTransport(wire), **options)


def asynchronous(wire: Callable[[httpx.Request], httpx.Response], **options: Any) -> AsyncClient:
    return AsyncClient(KEY, URL, retry=IMPATIENT, transport=httpx.MockTransport(wire), **options)


def events(*payloads: object, end: str = "data: [DONE]\n\n") -> httpx.Response:
    """A stream of server-sent events as the server writes them."""
    text = "".join(f"data: {json.dumps(payload)}\n\n" for payload in payloads) + end
    return httpx.Response(200, text=text, headers={"content-type": "text/event-stream"})
