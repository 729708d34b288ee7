"""GET /download/{session}/{file}: a file as a stream, whole or a range of it (RFC 9110, section 14)."""

import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Header, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from trainyard.core import errors
from trainyard.core.blobs import begun
from trainyard.core.http import error_bodies
from trainyard.sandbox.routes.access import Claimed, FileId, Runner, SessionId
from trainyard.sandbox.service import SandboxService
from trainyard.sandbox.types.domain import StoredFile

_ONE_RANGE = re.compile(r"bytes=(?P<first>\d{0,18})-(?P<last>\d{0,18})", re.ASCII)
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9._-]")

_CORS: Final = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "Content-Disposition, ETag"}
_METHODS: Final = "GET, HEAD, OPTIONS"
_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The file.", "content": {"application/octet-stream": {}}},
    206: {"description": "The range that `Range` asks for.", "content": {"application/octet-stream": {}}},
    304: {"description": "`If-None-Match` names the content as it is."},
    416: {"description": "The file ends before the range begins."},
    **error_bodies.responses("code", errors.LimitReached, errors.QuotaExhausted),
}

RangeHeader = Annotated[str | None, Header(description="One range of bytes, such as `bytes=0-1023`.")]
IfRange = Annotated[str | None, Header(description="ETag for which the range is wanted; the whole file otherwise.")]
IfNoneMatch = Annotated[str | None, Header(description="ETag, quoted or bare; 304 where the content still has it.")]


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes of a file: from `first` up to, and without, `end`."""

    first: int
    end: int


class Sent(StreamingResponse):
    """A stream that closes its source however it ends; when the client has left too.

    Args:
        content: What is sent.
        source: What it is drawn from.
    """

    def __init__(
        self, content: AsyncIterator[bytes], source: AsyncGenerator[bytes, None], *args: Any, **kwargs: Any
    ) -> None:
        super().__init__(content, *args, **kwargs)
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._source.aclose()


def add(routes: APIRouter, service: SandboxService) -> None:
    """Add the routes."""

    @routes.get("/download/{session_id}/{file_id}", summary="Download a file", responses=_ANSWERS)
    async def download_file(
        request: Request,
        who: Runner,
        session_id: SessionId,
        file_id: FileId,
        claimed: Claimed,
        range: RangeHeader = None,
        if_range: IfRange = None,
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        """Stream a file; its ETag is the hash of its content, which changes when code edits it."""
        file, content = await service.open_file(who, session_id, file_id, shelf=claimed)
        if is_known(if_none_match, file.sha256):
            return Response(status_code=304, headers=_headers(file))
        span = span_of(range, if_range, file)
        headers = {**_headers(file), "Content-Length": str(span.end - span.first if span else file.size_bytes)}
        if span is not None:
            headers["Content-Range"] = f"bytes {span.first}-{span.end - 1}/{file.size_bytes}"
        wanted = content if span is None else cut(content, span)
        sent = service.send(who, wanted, request_id=request.state.request_id)
        return Sent(await begun(sent), sent, 200 if span is None else 206, headers, file.content_type)

    @routes.head("/download/{session_id}/{file_id}", summary="Show the headers of a file", responses={404: {}})
    async def head_file(who: Runner, session_id: SessionId, file_id: FileId, claimed: Claimed) -> Response:
        """Tell size, type and ETag of a file."""
        file, _ = await service.open_file(who, session_id, file_id, shelf=claimed)
        headers = {**_headers(file), "Content-Length": str(file.size_bytes)}
        return Response(headers=headers, media_type=file.content_type)

    @routes.options("/download/{session_id}/{file_id}", summary="What a download takes", status_code=204)
    async def download_options(who: Runner, session_id: SessionId, file_id: FileId) -> Response:
        """Tell methods and headers, for pages of other origins."""
        headers = {
            **_CORS,
            "Allow": _METHODS,
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": "Authorization, X-API-Key, Range, If-Range, If-None-Match",
            "Access-Control-Max-Age": "3600",
        }
        return Response(status_code=204, headers=headers)


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Whether `If-None-Match` names a content: quoted, weak, one of several, `*`, or bare as LibreChat's hosts do."""
    if if_none_match is None:
        return False
    named = [one.strip().removeprefix("W/").strip('"') for one in if_none_match.split(",")]
    return etag in named or "*" in named


def span_of(asked: str | None, if_range: str | None, file: StoredFile) -> Span | None:
    """Find the one range that is wanted; None for the whole file, also where several or none that can be read are.

    Raises:
        errors.InvalidRequest: Code `range_not_satisfiable`.
    """
    found = _ONE_RANGE.fullmatch(asked.replace(" ", "")) if asked else None
    if found is None or (if_range is not None and if_range.strip() != f'"{file.sha256}"'):
        return None
    first, last, size = found["first"], found["last"], file.size_bytes
    if not first and not last:
        return None
    if first and last and int(first) > int(last):
        return None
    begin = int(first) if first else max(0, size - int(last))
    end = size if not (first and last) else min(size, int(last) + 1)
    if begin >= size or begin >= end:
        raise errors.InvalidRequest(
            f"The file has {size} bytes; the range begins behind them",
            code="range_not_satisfiable",
            param="Range",
            data={"size_bytes": size},
        )
    return Span(begin, end)


async def cut(pieces: AsyncIterator[bytes], span: Span) -> AsyncIterator[bytes]:
    """Pass on the bytes of a span."""
    at = 0
    async for piece in pieces:
        wanted = piece[max(0, span.first - at) : max(0, span.end - at)]
        at += len(piece)
        if wanted:
            yield wanted
        if at >= span.end:
            return


def disposition(path: str) -> str:
    """Name a download: in ASCII for old clients, in Unicode (RFC 5987) for all others."""
    name = path.rsplit("/", 1)[-1]
    plain = _NOT_PLAIN.sub("_", name).lstrip(".") or "download"
    return f"attachment; filename=\"{plain[:150]}\"; filename*=UTF-8''{quote(name, safe='')}"


def _headers(file: StoredFile) -> dict[str, str]:
    return {
        **_CORS,
        "ETag": f'"{file.sha256}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": disposition(file.path),
        "Cache-Control": "private, no-cache",  # code can edit a file in place, which keeps its id
        "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
    }
