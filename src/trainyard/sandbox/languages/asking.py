"""Asking a box what it can run: where boxes are made of an image, this machine's programs say nothing of theirs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from trainyard.core import errors
from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.languages import survey
from trainyard.sandbox.languages.recipe import Recipe
from trainyard.sandbox.languages.toolchain import DIRECTORIES, Missing, read_version
from trainyard.sandbox.types.orders import Order

_TIMEOUT_S: Final = 120.0
_OUTPUT_BYTES: Final = 1 << 20
_CODE: Final = Path(survey.__file__).read_text(encoding="utf-8")


class Told(Struct, frozen=True, kw_only=True):
    """What a box has said; implements `Surroundings`.

    Attributes:
        python: Version of its interpreter.
        programs: Real paths by name.
        files: Patterns that fit something.
        versions: Exit status and words of programs that were asked, by name.
    """

    python: str
    programs: dict[str, str]
    files: list[str]
    versions: dict[str, tuple[int, str]]

    def program(self, name: str) -> str:
        """Find a program; see `Surroundings`."""
        if name not in self.programs:
            raise Missing(f"{name} is not in the image of the boxes")
        return self.programs[name]

    def require(self, pattern: str) -> None:
        """Look for a file; see `Surroundings`."""
        if pattern not in self.files:
            raise Missing(f"{pattern} is not in the image of the boxes")

    def version(self, name: str, arguments: Sequence[str]) -> str:
        """Tell the version of a program; see `Surroundings`."""
        return read_version(self.program(name), *self.versions[name])


async def ask(box: Box, recipes: Sequence[Recipe]) -> Told:
    """Ask a box that no code has been in.

    Raises:
        errors.Unavailable: It does not tell (code `sandbox_unavailable`).
    """
    question = {
        "directories": DIRECTORIES,
        "programs": sorted({name for recipe in recipes for name in recipe.needs}),
        "files": sorted({pattern for recipe in recipes for pattern in recipe.files}),
        "versions": {recipe.needs[0]: recipe.version for recipe in recipes if recipe.needs},
    }
    arguments = (msgspec.json.encode(question).decode(),)
    order = Order(code=_CODE, args=arguments, timeout_s=_TIMEOUT_S, output_bytes=_OUTPUT_BYTES, results=False)
    kept = await box.run(order)
    try:
        return msgspec.json.decode(kept.stdout, type=Told)
    except msgspec.DecodeError as error:
        said = kept.stderr.decode(errors="replace").strip().rpartition("\n")[2] or str(error)
        raise errors.Unavailable(f"a box does not tell what it can run: {said}", code="sandbox_unavailable") from error
