"""Bodies of POST /exec, in one shape for every generation of LibreChat's clients, and the events of its stream."""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

ID_PATTERN = "^[A-Za-z0-9][A-Za-z0-9_-]{19}[A-Za-z0-9]$"
"""Of sessions and files: LibreChat checks exactly this."""

SessionId = Annotated[
    str, Meta(pattern=ID_PATTERN, description="21 characters; the session to continue. Null = by the other fields.")
]
EntityId = Annotated[
    str,
    Meta(
        pattern="^[A-Za-z0-9_.:@-]{1,128}$",
        description="Your name for a session, known to you alone: the same name continues the same session.",
    ),
]
Version = Annotated[int, Meta(ge=0, le=2**53 - 1)] | Annotated[str, Meta(min_length=1, max_length=128)]
ResourceId = Annotated[str, Meta(min_length=1, max_length=256)]
KindOfFile = Literal["user", "agent", "skill"]
RunEnd = Literal["timeout", "cpu", "memory", "output", "interrupted", "killed"]
KeyInBody = Annotated[
    str,
    Meta(
        max_length=512,
        description="API key, for clients that cannot send a header; read where no header has a credential.",
    ),
]


class FileInput(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stored file that the code finds in its workspace; `storage_session_id` (or `session_id`) and `id` name it."""

    id: Annotated[str, Meta(pattern=ID_PATTERN, description="Of the file.")]
    name: (
        Annotated[
            str,
            Meta(
                min_length=1, max_length=4096, description="Path under /mnt/data for this run; null = as it is stored."
            ),
        ]
        | None
    ) = None
    storage_session_id: Annotated[str, Meta(pattern=ID_PATTERN, description="Session that keeps the file.")] | None = (
        None
    )
    session_id: (
        Annotated[str, Meta(pattern=ID_PATTERN, description="The same; read where `storage_session_id` is absent.")]
        | None
    ) = None
    kind: Annotated[KindOfFile, Meta(description="Whose file it is; null = a user's own.")] | None = None
    resource_id: (
        Annotated[
            ResourceId,
            Meta(description="Of the agent or skill; of a user's file it says nothing, the key tells the user."),
        ]
        | None
    ) = None
    version: Annotated[Version, Meta(description="Of the skill.")] | None = None


class ExecRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Run code; everything but `code` and `lang` may be left out or null."""

    code: Annotated[str, Meta(description="Source text; not empty.")]
    lang: Annotated[
        str, Meta(min_length=1, max_length=32, description="Code or alias of a language; GET /languages lists them.")
    ]
    args: (
        Annotated[
            list[Annotated[str, Meta(max_length=131_071)]],
            Meta(max_length=1000, description="Arguments of the program."),
        ]
        | None
    ) = None
    files: Annotated[list[FileInput], Meta(max_length=1000, description="Stored files that the code needs.")] | None = (
        None
    )
    session_id: SessionId | None = None
    entity_id: EntityId | None = None
    runtime_session_hint: (
        Annotated[
            str,
            Meta(
                min_length=1,
                max_length=1024,
                description="LibreChat's name for a session that keeps its state; an `entity_id` of any characters.",
            ),
        ]
        | None
    ) = None
    stdin: Annotated[str, Meta(max_length=16 << 20, description="Standard input; null = empty.")] | None = None
    env: (
        Annotated[
            dict[
                Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]{0,127}$")],
                Annotated[str, Meta(max_length=131_072)],
            ],
            Meta(max_length=256, description="Environment variables of this run alone."),
        ]
        | None
    ) = None
    timeout_s: (
        Annotated[float, Meta(gt=0, description="Wall clock in seconds, up to `sandbox.limits.max_timeout_s`.")] | None
    ) = None
    timeout: (
        Annotated[
            float, Meta(gt=0, description="The same in milliseconds, as LibreChat writes it; give one of the two.")
        ]
        | None
    ) = None
    stream: Annotated[
        bool, Meta(description="Answer with events as output appears; `Accept: text/event-stream` does the same.")
    ] = False
    results: Annotated[
        bool, Meta(description="Whether the last expression's value, figures and tables are wanted (Python).")
    ] = True
    user_id: (
        Annotated[
            str,
            Meta(
                max_length=512,
                description="Your id of your user; written to this server's log only. The credential alone tells whose "
                "session and files these are.",
            ),
        ]
        | None
    ) = None
    workspace_instance_id: (
        Annotated[
            str, Meta(max_length=512, description="Attached workspaces are not served: anything but null is refused.")
        ]
        | None
    ) = None
    librechat_code_api_key: KeyInBody | None = field(default=None, name="LIBRECHAT_CODE_API_KEY")
    api_key: KeyInBody | None = None
    api_key_camel: KeyInBody | None = field(default=None, name="apiKey")


