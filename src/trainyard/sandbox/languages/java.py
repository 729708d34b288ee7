"""What a file of Java has to be called, and which of its classes is started."""

import re
from dataclasses import dataclass
from typing import Final

_NO_CODE: Final = re.compile(
    r'//[^\n]*|/\*.*?\*/|"""(?:\\.|(?!""").)*"""|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL
)
"""Comments, text blocks, strings and characters, in which braces and `class` mean nothing."""

_PACKAGE: Final = re.compile(r"^\s*package\s+([\w.\s]+?)\s*;")
_TYPE: Final = re.compile(r"\b(?:class|interface|enum|record)\s+([A-Za-z_$][\w$]*)")
_PUBLIC: Final = re.compile(r"\bpublic\b")
_MAIN: Final = re.compile(r"\bvoid\s+main\s*\(")


@dataclass(frozen=True, slots=True)
class Source:
    """How a file of Java is compiled and started.

    Attributes:
        file: Named after its public class, as the language wants it.
        main_class: With its package.
    """

    file: str
    main_class: str


@dataclass(frozen=True, slots=True)
class _Type:
    name: str
    is_public: bool
    has_main: bool


def read(code: str) -> Source:
    """Find the public class, and the class that has `main`; `Main` where there is neither."""
    text = _NO_CODE.sub(lambda match: " " if match[0][0] == "/" else '""', code)
    types = _types(text)
    package = _PACKAGE.match(text)
    prefix = "".join(package[1].split()) + "." if package else ""
    public = next((one.name for one in types if one.is_public), None)
    started = min(types, key=lambda one: (not one.has_main, not one.is_public), default=None)
    return Source(f"{public or 'Main'}.java", prefix + (started.name if started else "Main"))


def _types(text: str) -> list[_Type]:
    """List the types that stand in no other."""
    found: list[_Type] = []
    for head, body in _blocks(text):
        declared = _TYPE.search(head)
        if declared:
            is_public = _PUBLIC.search(head, 0, declared.start()) is not None
            found.append(_Type(declared[1], is_public, _MAIN.search(body) is not None))
    return found


def _blocks(text: str) -> list[tuple[str, str]]:
    """Split into what stands before each outermost pair of braces (since the last `;` or pair) and what is in it."""
    blocks, depth, begin, head = [], 0, 0, ""
    for match in re.finditer(r"[{};]", text):
        if match[0] == "{":
            depth += 1
            if depth == 1:
                head, begin = text[begin : match.start()], match.end()
        elif match[0] == "}":
            depth = max(depth - 1, 0)
            if depth == 0:
                blocks.append((head, text[begin : match.start()]))
                head, begin = "", match.end()
        elif depth == 0:
            begin = match.end()
    return blocks
