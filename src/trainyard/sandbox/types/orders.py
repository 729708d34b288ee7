"""What the server asks of a box, and what comes back; the JSON of `inside.frames`, field by field."""

import enum
from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

Flavor = Literal["lean", "science"]
"""What a fresh interpreter has loaded: nothing, or numpy, pandas and matplotlib."""

Amount = Annotated[float, Meta(ge=0, le=1e9)]
"""Seconds, as a box may tell them."""
Count = Annotated[int, Meta(ge=0, lt=1 << 53)]
"""Bytes or pieces, as a box may tell them."""

Place = Literal["data", "spool"]
Phase = Literal["compile", "run"]


class Reason(enum.StrEnum):
    """Why a run was ended by something other than its own code."""

    TIMEOUT = "timeout"
    CPU = "cpu"
    MEMORY = "memory"
    OUTPUT = "output"
    INTERRUPTED = "interrupted"
    KILLED = "killed"


class Step(Struct, frozen=True, kw_only=True):
    """One program to start.

    Attributes:
        argv: `{file}` stands for the source, `{dir}` for its directory, `{args}` alone for the arguments of the run.
    """

    phase: Phase
    argv: tuple[str, ...]


class Program(Struct, frozen=True, kw_only=True):
    """How code of one language is run, in a fresh directory that is gone afterwards; the working directory is the data.

    Attributes:
        file: Name under which the code is written.
        steps: One after the other, until one fails.
        env: Beside what every run has.
        artifact: The one file in `{dir}` that the steps of phase `compile` make. When they have all succeeded, and
            before anything of phase `run` starts, the runner keeps a copy of it in the spool as `artifact`; whatever
            an earlier run has left there is gone by then.
        is_built: The artifact lies in the spool: it is put into `{dir}` and the steps of phase `compile` are left out.
    """

    file: str
    steps: tuple[Step, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    artifact: str | None = None
    is_built: bool = False


class Order(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run.

    Attributes:
        code: Source text.
        program: How to run it; None = Python in the live interpreter of the box.
        args: `sys.argv[1:]` or what the language has for that.
        env: Added to the environment for this run only.
        timeout_s: Wall clock, all steps together.
        cpu_s: CPU seconds of all processes of the run.
        memory_bytes: Resident memory of all processes of the box together, its files in memory included.
        output_bytes: Kept of each stream: head and tail of half of it each.
        log_bytes: Of each stream; more ends the run (`Reason.OUTPUT`). The spool keeps that much.
        stream: Whether `out` events are wanted.
        results: Whether the last expression, figures and tables are wanted (Python only).
        continues: Whether the interpreter of the last run is meant: where it has ended since, nothing is run.
    """

    code: str
    program: Program | None = None
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 30.0
    cpu_s: float = 60.0
    memory_bytes: int = 512 << 20
    output_bytes: int = 64 << 10
    log_bytes: int = 16 << 20
    stream: bool = False
    results: bool = True
    continues: bool = False


class Stream(Struct, frozen=True, kw_only=True):
    """What became of one output stream.

    Attributes:
        kept_bytes: In the payload of the report: all, or head and tail.
        head_bytes: Where the tail begins in it, when something is left out.
        total_bytes: Written by the code.
    """

    kept_bytes: Count
    head_bytes: Count
    total_bytes: Count

    @property
    def is_cut(self) -> bool:
        """Whether something between head and tail is left out."""
        return self.total_bytes > self.kept_bytes


class Change(Struct, frozen=True, kw_only=True):
    """One file of the workspace that is not as it was accepted last.

    Attributes:
        path: Relative to the workspace, `/` between its parts, always UTF-8.
    """

    path: str
    kind: Literal["new", "changed"]
    size_bytes: Count
    mtime_ns: int


class Result(Struct, frozen=True, kw_only=True):
    """A value, figure or table that a run left, shaped as a notebook's output.

    Attributes:
        kind: `execute_result` for the last expression, `display_data` for the others.
        data: By MIME type; images in base64.
        file: Path in the workspace where the same lies as a file (`figure-1.png`, `table-1.csv`), if it does.
    """

    kind: Literal["execute_result", "display_data"]
    data: Mapping[str, str]
    file: str | None = None


class Report(Struct, frozen=True, kw_only=True):
    """How one run ended.

    Attributes:
        exit_code: Of the process; Python in the live interpreter: 0, 1 after an exception, or that of `sys.exit`. None
            when a signal ended it.
        signal: `SIGSEGV`, …; None when it ended by itself.
        reason: Set when the box ended it.
        phase: The step in which it ended.
        cpu_s: User and system time of every process of the run.
        peak_memory_bytes: Highest sum over the box that was seen.
        skipped: Outputs that are no files (links, devices, sockets, hard links to files elsewhere, names that are no
            UTF-8) or too many, each as `path: why`.
        variables: Names that the code has defined in the interpreter.
        is_fresh: Whether the interpreter is as a new one: nothing defined, imported, changed or left running.
        was_reset: Whether the interpreter had to be replaced; its variables are gone.
    """

    exit_code: int | None
    signal: str | None
    reason: Reason | None
    phase: Phase
    wall_s: Amount
    cpu_s: Amount
    peak_memory_bytes: Count
    stdout: Stream
    stderr: Stream
    results: list[Result]
    changed: list[Change]
    deleted: list[str]
    skipped: list[str]
    variables: Count
    is_fresh: bool
    was_reset: bool

    @property
    def is_success(self) -> bool:
        """Whether the code came to its end without a complaint."""
        return self.exit_code == 0 and self.reason is None

    @property
    def cause(self) -> str:
        """What ended it, in a few words."""
        return self.reason or self.signal or f"exit code {self.exit_code}"


class Variable(Struct, frozen=True, kw_only=True):
    """One name that the code has defined.

    Attributes:
        type: Qualified name of its type.
        bytes: Rough size; None when it cannot be told cheaply.
        preview: Beginning of its `repr`.
    """

    name: str
    type: str
    bytes: Count | None
    preview: str


class Dropped(Struct, frozen=True, kw_only=True):
    """A variable that a checkpoint does not have, or that could not be restored."""

    name: str
    reason: str


class Dumped(Struct, frozen=True, kw_only=True):
    """What a checkpoint holds; the bytes lie in the spool."""

    size_bytes: Count
    sha256: str
    kept: list[str]
    dropped: list[Dropped]


class Loaded(Struct, frozen=True, kw_only=True):
    """What was restored from a checkpoint."""

    restored: list[str]
    dropped: list[Dropped]


class Usage(Struct, frozen=True, kw_only=True):
    """What a box takes now.

    Attributes:
        memory_bytes: Resident memory of its processes and the files in it.
        cpu_s: Since it was made.
    """

    memory_bytes: Count
    processes: Count
    cpu_s: Amount
