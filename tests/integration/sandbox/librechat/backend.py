"""LibreChat's own calls: what its server, not the package, sends to keep the files of a user here."""

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.integration.sandbox.librechat.generations import Generation
from tests.integration.sandbox.librechat.yard import USER, Credential

FRESH = timedelta(hours=23)
"""A file that is younger is not uploaded again."""


@dataclass(frozen=True)
class Owner:
    """Whose files they are, as generation C says it; `version` is that of a skill.

    Attributes:
        entity_id: As the generations before say it.
    """

    kind: str = "user"
    id: str = USER
    version: int | None = None
    entity_id: str = ""

    def fields(self, generation: Generation) -> dict[str, str]:
        """Name the owner in a form, or in a query."""
        if not generation.has_tokens:
            return {"entity_id": self.entity_id} if self.entity_id else {}
        version = {} if self.version is None else {"version": str(self.version)}
        return {"kind": self.kind, "id": self.id, **version}


@dataclass(frozen=True)
class Backend:
    """LibreChat's server, as one of its users makes it call.

    Attributes:
        generation: Of the package that it comes with.
        client: Speaks to the server; a connection for each call.
    """

    generation: Generation
    client: httpx.Client = field(repr=False)

    def upload(self, name: str, content: bytes, owner: Owner) -> dict[str, Any]:
        """Store one file, the fields before it."""
        answer = self._send("POST", "/upload", **form(owner.fields(self.generation), [(name, content)]))
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        assert body["message"] == "success"
        return body

    def upload_batch(self, files: list[tuple[str, bytes]], owner: Owner, **fields: str) -> dict[str, Any]:
        """Store several, each by itself; generation A has no such call."""
        answer = self._send("POST", "/upload/batch", **form({**owner.fields(self.generation), **fields}, files))
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def reference(self, session_id: str, file_id: str, name: str, owner: Owner) -> dict[str, Any]:
        """Name a file for a call of the tool."""
        if not self.generation.has_tokens:
            return {"id": file_id, "session_id": session_id, "name": name}
        version = {} if owner.version is None else {"version": owner.version}
        named = {"id": file_id, "storage_session_id": session_id, "name": name}
        return {**named, "resource_id": owner.id, "kind": owner.kind, **version}

    def is_fresh(self, session_id: str, file_id: str, owner: Owner) -> bool:
        """Whether a file is there and young enough that it need not be uploaded again."""
        if self.generation.has_tokens:
            path = f"/sessions/{session_id}/objects/{file_id}"
            answer = self._send("GET", path, params=owner.fields(self.generation))
            modified = answer.json().get("lastModified") if answer.is_success else None
        else:
            query = {"detail": "summary", **owner.fields(self.generation)}
            answer = self._send("GET", f"/files/{session_id}", params=query)
            found = answer.json() if answer.is_success else []
            named = [file for file in found if file["name"].startswith(f"{session_id}/{file_id}")]
            modified = named[0]["lastModified"] if named else None
        return modified is not None and datetime.now(UTC) - datetime.fromisoformat(modified) < FRESH

    def download(self, session_id: str, file_id: str, owner: Owner) -> httpx.Response:
        """Fetch a file."""
        query = owner.fields(self.generation) if self.generation.has_tokens or owner.entity_id else {}
        return self._send("GET", f"/download/{session_id}/{file_id}", params=query)

    def remove(self, route: str, session_id: str, file_id: str, owner: Owner) -> int:
        """Remove a file; 404 is as good as done."""
        middle = "/objects" if route == "sessions" else ""
        path = f"/{route}/{session_id}{middle}/{file_id}"
        return self._send("DELETE", path, params=owner.fields(self.generation)).status_code

    def _send(self, method: str, path: str, **given: Any) -> httpx.Response:
        return self.client.request(method, self.generation.base + path, **given)


def opened(generation: Generation, url: str, credential: Credential) -> Backend:
    """Make the backend of a user."""
    headers = {"User-Agent": "LibreChat/1.0", "User-Id": USER, "Connection": "close", **credential.own}
    return Backend(generation, httpx.Client(base_url=url, headers=headers, timeout=15))


def form(fields: dict[str, str], files: list[tuple[str, bytes]]) -> dict[str, Any]:
    """Write a form as npm's `form-data` does: names of files in UTF-8, with their folders."""
    boundary = f"--------------------------{uuid.uuid4().hex[:24]}"
    parts = [(f'form-data; name="{name}"', value.encode()) for name, value in fields.items()]
    octets = "\r\nContent-Type: application/octet-stream"
    parts += [(f'form-data; name="file"; filename="{name}"{octets}', content) for name, content in files]
    lines = [f"--{boundary}\r\nContent-Disposition: {head}\r\n\r\n".encode() + body + b"\r\n" for head, body in parts]
    content = b"".join([*lines, f"--{boundary}--\r\n".encode()])
    return {"content": content, "headers": {"Content-Type": f"multipart/form-data; boundary={boundary}"}}
