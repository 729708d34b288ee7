"""Writes `docs/reference/` from the code, or compares it with `--check`.

What has no description in the code (a setting, a route, a command, an option, an error) makes the run fail.
"""

import argparse
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.core
import typer.main
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from trainyard import app
from trainyard.cli.root import app as commands
from trainyard.core import errors
from trainyard.core.http import dialects
from trainyard.core.settings import Settings

TARGET = Path(__file__).resolve().parent.parent / "docs" / "reference"
HEAD = "<!-- written by `make docs`; do not edit -->\n\n"


class Undocumented(Exception):
    """Something that users can reach has no description."""


def cell(text: object) -> str:
    """Make one line of a table cell."""
    return " ".join(str(text).replace("|", "\\|").split())


def described(text: str | None, where: str) -> str:
    """Return the description, which has to be there."""
    if not text:
        raise Undocumented(where)
    return cell(text)


def table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """Lay out a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(cell(c) for c in row) + " |" for row in rows]) + "\n"


def setting_rows(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[object, ...]]:
    """Yield key, environment variable, type, default and meaning of every setting."""
    for name, field in model.model_fields.items():
        key = prefix + name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from setting_rows(field.annotation, key + ".")
            continue
        default = "required" if field.default is PydanticUndefined else f"`{field.default}`"
        variable = "TRAINYARD_" + key.upper().replace(".", "__")
        kind = field.annotation.__name__ if isinstance(field.annotation, type) else str(field.annotation)
        kind = kind.replace("pathlib._local.", "").replace("pathlib.", "").replace("typing.", "")
        yield f"`{key}`", f"`{variable}`", f"`{kind}`", default, described(field.description, f"setting {key}")


def settings_page() -> str:
    """Describe every setting."""
    rows = list(setting_rows(Settings))
    intro = "Sources, later ones win: defaults, `trainyard.yaml`, `TRAINYARD_*`, flags. An unknown key is an error.\n\n"
    return "# Settings\n\n" + intro + table(("key", "variable", "type", "default", "meaning"), rows)


def errors_page() -> str:
    """Describe every error class with its status and exit code."""
    classes = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.TrainyardError)]
    rows: list[tuple[object, ...]] = [
        (
            f"`{c.__name__}`",
            f"`{c.code}`",
            dialects.status_of(c()),
            dialects.exit_code(c()),
            described(c.__doc__, c.__name__),
        )
        for c in sorted(classes, key=lambda c: (dialects.status_of(c()), c.__name__))
    ]
    return "# Errors\n\n" + table(("class", "code", "HTTP status", "exit code", "meaning and what to do"), rows)


def plain(number: float) -> float:
    """Take the `.0` off a whole number."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


