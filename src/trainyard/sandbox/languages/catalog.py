"""The languages that run here."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.languages import compilers, scripts
from trainyard.sandbox.languages.asking import ask
from trainyard.sandbox.languages.recipe import Prepared, Recipe
from trainyard.sandbox.languages.toolchain import Missing, Reach, Surroundings, Toolchain, unknown, unsupported
from trainyard.sandbox.types.domain import LanguageInfo

ETC: Final = (
    "/etc/alternatives",
    "/etc/R",
    "/etc/java-*-openjdk",
    "/etc/ldc2.conf",
    "/etc/php/*/cli/conf.d",
    "/etc/php/*/mods-available",
)
"""Patterns of what Debian's toolchains read outside of /usr; a box that is to run them has it, read-only."""

_ORDER: Final = ("py", "js", "ts", "go", "java", "c", "cpp", "php", "rs", "r", "f90", "d", "bash")
_RECIPES: Final = tuple(
    sorted((scripts.PYTHON, *scripts.RECIPES, *compilers.RECIPES), key=lambda recipe: _ORDER.index(recipe.code))
)


@dataclass(frozen=True, slots=True)
class Language:
    """A language that runs here."""

    info: LanguageInfo
    recipe: Recipe
    tools: Toolchain

    @property
    def code(self) -> str:
        """One of the 13 codes."""
        return self.info.code

    def prepare(self, code: str) -> Prepared:
        """Make code ready for an `Order`."""
        return self.recipe.prepare(self.tools, code)


class Languages:
    """Finds a language by its code or an alias, in any case.

    Args:
        languages: Those that run here.
        missing: What each of the others lacks, by code.
        is_known: Whether these are all.
    """

    def __init__(self, languages: tuple[Language, ...], missing: Mapping[str, str], *, is_known: bool = True) -> None:
        self._languages = languages
        self._is_known = is_known
        self.missing: Mapping[str, str] = dict(missing)
        self._by_name = {name: one for one in languages for name in (one.code, *one.info.aliases)}

    @classmethod
    async def discover(cls, reach: Surroundings, memory_bytes: int) -> "Languages":
        """Look which languages a box can run, and ask each for its version, a few at a time, in threads.

        Args:
            reach: Where to look.
            memory_bytes: Of a box.
        """
        async with asyncio.TaskGroup() as group:
            looks = [group.create_task(asyncio.to_thread(_look, recipe, reach, memory_bytes)) for recipe in _RECIPES]
        seen = list(zip(_RECIPES, (look.result() for look in looks), strict=True))
        return cls(
            tuple(found for _, found in seen if isinstance(found, Language)),
            {
                recipe.code: f"{found} (package: {recipe.package})"
                for recipe, found in seen
                if isinstance(found, Missing)
            },
        )

    @classmethod
    async def of_box(cls, box: Box, memory_bytes: int) -> "Languages":
        """Ask a box that no code has been in; raises errors.Unavailable when it does not tell."""
        return await cls.discover(await ask(box, _RECIPES), memory_bytes)

    @classmethod
    def unasked(cls, memory_bytes: int) -> "Languages":
        """Make what is known before a box was asked: every one has Python."""
        python = _look(scripts.PYTHON, Reach(), memory_bytes)
        return cls((python,) if isinstance(python, Language) else (), {}, is_known=False)

    def available(self) -> list[LanguageInfo]:
        """List the languages that run here."""
        return [language.info for language in self._languages]

    def find(self, name: str) -> Language:
        """Find a language.

        Raises:
            errors.InvalidRequest: There is none of that name, or not here (code `unsupported_language`).
            errors.Unavailable: Boxes have not told yet whether they have it (code `sandbox_unavailable`).
        """
        wanted = name.strip().lower()
        found = self._by_name.get(wanted)
        if found is None:
            known = next((one.code for one in _RECIPES if wanted in (one.code, *one.aliases)), "")
            if known and not self._is_known:
                raise unknown(known)
            raise unsupported(name, tuple(one.code for one in self._languages), self.missing.get(known))
        return found


def _look(recipe: Recipe, reach: Surroundings, memory_bytes: int) -> Language | Missing:
    try:
        programs = {name: reach.program(name) for name in recipe.needs}
        for pattern in recipe.files:
            reach.require(pattern)
        version = reach.version(recipe.needs[0], recipe.version) if programs else reach.python
    except Missing as missing:
        return missing
    info = LanguageInfo(
        code=recipe.code, name=recipe.name, aliases=recipe.aliases, version=f"{recipe.maker} {version}".lstrip()
    )
    return Language(info, recipe, Toolchain(programs, version, memory_bytes))