class ExecFile(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A file of a session, as a run left it."""

    id: Annotated[str, Meta(description="21 characters.")]
    name: Annotated[str, Meta(description="Path under /mnt/data.")]
    path: Annotated[str, Meta(description="The same.")]
    session_id: Annotated[str, Meta(description="Session that keeps it: GET /download/{session_id}/{id}.")]
    storage_session_id: Annotated[str, Meta(description="The same.")]
    resource_id: Annotated[str, Meta(description="Of the agent or skill; the user, where it is a user's.")]
    kind: Annotated[KindOfFile, Meta(description="Whose it is.")]
    size: Annotated[int, Meta(description="Bytes.")]
    content_type: Annotated[str, Meta(description="As it was uploaded, or by its name.")]
    sha256: Annotated[str, Meta(description="Of the content.")]
    version: Annotated[Version, Meta(description="Of the skill; absent elsewhere.")] | None = None
    inherited: Annotated[bool, Meta(description="True for an input that the run left as it was; absent elsewhere.")] = (
        False
    )


class ArtifactDelivery(Struct, frozen=True, kw_only=True):
    """Some files that the code has made could not be kept; `failures` has the reasons."""

    status: Annotated[Literal["partial", "failed"], Meta(description="`failed`: none could be kept.")]
    attempted: Annotated[int, Meta(description="Files that the run has made or changed.")]
    delivered: Annotated[int, Meta(description="Of those, files that were kept.")]
    failed: Annotated[int, Meta(description="The others.")]
    failures: Annotated[dict[str, str], Meta(description="Reason by path.")]
    code: Annotated[Literal["artifact_delivery_failed"], Meta(description="LibreChat looks for it.")] = (
        "artifact_delivery_failed"
    )


class Output(Struct, frozen=True, kw_only=True):
    """One value, figure or table, in the shape of a notebook's output."""

    output_type: Annotated[
        Literal["execute_result", "display_data"],
        Meta(description="`execute_result` for the value of the last expression, `display_data` for the others."),
    ]
    data: Annotated[dict[str, str], Meta(description="By MIME type; images in base64.")]
    metadata: Annotated[dict[str, Any], Meta(description="Empty; notebooks have it.")]
    file: Annotated[str | None, Meta(description="Path under /mnt/data where the same lies as a file.")]


class LostVariable(Struct, frozen=True, kw_only=True):
    """A variable that did not come back from a checkpoint, or cannot go into one."""

    name: Annotated[str, Meta(description="Of the variable; `*` for all that is newer than the checkpoint.")]
    reason: Annotated[str, Meta(description="Why.")]


class ExecResponse(Struct, frozen=True, kw_only=True):
    """How the run ended; the status is 200 also where the code failed."""

    session_id: Annotated[str, Meta(description="Send it with the next run to find variables and files again.")]
    storage_session_id: Annotated[str, Meta(description="The same.")]
    runtime_session_id: Annotated[str, Meta(description="The same.")]
    runtime_status: Annotated[
        Literal["new", "reused"], Meta(description="`reused`: the run found the interpreter of the run before.")
    ]
    language: Annotated[str, Meta(description="Code of the language that ran.")]
    stdout: Annotated[str, Meta(description="Head and tail where it was too long; then `logs` has the whole.")]
    stderr: Annotated[str, Meta(description="The same; ends with `error` where the server ended the run.")]
    stdout_bytes: Annotated[int, Meta(description="Written by the code.")]
    stderr_bytes: Annotated[int, Meta(description="Written by the code.")]
    error: Annotated[
        str | None,
        Meta(description="`Time limit exceeded`, `Out of memory`, `Sandbox exited with code 1`, …; null = success."),
    ]
    exit_code: Annotated[int | None, Meta(description="Null where a signal ended the program.")]
    signal: Annotated[str | None, Meta(description="`SIGSEGV`, …")]
    reason: Annotated[RunEnd | None, Meta(description="Why the server ended the run; null when it did not.")]
    phase: Annotated[str, Meta(description="`compile` or `run`: the step in which it ended.")]
    wall_s: Annotated[float, Meta(description="From begin to end, compilation included.")]
    cpu_s: Annotated[float, Meta(description="Of all processes of the run.")]
    peak_memory_bytes: Annotated[int, Meta(description="Highest sum over the processes and files in memory.")]
    files: Annotated[list[ExecFile], Meta(description="New and changed ones, then inputs that stayed as they were.")]
    deleted_files: Annotated[list[str], Meta(description="Paths that were there before the run and are not any more.")]
    logs: Annotated[list[ExecFile], Meta(description="Whole outputs, where an output was cut.")]
    results: Annotated[list[Output], Meta(description="Last value, figures and tables, in the order of a notebook.")]
    has_state: Annotated[bool, Meta(description="Whether the session keeps variables.")]
    state_size: Annotated[int, Meta(description="Bytes of the newest checkpoint; 0 before there is one.")]
    state_hash: Annotated[str | None, Meta(description="Its SHA-256, the ETag of GET /state/{session_id}.")]
    restored: Annotated[list[str], Meta(description="Variables that came back from a checkpoint before this run.")]
    lost: Annotated[list[LostVariable], Meta(description="Those that did not.")]
    artifact_delivery: Annotated[
        ArtifactDelivery | None, Meta(description="Set where files could not be kept; null otherwise.")
    ] = None


class RunBegun(Struct, frozen=True, kw_only=True):
    """Data of the event `session`: everything is ready, and the code begins."""

    session_id: Annotated[str, Meta(description="Where it runs; it can be interrupted there from now on.")]


class OutputPiece(Struct, frozen=True, kw_only=True):
    """Data of the events `stdout` and `stderr`: what the code has just written."""

    text: Annotated[str, Meta(description="Whole characters; bytes that are no UTF-8 are shown as U+FFFD.")]
