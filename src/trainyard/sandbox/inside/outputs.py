"""One output stream of a run: its head and tail are kept, the whole goes to the spool when it is longer."""

import contextlib
import os
from typing import BinaryIO

from trainyard.sandbox.inside.spool import Spool, write_all

READ_BYTES = 64 << 10


class Output:
    """What one stream of a run says.

    Args:
        keep_bytes: Head and tail together, half each.
        log_bytes: At most this much goes to the spool; `is_over` once more was written.
    """

    def __init__(self, spool: Spool, keep_bytes: int, log_bytes: int) -> None:
        self._spool, self._keep, self._log = spool, keep_bytes, log_bytes
        self._head_bytes = keep_bytes // 2
        self._head, self._tail = bytearray(), bytearray()
        self._file: BinaryIO | None = None
        self.total_bytes = 0
        self.is_over = False

    def feed(self, piece: bytes) -> None:
        """Take what was written."""
        before = self.total_bytes
        self.total_bytes += len(piece)
        space = self._head_bytes - len(self._head)
        self._head += piece[:space]
        self._tail += piece[max(space, 0) :]
        if self.total_bytes > self._keep:
            if self._file is None:
                self._begin_file()
            else:
                self._write(piece[: max(self._log - before, 0)])
            self._trim()
        if self.total_bytes > self._log:
            self.is_over = True

    def _begin_file(self) -> None:
        self._file = self._spool.unnamed()
        self._write((bytes(self._head) + bytes(self._tail))[: self._log])

    def _write(self, piece: bytes) -> None:
        if self._file is None or self.is_over:
            return
        try:
            write_all(self._file.fileno(), piece)
        except OSError:
            self.is_over = True  # the spool is full: no log can be kept beyond this, which is the limit's own meaning

    def _trim(self) -> None:
        keep = self._keep - self._head_bytes
        if len(self._tail) > 2 * keep + READ_BYTES:
            del self._tail[: len(self._tail) - keep]

    def kept(self) -> bytes:
        """All of it, or head and tail."""
        keep = self._keep - len(self._head)
        return bytes(self._head) + bytes(self._tail[max(len(self._tail) - keep, 0) :])

    def about(self) -> dict[str, int]:
        """As `types.orders.Stream`."""
        kept = min(self.total_bytes, self._keep)
        return {"kept_bytes": kept, "head_bytes": min(len(self._head), kept), "total_bytes": self.total_bytes}

    def open_whole(self) -> int:
        """Open the whole output, up to `log_bytes`, at its beginning; the caller closes the descriptor."""
        if self._file is None:
            return self._spool.holding(self.kept())
        descriptor = os.dup(self._file.fileno())
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    def close(self) -> None:
        """Give the file in the spool back."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
