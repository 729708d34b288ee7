"""One ordered line of script calls to Redis: what many callers ask for at the same moment goes out in one write."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from hashlib import sha1
from typing import TYPE_CHECKING, Any, NamedTuple

from trainyard.core import errors
from trainyard.core import redis as redis_factory

if TYPE_CHECKING:
    from redis.asyncio import Redis

Argument = str | int
Answer = list[Any]

_BATCH = 128
"""Calls per write; their scripts take some 50 µs each, so that a write is answered within a few milliseconds."""


class Script:
    """A script by the hash under which Redis keeps it."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()


class _Call(NamedTuple):
    script: Script
    arguments: Sequence[Argument]
    future: asyncio.Future[Answer]


class ScriptLine:
    """Sends calls in the order in which they were asked for, one write at a time, and hands out the answers.

    Nothing is sent twice, except scripts that Redis does not know: those are loaded and asked for again.
    """

    def __init__(self, client: Redis, code: str) -> None:
        """`code` is that of the error when Redis does not answer."""
        self._client = client
        self._code = code
        self._waiting: deque[_Call] = deque()
        self._worker: asyncio.Task[None] | None = None

    def call(self, script: Script, arguments: Sequence[Argument]) -> asyncio.Future[Answer]:
        """Queue one call; it is made whether or not somebody waits for the answer.

        The future raises `errors.Unavailable` when Redis is away, too slow or refuses; the call may have been made.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Call(script, arguments, future))
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        return future

    async def drain(self) -> None:
        """Return when every call was made."""
        while self._worker is not None:
            await asyncio.wait([self._worker])

    async def _work(self) -> None:
        try:
            await asyncio.sleep(0)  # whoever is about to ask now goes along
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
                try:
                    await self._send(batch)
                finally:
                    self._fail(batch)
        finally:
            self._worker = None
            self._fail(self._waiting)
            self._waiting.clear()

    async def _send(self, batch: Sequence[_Call]) -> None:
        try:
            with redis_factory.answering(self._code):
                unknown = self._hand_out(batch, await self._ask(batch))
                if unknown:
                    for text in {each.script.text for each in unknown}:
                        await self._client.script_load(text)
                    self._hand_out(unknown, await self._ask(unknown))
        except errors.Unavailable:
            # Those behind would only wait as long for the same.
            self._fail([*batch, *self._waiting])
            self._waiting.clear()

    async def _ask(self, batch: Sequence[_Call]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipeline:
            for each in batch:
                pipeline.evalsha(each.script.sha, 0, *each.arguments)
            return await pipeline.execute(raise_on_error=False)

    def _hand_out(self, batch: Sequence[_Call], answers: Sequence[Any]) -> list[_Call]:
        """Give out the answers; returns the calls whose script is not known there."""
        from redis.exceptions import NoScriptError

        unknown = []
        for call, answer in zip(batch, answers, strict=True):
            if isinstance(answer, NoScriptError):
                unknown.append(call)
            elif isinstance(answer, BaseException):
                redis_factory.note(answer)
                self._fail([call])
            elif not call.future.done():
                call.future.set_result(answer)
        return unknown

    def _fail(self, calls: Sequence[_Call] | deque[_Call]) -> None:
        """End the calls that nobody has answered."""
        for call in calls:
            if not call.future.done():
                call.future.set_exception(redis_factory.unavailable(self._code))