def kind_of(schema: Mapping[str, Any]) -> str:
    """Name the type and the bounds of a JSON schema."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    if "anyOf" in schema:
        return " or ".join(kind_of(s) for s in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return ", ".join(repr(v) for v in schema.get("enum", [schema.get("const")]))
    words = {"minimum": ">=", "maximum": "<=", "exclusiveMinimum": ">", "exclusiveMaximum": "<"}
    words |= {"minLength": "length >=", "maxLength": "length <=", "minItems": "items >=", "maxItems": "items <="}
    bounds = [f"{sign} {plain(schema[word])}" for word, sign in words.items() if word in schema]
    inner = f" of {kind_of(schema['items'])}" if isinstance(schema.get("items"), dict) else ""
    return " ".join([str(schema.get("type", "any")) + inner, *bounds])


def meaning_of(schema: Mapping[str, Any]) -> str | None:
    """Find the description of a field, which stands inside where null is allowed too."""
    inner = (meaning_of(s) for s in schema.get("anyOf", ()))
    return schema.get("description") or next((text for text in inner if text), None)


def default_of(schema: Mapping[str, Any], is_required: bool) -> str:
    """Tell what a field has when it is not sent; one without a default may be absent from an answer."""
    if is_required:
        return "required"
    return f"`{json.dumps(schema['default'])}`" if "default" in schema else "optional"


def field_table(name: str, schema: Mapping[str, Any]) -> str:
    """Describe the fields of one type."""
    if "enum" in schema:
        return f"One of {kind_of(schema)}.\n"
    required = set(schema.get("required", ()))
    rows: list[tuple[object, ...]] = []
    for field, spec in schema.get("properties", {}).items():
        meaning = described(meaning_of(spec), f"field {name}.{field}")
        rows.append((f"`{field}`", kind_of(spec), default_of(spec, field in required), meaning))
    return table(("field", "type", "default", "meaning"), rows) if rows else "No fields.\n"


def answer_kind(media: str, schema: Mapping[str, Any]) -> str:
    """Name the type of an answer, and its media type where it is not JSON."""
    return kind_of(schema) if media == "application/json" else f"{kind_of(schema)} as `{media}`"


def route_section(path: str, method: str, operation: Mapping[str, Any]) -> str:
    """Describe one route."""
    lines = [f"### `{method.upper()} {path}`\n", described(operation.get("summary"), f"route {method} {path}") + "\n"]
    if operation.get("description"):
        lines.append(operation["description"].strip() + "\n")
    for parameter in operation.get("parameters", ()):
        meaning = described(meaning_of(parameter), f"parameter {parameter['name']} of {path}")
        lines.append(f"`{parameter['name']}` in the {parameter['in']}: {kind_of(parameter['schema'])}. {meaning}\n")
    for media in operation.get("requestBody", {}).get("content", {}).values():
        lines.append(f"Body: {kind_of(media['schema'])}\n")
    for status, answer in operation.get("responses", {}).items():
        kinds = [answer_kind(media, spec["schema"]) for media, spec in answer.get("content", {}).items() if spec]
        told = ", ".join(f"`{name}`" for name in answer.get("headers", ()))
        shape = "; ".join(kinds) + (f"; headers {told}" if told else "")
        lines.append(f"* {status}: {cell(answer.get('description', ''))}{' — ' + shape if shape else ''}")
    return "\n".join(lines) + "\n"


def http_page() -> str:
    """Describe every route and every type of the HTTP interface."""
    document = app.openapi_document()
    parts = ["# HTTP reference\n", "The same as `/docs` and `/openapi.json` of a running server.\n", "## Routes\n"]
    for path, operations in sorted(document["paths"].items()):
        parts += [route_section(path, method, op) for method, op in operations.items()]
    parts.append("## Types\n")
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts += [
            f"### {name}\n",
            described(schema.get("description"), f"type {name}") + "\n",
            field_table(name, schema),
        ]
    return "\n".join(parts)


def option_kind(parameter: Any) -> str:
    """Name the Python type of an option, without its module."""
    annotation = parameter.type_descriptor.annotation
    return annotation.__name__.lower() if isinstance(annotation, type) else str(annotation)


def command_sections(command: Any, path: str) -> Iterator[str]:
    """Describe a command and those below it."""
    if isinstance(command, typer.core.TyperGroup):
        for name in sorted(command.commands):
            yield from command_sections(command.commands[name], f"{path} {name}")
        return
    rows: list[tuple[object, ...]] = []
    for parameter in command.params:
        names = ", ".join(f"`{o}`" for o in parameter.opts)
        text = described(getattr(parameter, "help", None), f"{path} {names}")
        rows.append(
            (names, option_kind(parameter), "required" if parameter.required else f"`{parameter.default}`", text)
        )
    meaning = (command.help or "").split("\f")[0].strip()
    options = table(("option", "type", "default", "meaning"), rows)
    yield f"## `{path}`\n\n{described(meaning, f'command {path}')}\n\n{options}"


def commands_page() -> str:
    """Describe every command."""
    return "# Commands\n\n" + "\n".join(command_sections(typer.main.get_command(commands), "trainyard"))


def main() -> int:
    """Write the pages, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    check = parser.parse_args().check
    pages = {"settings.md": settings_page, "errors.md": errors_page, "http.md": http_page, "commands.md": commands_page}
    stale = []
    TARGET.mkdir(parents=True, exist_ok=True)
    for name, page in pages.items():
        text, path = HEAD + page().rstrip() + "\n", TARGET / name
        if check and (not path.exists() or path.read_text() != text):
            stale.append(f"docs/reference/{name} is not what the code says: run `make docs`")
        elif not check:
            path.write_text(text)
    print("\n".join(stale) or "the reference is fresh")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
