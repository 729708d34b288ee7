"""A fake engine's verbs under glass: what was asked of one, and how to make it fail."""

from typing import Generic, TypeVar

from trainyard.core import errors
from trainyard.engine import calls
from trainyard.engine.fake import FakeEngine

C = TypeVar("C", bound=calls.Call)


class VerbSpy(Generic[C]):
    """One verb of a `FakeEngine`.

    Attributes:
        engine: The engine, for its other knobs.
    """

    def __init__(self, engine: FakeEngine, kind: type[C]) -> None:
        """Look at one verb.

        Args:
            engine: Behind the server under test.
            kind: The calls to look at.
        """
        self.engine = engine
        self._kind = kind

    @property
    def calls(self) -> list[C]:
        """What was asked so far, oldest first; calls that failed are among it."""
        return [call for call in self.engine.seen if isinstance(call, self._kind)]

    def fail_next(self, error: errors.TrainyardError) -> None:
        """Let the engine's next call fail; arrange it right before the request that should meet it."""
        self.engine.fail_next(error)
