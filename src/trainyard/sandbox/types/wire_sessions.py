"""Bodies of the routes for sessions, state and languages."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from trainyard.sandbox.types.wire import KindOfFile


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VariableInfo(_Body):
    """One name that the code has defined."""

    name: str = Field(description="As the code has it.")
    type: str = Field(description="Qualified name of its type.")
    bytes: int | None = Field(description="Rough size; null when it cannot be told cheaply.")
    preview: str = Field(description="Beginning of its `repr`.")


class VariableList(_Body):
    """The variables of a session."""

    session_id: str = Field(description="21 characters.")
    variables: list[VariableInfo] = Field(description="Names that the code has defined.")


class DroppedVariable(_Body):
    """A variable that a checkpoint does not have."""

    name: str = Field(description="Of the variable.")
    reason: str = Field(description="Why.")


class StateAnswer(_Body):
    """What is known of the variables of a session."""

    session_id: str = Field(description="21 characters.")
    exists: bool = Field(description="Whether there is a checkpoint to export.")
    size_bytes: int = Field(description="Of the checkpoint; 0 without one.")
    hash: str | None = Field(description="SHA-256 of the checkpoint, the ETag of GET /state/{session_id}.")
    created_at: str | None = Field(description="Of the checkpoint; ISO 8601, UTC.")
    expires_at: str | None = Field(description="When the session is removed unless it is used; ISO 8601, UTC.")
    source: Literal["live", "checkpoint", "none"] = Field(
        description="Where the variables are now: in an interpreter, written down only, or nowhere."
    )
    is_durable: bool = Field(description="Whether the checkpoint has all that the interpreter has.")
    kept: list[str] = Field(description="Names in the checkpoint.")
    dropped: list[DroppedVariable] = Field(description="Names that could not be written down.")


class StateUploaded(_Body):
    """A state was taken over."""

    message: Literal["state_uploaded"] = Field(default="state_uploaded", description="Always this.")
    size: int = Field(description="Bytes.")
    hash: str | None = Field(description="SHA-256 of it.")


class SessionAnswer(_Body):
    """One session."""

    session_id: str = Field(description="21 characters.")
    entity_id: str | None = Field(description="Your name for it.")
    created_at: str = Field(description="ISO 8601, UTC.")
    used_at: str = Field(description="ISO 8601, UTC.")
    expires_at: str = Field(description="When it is removed unless it is used; ISO 8601, UTC.")
    is_live: bool = Field(description="Whether an interpreter runs for it now.")
    memory_bytes: int = Field(description="Of its interpreter and files, when it was last measured; 0 without one.")
    files: int = Field(description="How many it keeps.")
    state_bytes: int = Field(description="Of its newest checkpoint; 0 without one.")
    kind: KindOfFile = Field(description="Whose files it keeps.")
    resource_id: str | None = Field(description="Of the agent or skill.")
    version: int | str | None = Field(description="Of the skill.")


class SessionList(_Body):
    """The caller's sessions, live ones before the others, the one that was used last first."""

    sessions: list[SessionAnswer] = Field(description="At most 1,000.")
    has_more: bool = Field(description="Whether there are others.")


class OwnedSession(SessionAnswer):
    """One session, and whose it is."""

    user: str = Field(description="Its owner, of your tenant.")


class BoxAnswer(_Body):
    """One box of the process that answered."""

    id: str = Field(description="Names it in the log.")
    pid: int | None = Field(description="Of its first process on the host; null where it runs elsewhere.")
    flavor: Literal["lean", "science"] = Field(description="What a fresh interpreter has loaded.")
    is_taken: bool = Field(description="False for one that is kept ready.")


class Inventory(_Body):
    """What the sandbox has: the sessions of your tenant, the boxes of the process that answered."""

    sessions: list[OwnedSession] = Field(description="At most 1,000, live ones first, then as they were used.")
    has_more: bool = Field(description="Whether there are other sessions.")
    boxes: list[BoxAnswer] = Field(description="Taken ones and those that are kept ready.")


class Killed(_Body):
    """Whether there was a box to end."""

    session_id: str = Field(description="21 characters.")
    killed: bool = Field(description="False where no interpreter ran for it.")


class Collection(_Body):
    """What was removed."""

    sessions: int = Field(description="Sessions after their time.")
    contents: int = Field(description="Contents that no file and no state names.")


class Interrupted(_Body):
    """Whether something ran that could be interrupted."""

    session_id: str = Field(description="21 characters.")
    interrupted: bool = Field(description="False where nothing ran.")


class LanguageAnswer(_Body):
    """A language that runs here."""

    code: str = Field(description="Value of `lang`.")
    name: str = Field(description="For people.")
    aliases: list[str] = Field(description="Other values of `lang` that mean the same.")
    version: str = Field(description="Of the program that runs it here.")


class LanguageList(_Body):
    """The languages that run here."""

    languages: list[LanguageAnswer] = Field(description="Those for which there is a program here.")
