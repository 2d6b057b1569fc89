"""JSON bodies, accepted and rejected (422) as by pydantic in SkyPilot, with the same messages.

The response never repeats a value of the request, which can be a password.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from django.http import HttpRequest

from skypilot.errors import HTTPException

_NUMBER: Final = re.compile(r"\s*[+-]?[0-9]{1,18}(?:\.0+)?\s*\Z")


class FieldType(StrEnum):
    """The type of a field's value."""

    STRING = "string"
    STRING_LIST = "string list"
    INTEGER = "integer"


@dataclass(frozen=True, slots=True)
class BodyField:
    """A field of a body. An optional field can also be null."""

    type: FieldType = FieldType.STRING
    required: bool = True


REQUIRED: Final = BodyField()
REQUIRED_STRINGS: Final = BodyField(FieldType.STRING_LIST)
OPTIONAL: Final = BodyField(required=False)
OPTIONAL_INTEGER: Final = BodyField(FieldType.INTEGER, required=False)

Fields = Mapping[str, BodyField]
_Location = tuple[str | int, ...]


class _FieldError(Exception):
    """An invalid value. `detail` is pydantic's error: its type, location and message."""

    def __init__(self, location: _Location, kind: str, message: str) -> None:
        self.detail = {"type": kind, "loc": list(location), "msg": message}
        super().__init__(message)


def read(request: HttpRequest, fields: Fields) -> dict[str, Any]:
    """Return the values of these fields that the request has; other fields are ignored. Raises HTTPException with 422.

    The body must be declared as JSON, which an HTML form of another site cannot do.
    """
    raw = request.body
    if not raw:
        raise HTTPException(422, [_FieldError(("body",), "missing", "Field required").detail])
    if request.content_type != "application/json":
        raise HTTPException(422, [_not_an_object().detail])
    body = _parsed(raw)
    if not isinstance(body, dict):
        raise HTTPException(422, [_not_an_object().detail])
    values: dict[str, Any] = {}
    errors = []
    for name, field in fields.items():
        try:
            values.update(_value(name, field, body))
        except _FieldError as error:
            errors.append(error.detail)
    if errors:
        raise HTTPException(422, errors)
    return values


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        detail = _FieldError(("body", error.pos), "json_invalid", "JSON decode error").detail
        raise HTTPException(422, [detail | {"ctx": {"error": error.msg}}]) from None
    except (ValueError, RecursionError):  # not UTF-8, a number of thousands of digits, or nested too deeply
        raise HTTPException(422, [_FieldError(("body", 0), "json_invalid", "JSON decode error").detail]) from None


def _not_an_object() -> _FieldError:
    return _FieldError(("body",), "model_attributes_type", "Input should be a valid dictionary or object to extract fields from")


def _value(name: str, field: BodyField, body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of a field, if the body has it."""
    location: _Location = ("body", name)
    if name not in body:
        if field.required:
            raise _FieldError(location, "missing", "Field required")
        return
    value = body[name]
    if value is None and not field.required:
        yield name, None
        return
    match field.type:
        case FieldType.STRING:
            yield name, _string(location, value)
        case FieldType.INTEGER:
            yield name, _integer(location, value)
        case FieldType.STRING_LIST:
            if not isinstance(value, list):
                raise _FieldError(location, "list_type", "Input should be a valid list")
            yield name, [_string((*location, index), item) for index, item in enumerate(value)]


def _string(location: _Location, value: Any) -> str:
    if not isinstance(value, str):
        raise _FieldError(location, "string_type", "Input should be a valid string")
    if "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):  # which no database stores
        message = "Input should be a valid string, unable to parse raw data as a unicode string"
        raise _FieldError(location, "string_unicode", message)
    return value


def _integer(location: _Location, value: Any) -> int:
    if isinstance(value, str):
        if not _NUMBER.match(value):
            raise _FieldError(location, "int_parsing", "Input should be a valid integer, unable to parse string as an integer")
        return int(value.split(".")[0])
    if isinstance(value, float) and not value.is_integer():
        raise _FieldError(location, "int_from_float", "Input should be a valid integer, got a number with a fractional part")
    if not isinstance(value, int | float):
        raise _FieldError(location, "int_type", "Input should be a valid integer")
    return int(value)
