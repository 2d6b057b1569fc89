"""JSON bodies, read as leniently and refused in the same words as pydantic does for SkyPilot (422).

What was sent is never repeated in the answer: it may be a password.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from django.http import HttpRequest

from skypilot.errors import Refused

_NUMBER: Final = re.compile(r"\s*[+-]?[0-9]{1,18}(?:\.0+)?\s*\Z")


class Shape(StrEnum):
    """What a field holds."""

    TEXT = "text"
    TEXTS = "texts"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Field:
    """One field; who may be left out may be null too."""

    shape: Shape = Shape.TEXT
    required: bool = True


REQUIRED: Final = Field()
OPTIONAL: Final = Field(required=False)
OPTIONAL_NUMBER: Final = Field(Shape.NUMBER, required=False)

Fields = Mapping[str, Field]
_Place = tuple[str | int, ...]


class _Faulty(Exception):
    """A value that cannot be taken: where it is, and pydantic's type and sentence for it."""

    def __init__(self, place: _Place, kind: str, message: str) -> None:
        self.told = {"type": kind, "loc": list(place), "msg": message}
        super().__init__(message)


def read(request: HttpRequest, fields: Fields) -> dict[str, Any]:
    """Return those of the fields that were sent; others are ignored. Raises Refused with 422.

    A body that says not that it is JSON is none: a form of another site can send no other.
    """
    raw = request.body
    if not raw:
        raise Refused(422, [_Faulty(("body",), "missing", "Field required").told])
    if request.content_type != "application/json":
        raise Refused(422, [_no_object().told])
    found = _parsed(raw)
    if not isinstance(found, dict):
        raise Refused(422, [_no_object().told])
    given: dict[str, Any] = {}
    faults = []
    for name, field in fields.items():
        try:
            given.update(_given(name, field, found))
        except _Faulty as fault:
            faults.append(fault.told)
    if faults:
        raise Refused(422, faults)
    return given


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except json.JSONDecodeError as error:
        told = _Faulty(("body", error.pos), "json_invalid", "JSON decode error").told
        raise Refused(422, [told | {"ctx": {"error": error.msg}}]) from None
    except (ValueError, RecursionError):  # no text, a number of thousands of digits, or nested too deeply
        raise Refused(422, [_Faulty(("body", 0), "json_invalid", "JSON decode error").told]) from None


def _no_object() -> _Faulty:
    return _Faulty(("body",), "model_attributes_type", "Input should be a valid dictionary or object to extract fields from")


def _given(name: str, field: Field, found: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    place: _Place = ("body", name)
    if name not in found:
        if field.required:
            raise _Faulty(place, "missing", "Field required")
        return
    value = found[name]
    if value is None and not field.required:
        yield name, None
        return
    match field.shape:
        case Shape.TEXT:
            yield name, _text(place, value)
        case Shape.NUMBER:
            yield name, _number(place, value)
        case Shape.TEXTS:
            if not isinstance(value, list):
                raise _Faulty(place, "list_type", "Input should be a valid list")
            yield name, [_text((*place, index), item) for index, item in enumerate(value)]


def _text(place: _Place, value: Any) -> str:
    if not isinstance(value, str):
        raise _Faulty(place, "string_type", "Input should be a valid string")
    if "\x00" in value or any("\ud800" <= c <= "\udfff" for c in value):  # what no database takes
        raise _Faulty(place, "string_unicode", "Input should be a valid string, unable to parse raw data as a unicode string")
    return value


def _number(place: _Place, value: Any) -> int:
    if isinstance(value, str):
        if not _NUMBER.match(value):
            raise _Faulty(place, "int_parsing", "Input should be a valid integer, unable to parse string as an integer")
        return int(value.split(".")[0])
    if isinstance(value, float) and not value.is_integer():
        raise _Faulty(place, "int_from_float", "Input should be a valid integer, got a number with a fractional part")
    if not isinstance(value, int | float):
        raise _Faulty(place, "int_type", "Input should be a valid integer")
    return int(value)
