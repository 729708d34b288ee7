"""Answers of the routes that need no key."""

from typing import Literal

from pydantic import BaseModel, Field


class Root(BaseModel):
    """What `GET /` answers."""

    name: str = Field(description="`trainyard`.")
    version: str = Field(description="Version of the server.")
    status: Literal["running"] = Field(description="Always running: a server that does not run does not answer.")


class Alive(BaseModel):
    """What `GET /healthz` answers."""

    status: Literal["ok"] = Field(description="Always ok: the process answers; see /readyz for what it needs.")


class Health(BaseModel):
    """What `GET /health` answers."""

    status: Literal["healthy"] = Field(description="Always healthy: the process answers; see /readyz for the rest.")
    service: str = Field(description="`trainyard`.")
    version: str = Field(description="Version of the server.")
    config: dict[str, object] = Field(
        description="Settings that callers may know: kind of database, device, longest body in bytes, live runs per "
        "user, models, default model."
    )


class Check(BaseModel):
    """Whether one dependency works."""

    ok: bool = Field(description="It answered within 2 seconds.")
    reason: str | None = Field(default=None, description="Why it does not work; absent when it does.")


class Ready(BaseModel):
    """What `GET /readyz` answers."""

    status: Literal["ready", "not_ready", "draining"] = Field(
        description="`ready` with 200; `not_ready` or, once the server is told to end, `draining` with 503."
    )
    checks: dict[str, Check] = Field(description="`database` and `engine:<model>` -> whether it works.")
