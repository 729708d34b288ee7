"""What can happen to a request on its way; messages name no address and no header."""

from enum import Enum, auto


class WireError(Exception):
    """No answer, or none to its end."""


class ConnectFailed(WireError):
    """No connection came to stand: the name, the address, the handshake, or the time for them."""


class TimedOut(WireError):
    """The deadline of what was waited for is over."""


class NotHttp(WireError):
    """What came is not HTTP/1, or has a head beyond all measure."""


class TooLong(WireError):
    """A whole answer is longer than it may be."""


class Stage(Enum):
    """How far an answer had come."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


class Dropped(WireError):
    """The connection ended before the answer did.

    Attributes:
        stage: NOTHING before the answer's first byte, HEAD within its head, BODY after it.
    """

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        super().__init__(f"the connection ended at {stage.name}")
