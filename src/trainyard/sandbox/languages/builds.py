"""What compilers made before, kept outside of the boxes."""

import asyncio
import hashlib
import os
import platform
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

import msgspec
import structlog
from msgspec import structs

from trainyard.core import errors
from trainyard.sandbox.backends.base import Box, Kept, OnOutput
from trainyard.sandbox.languages.catalog import Language
from trainyard.sandbox.types.orders import Order

_log = structlog.get_logger("sandbox")

_SPOOL_NAME: Final = "artifact"
_PIECE_BYTES: Final = 1 << 20
_LARGEST_SHARE: Final = 8
"""No build takes more than this part of the whole."""

_HALF_WRITTEN: Final = ".part-"
_HALF_WRITTEN_S: Final = 3600.0
"""What is not complete by then is of a process that was killed."""


class Builds:
    """Runs programs, and spares the compiler the ones that it has made for the same tenant before.

    A build is found by tenant, language, version, flags, machine, source, and whatever else a compiler can find in its
    box: variables and files, which sources may include and compilers search. It was made in a box by code of that
    tenant, is only ever put into a box of that tenant, and is nothing to the server but bytes. The runner copied it
    before the program began, to where no code of the box reaches, so that no program changes what others get for it.

    Args:
        directory: Made when something is kept.
        max_bytes: Of all builds, oldest use out first; 0 keeps none.
    """

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._directory = directory
        self._max_bytes = max_bytes

    async def run(
        self,
        box: Box,
        language: Language,
        order: Order,
        *,
        tenant: str,
        files: Mapping[str, str] | None,
        stdin: bytes = b"",
        on_output: OnOutput | None = None,
    ) -> Kept:
        """Run an order, compiled by this run or an earlier one; as `Box.run` beside that.

        Args:
            box: Where.
            language: Of the code.
            order: The run.
            tenant: Whose.
            files: Every file that the box has, as path and hash of its content; None where that is not known, since
                code has run there: then it is compiled anew, and not kept.
            stdin: As `Box.run`.
            on_output: As `Box.run`.
        """
        program = order.program
        if program is None or program.artifact is None or self._max_bytes == 0 or files is None:
            return await box.run(order, stdin, on_output)
        path = self._directory / _key(tenant, language, order, files)
        if await self._put(path, box):
            built = structs.replace(order, program=structs.replace(program, is_built=True))
            return await box.run(built, stdin, on_output)
        kept = await box.run(order, stdin, on_output)
        if kept.report.phase == "run":
            await self._keep(path, box)
        return kept

    async def _put(self, path: Path, box: Box) -> bool:
        """Put a build into the box; whether there is one and the box has room for it."""
        try:
            file = await asyncio.to_thread(_open, path)
        except FileNotFoundError:
            return False
        except OSError as error:
            _log.warning("build_not_read", error=str(error))
            return False
        with file:
            size_bytes = os.fstat(file.fileno()).st_size
            try:
                await box.put("spool", _SPOOL_NAME, size_bytes, _pieces(file), mode=0o755)
            except errors.TooLarge:
                return False
        return True

    async def _keep(self, path: Path, box: Box) -> None:
        """Fetch what the box has compiled; without it the next run compiles again."""
        content = bytearray()
        try:
            async for piece in box.get("spool", _SPOOL_NAME):
                content += piece
            await box.delete("spool", _SPOOL_NAME)  # it would count as memory of the session
        except (errors.NotFound, errors.Unavailable):  # it ended with its box, such as one out of memory
            return
        if len(content) * _LARGEST_SHARE > self._max_bytes:
            return
        try:
            await asyncio.to_thread(self._store, path, bytes(content))
        except OSError as error:  # a full disk, mostly
            _log.warning("build_not_kept", error=str(error))

    def _store(self, path: Path, content: bytes) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_room(len(content))
        descriptor, name = tempfile.mkstemp(prefix=_HALF_WRITTEN, dir=self._directory)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())  # half a program would fail whoever gets it, until it is the oldest
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)

    def _make_room(self, wanted_bytes: int) -> None:
        with os.scandir(self._directory) as entries:
            found = sorted(_facts(entries), key=lambda fact: fact[0])
        kept_bytes = sum(size for _, size, _ in found)
        for used_at, size, path in found:
            is_left_over = path.name.startswith(_HALF_WRITTEN) and used_at < time.time() - _HALF_WRITTEN_S
            if is_left_over or kept_bytes + wanted_bytes > self._max_bytes:
                path.unlink(missing_ok=True)
                kept_bytes -= size


def _facts(entries: Iterable[os.DirEntry[str]]) -> list[tuple[float, int, Path]]:
    facts = []
    for entry in entries:
        with suppress(FileNotFoundError):  # another process makes room too
            stat = entry.stat(follow_symlinks=False)
            facts.append((stat.st_mtime, stat.st_size, Path(entry.path)))
    return facts


def _key(tenant: str, language: Language, order: Order, files: Mapping[str, str]) -> str:
    tools = (language.code, language.tools.version, platform.machine())
    facts = (tenant, *tools, order.program, order.code, sorted(order.env.items()), sorted(files.items()))
    return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()


def _open(path: Path) -> BinaryIO:
    file = path.open("rb")
    os.utime(file.fileno())  # used now
    return file


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
        yield piece
