"""Reading the bodies of hot routes, and saying what is wrong with them."""

import difflib
import re
from typing import TypeVar

import msgspec

from trainyard.core import errors

Body = TypeVar("Body", bound=msgspec.Struct)

_AT = re.compile(r" - at `(?:key in )?\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*?)`")
_MISSING = re.compile(r"Object missing required field `(?P<field>.*?)`")


def decode(decoder: msgspec.json.Decoder[Body], raw: bytes) -> Body:
    """Read a body.

    Raises:
        errors.InvalidRequest: It is no JSON (code `invalid_json`) or does not fit; `param` is the path of the field.
    """
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _explained(str(error), decoder.type) from error
    except msgspec.DecodeError as error:
        said = "it is empty" if not raw else str(error)
        raise errors.InvalidRequest(f"The body is not valid JSON: {said}", code="invalid_json") from error
    except RecursionError as error:
        raise errors.InvalidRequest("The body is nested too deeply", code="invalid_json") from error
    except UnicodeDecodeError as error:
        raise errors.InvalidRequest("The body is not valid UTF-8", code="invalid_json") from error


def _explained(text: str, request_type: type[msgspec.Struct]) -> errors.InvalidRequest:
    located = _AT.search(text)
    path = located["path"] if located else ""
    said = text[: located.start()] if located else text
    unknown, missing = _UNKNOWN.match(said), _MISSING.match(said)
    if unknown:
        path = f"{path}.{unknown['field']}" if path else unknown["field"]
        said = f"unknown field{_hint(path, request_type)}"
    elif missing:
        path = f"{path}.{missing['field']}" if path else missing["field"]
        said = "this field is required"
    return errors.InvalidRequest(f"{path}: {said}" if path else said, param=path or None)


def _hint(path: str, request_type: type[msgspec.Struct]) -> str:
    if "." in path or "[" in path:
        return ""
    valid = [field.encode_name for field in msgspec.structs.fields(request_type)]
    close = difflib.get_close_matches(path, valid, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; valid fields: {', '.join(valid)}"
