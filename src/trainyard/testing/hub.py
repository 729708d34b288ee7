"""A stand-in for the Hugging Face hub that its own client downloads from: revisions, trees, files, ranges, refusals."""

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

_INFO = re.compile(r"^/api/models/(?P<name>[^/]+/[^/]+)/revision/(?P<revision>[^/]+)$")
_TREE = re.compile(r"^/api/models/(?P<name>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)$")
_FILE = re.compile(r"^/(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)$")


@dataclass(slots=True)
class HubModel:
    """One model.

    Attributes:
        files: Path -> content.
        is_gated: Answered 403 without the token.
        is_private: Answered as if it were not there without the token.
        branches: Name -> commit.
        headers: Replace those of files, by name in lower case; a hub that means harm has such.
        sha: Replaces the commit in the description.
    """

    files: Mapping[str, bytes]
    is_gated: bool = False
    is_private: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    sha: str | None = None

    @property
    def commit(self) -> str:
        """A hash of the content, 40 hexadecimal digits."""
        parts = sorted((name, hashlib.sha256(content).hexdigest()) for name, content in self.files.items())
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:40]


class HubStandIn:
    """A hub with a few models; `serving` starts it.

    Attributes:
        models: By name.
        token: Lets in where a model is gated or private.
        cuts: File -> bytes after which its next transfer breaks off, once per entry of the list.
        status: Answered to everything when set.
        requests: Count of requests by method and path.
        ranges: What was asked for by `Range`, in order.
    """

    def __init__(self, models: Mapping[str, HubModel], token: str = "hf_stand_in") -> None:  # noqa: S107 - of a test
        self.models = dict(models)
        self.token = token
        self.cuts: dict[str, list[int]] = {}
        self.status: int | None = None
        self.requests: Counter[str] = Counter()
        self.ranges: list[str] = []
        self.url = ""

    @contextmanager
    def serving(self) -> Iterator["HubStandIn"]:
        """Serve on a free port until the block ends; `url` is the endpoint."""

        class Handler(_Handler):
            hub = self

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            thread.join(5)
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    hub: HubStandIn

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def do_HEAD(self) -> None:
        """Answer without a body."""
        self._answer()

    def do_GET(self) -> None:
        """Answer."""
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests[f"{self.command} {path}"] += 1
        found = next((match for form in (_INFO, _TREE, _FILE) if (match := form.match(path))), None)
        if self.hub.status is not None:
            self._refuse(self.hub.status, "")
            return
        model = self.hub.models.get(found["name"]) if found else None
        is_known = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if found is None or model is None or (model.is_private and not is_known):
            self._refuse(404 if is_known else 401, "RepoNotFound")
        elif found["revision"] not in ("main", model.commit, *model.branches):
            self._refuse(404, "RevisionNotFound", model)
        elif found.re is not _FILE:
            self._describe(found["name"], model, is_tree=found.re is _TREE)
        elif model.is_gated and not is_known:
            self._refuse(403, "GatedRepo", model)
        elif found["file"] not in model.files:
            self._refuse(404, "EntryNotFound", model)
        else:
            self._send_file(model, found["file"])

    def _describe(self, name: str, model: HubModel, *, is_tree: bool) -> None:
        files = sorted(model.files.items())
        if is_tree:
            body: Any = [
                {"type": "file", "path": path, "size": len(raw), "oid": hashlib.sha1(raw).hexdigest()}  # noqa: S324
                for path, raw in files
            ]
        else:
            siblings = [{"rfilename": path} for path, _ in files]
            body = {"id": name, "modelId": name, "sha": model.sha or model.commit, "siblings": siblings, "tags": []}
            body |= {"private": model.is_private, "gated": "manual" if model.is_gated else False, "downloads": 0}
        raw = json.dumps(body).encode()
        self._head(200, {"Content-Type": "application/json", "Content-Length": str(len(raw))})
        self._write(raw)

    def _send_file(self, model: HubModel, path: str) -> None:
        content = model.files[path]
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(asked[1]) if asked else 0
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": model.commit,
            "Accept-Ranges": "bytes",
            "Content-Length": str(len(content) - start),
            "Content-Type": "application/octet-stream",
        }
        if asked:
            self.hub.ranges.append(asked[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        kept = {name: value for name, value in headers.items() if name.lower() not in model.headers}
        self._head(206 if asked else 200, kept | dict(model.headers))
        cuts = self.hub.cuts.get(path)
        if cuts and self.command == "GET":
            self._write(content[start : start + cuts.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            return
        self._write(content[start:])

    def _refuse(self, status: int, code: str, model: HubModel | None = None) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": "refused by the stand-in", "Content-Length": "0"}
        self._head(status, headers | ({"X-Repo-Commit": model.commit} if model else {}))

    def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _write(self, raw: bytes) -> None:
        if self.command != "HEAD":
            self.wfile.write(raw)
