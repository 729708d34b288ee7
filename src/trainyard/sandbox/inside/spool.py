"""The runner's own files: the whole output of the last run, and the state on its way in or out."""

import os
import tempfile
from typing import BinaryIO

STATE = "state"


class Spool:
    """A directory of the runner.

    Outputs lie in files without a name, so that code which finds the directory can neither read nor change them.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory

    @property
    def state_path(self) -> str:
        """Where the interpreter writes its variables, and reads them."""
        return os.path.join(self.directory, STATE)  # noqa: PTH118 the runner keeps paths as text

    def unnamed(self) -> BinaryIO:
        """Open a file that is gone when it is closed."""
        return tempfile.TemporaryFile(dir=self.directory, buffering=0)

    def holding(self, content: bytes) -> int:
        """Open a file without a name that holds this, at its beginning; the caller closes the descriptor."""
        if not content:
            return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        with self.unnamed() as file:
            view = memoryview(content)
            while view:
                view = view[file.write(view) or 0 :]
            file.seek(0)
            return os.dup(file.fileno())
