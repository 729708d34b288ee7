"""Reading multipart/form-data (RFC 7578) part by part, as it comes: nothing of a file is held but what came last."""

import re
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from trainyard.core import errors

MAX_FIELD_BYTES: Final = 64 << 10
_MAX_HEADER_BYTES: Final = 16 << 10
_MAX_TYPE: Final = 200
_MAX_BOUNDARY: Final = 200  # RFC 2046 allows 70

_QUOTED = re.compile(r'"(?:\\.|[^"\\])*"')
_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(?:\s*;[ -~]*)?", re.ASCII)
_EXTENDED = re.compile(r";\s*filename\*\s*=\s*(?P<charset>[\w-]*)'[^';]*'(?P<value>[^;\s]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Head:
    """What stands above one part.

    Attributes:
        name: Of the field.
        file_name: None where the part is no file.
        content_type: `application/octet-stream` where there is none, or none that can be.
    """

    name: str
    file_name: str | None
    content_type: str


class FormReader:
    """Gives the parts of a form one after the other.

    Args:
        content_type: Header of the request.
        body: Pieces of it as they come.
    """

    def __init__(self, content_type: str, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self._events: deque[Head | bytes | None] = deque()
        self._headers: dict[bytes, bytes] = {}
        self._header: list[bytes] = [b"", b""]
        self._is_whole = False
        self._fault: errors.InvalidRequest | None = None
        self._parser = MultipartParser(
            _boundary(content_type),
            {
                "on_part_begin": self._on_part_begin,
                "on_header_field": self._on_header_field,
                "on_header_value": self._on_header_value,
                "on_header_end": self._on_header_end,
                "on_headers_finished": self._on_headers_finished,
                "on_part_data": self._on_part_data,
                "on_part_end": self._on_part_end,
                "on_end": self._on_end,
            },
            max_header_size=_MAX_HEADER_BYTES,
        )

    async def next_part(self) -> Head | None:
        """Go to the next part, past what is left of this one; None after the last.

        Raises:
            errors.InvalidRequest: Code `invalid_multipart`.
        """
        while (event := await self._next()) is not _END:
            if isinstance(event, Head):
                return event
        return None

    async def content(self) -> AsyncIterator[bytes]:
        """Read the part; raises as `next_part`."""
        while isinstance(event := await self._next(), bytes):
            yield event

    async def text(self) -> str:
        """Read the part as the value of a field.

        Raises:
            errors.InvalidRequest: As `next_part`; or it is too long or no UTF-8.
        """
        held = bytearray()
        async for piece in self.content():
            held += piece
            if len(held) > MAX_FIELD_BYTES:
                raise _invalid(f"A field is longer than {MAX_FIELD_BYTES} bytes; send it as a file")
        return _decoded(bytes(held), "A field")

    # ------------------------------------------------------------------ inside

    async def _next(self) -> "Head | bytes | _End | None":
        """Take the next event; None ends a part."""
        while not self._events:
            if self._fault is not None:
                raise self._fault  # what follows cannot be understood either
            piece = await anext(self._body, None)
            try:
                if piece is None:
                    return self._end()
                self._parser.write(piece)
            except FormParserError as error:
                self._fault = _invalid(f"The form cannot be read: {error}")
            except errors.InvalidRequest as error:
                self._fault = error
        return self._events.popleft()

    def _end(self) -> "_End":
        if not self._is_whole:
            raise _invalid("The form ends in the middle; its last line is the boundary with -- behind it")
        return _END

    def _on_end(self) -> None:
        self._is_whole = True

    def _on_part_begin(self) -> None:
        self._headers = {}

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header[0] += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header[1] += data[start:end]

    def _on_header_end(self) -> None:
        self._headers.setdefault(self._header[0].lower(), self._header[1])
        self._header = [b"", b""]

    def _on_headers_finished(self) -> None:
        self._events.append(_head(self._headers))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(data[start:end])

    def _on_part_end(self) -> None:
        self._events.append(None)


class _End:
    """After the last part."""


_END: Final = _End()


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind != b"multipart/form-data":
        raise errors.InvalidRequest(
            "Send the files as multipart/form-data, such as curl -F file=@data.csv does", code="unsupported_media_type"
        )
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= _MAX_BOUNDARY:
        raise _invalid("The Content-Type names no boundary; let your HTTP client write this header")
    return boundary


def _head(headers: dict[bytes, bytes]) -> Head:
    disposition = headers.get(b"content-disposition", b"")
    kind, options = parse_options_header(disposition)
    name = options.get(b"name")
    if kind != b"form-data" or not name:
        raise _invalid("A part of the form has no name; every one needs Content-Disposition: form-data; name=…")
    plain = options.get(b"filename")
    file_name = _extended_name(disposition) or (None if plain is None else _decoded(plain, "A file name"))
    content_type = headers.get(b"content-type", b"").decode("latin-1").strip()
    known = content_type if _TYPE.fullmatch(content_type) and len(content_type) <= _MAX_TYPE else None
    return Head(_decoded(name, "The name of a field"), file_name, known or "application/octet-stream")


def _extended_name(disposition: bytes) -> str | None:
    """Read `filename*` (RFC 5987), which some clients send for names that are not ASCII; it goes before `filename`."""
    found = _EXTENDED.search(_QUOTED.sub('""', disposition.decode("latin-1")))
    if found is None:
        return None
    raw = unquote_to_bytes(found["value"])
    if found["charset"].lower() == "iso-8859-1":
        return raw.decode("latin-1")
    return _decoded(raw, "A file name")


def _decoded(raw: bytes, what: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise _invalid(f"{what} is not UTF-8") from error


def _invalid(message: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(message, code="invalid_multipart")
