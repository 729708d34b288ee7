"""What the calls of the sandbox answer."""

from trainyard.sdk.results import Result


class Execution(Result):
    """How a run ended; a code failure is one of these too, not an exception."""

    session_id: str
    language: str
    stdout: str
    stderr: str
    error: str | None
    exit_code: int | None
    signal: str | None
    reason: str | None
    wall_s: float
    cpu_s: float
    peak_memory_bytes: int
    files: list[Result]
    deleted_files: list[str]
    results: list[Result]
    restored: list[str]
    lost: list[Result]

    @property
    def failed_files(self) -> dict[str, str]:
        """Files that the code has made and that could not be kept: reason by path."""
        delivery = self["artifact_delivery"]
        return {} if delivery is None else dict(delivery["failures"])

    @property
    def is_success(self) -> bool:
        """Whether the code came to its end without a complaint."""
        return self["error"] is None

    @property
    def value(self) -> str | None:
        """Text of the last expression's value: plain where it has that, else any; None where there is none."""
        for result in self["results"]:
            if result["output_type"] == "execute_result":
                data = result["data"]
                named = [name for name in ("text/plain", *data) if name in data and name.startswith("text/")]
                return str(data[named[0]]) if named else None
        return None


class SandboxEvent(Result):
    """One event of a run that is streamed: `event` and what came with it.

    `session` comes first and has the `session_id`; `stdout` and `stderr` have `text`; `result` has the fields of a
    notebook's output; `done` those of `Execution`.
    """

    event: str


class Stored(Result):
    """Files that were uploaded: `files` has `fileId` and `filename` of each."""

    session_id: str
    files: list[Result]


class StoredEach(Result):
    """What became of each uploaded file: `files` has `status`, and `fileId` or `error`.

    `session_id` is None where none could be stored and no session was named.
    """

    session_id: str | None
    files: list[Result]
    succeeded: int
    failed: int


class StateInfo(Result):
    """What is known of the variables of a session."""

    session_id: str
    exists: bool
    size_bytes: int
    hash: str | None
    source: str
    is_durable: bool
    kept: list[str]
    dropped: list[Result]


class SessionInfo(Result):
    """One session as the server lists it."""

    session_id: str
    entity_id: str | None
    is_live: bool
    memory_bytes: int
    files: int
    state_bytes: int


class OwnedSession(SessionInfo):
    """One session of a tenant, and whose it is."""

    user: str
    used_at: str
    expires_at: str


class Inventory(Result):
    """What the sandbox has: the sessions of your tenant, the boxes of the process that answered.

    `has_more` where there are sessions beside those that are listed.
    """

    sessions: list[OwnedSession]
    has_more: bool
    boxes: list[Result]


class Collected(Result):
    """How many sessions, and contents without a name, were removed."""

    sessions: int
    contents: int
