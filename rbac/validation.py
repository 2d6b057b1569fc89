"""Checks a row by the validators of its model, with errors that name the fields."""

from collections.abc import Callable, Collection
from functools import partial

from django.core.exceptions import ValidationError
from django.db import models

from core.errors import Invalid


def validate(row: models.Model) -> None:
    """Raise Invalid with the fields that the model's validators and constraints reject."""
    _validate(row, row.full_clean)


def validate_fields(row: models.Model, *, exclude: Collection[str]) -> None:
    """Raise Invalid with the fields that the model's validators reject. No query: the database checks the constraints."""
    _validate(row, partial(row.clean_fields, exclude=exclude))


def _validate(row: models.Model, clean: Callable[[], None]) -> None:
    try:
        clean()
    except ValidationError as error:
        fields = {
            ("detail" if name == "__all__" else name): [text for one in errors for text in _sentences(row, name, one)]
            for name, errors in error.error_dict.items()
        }
        raise Invalid(" ".join(text for texts in fields.values() for text in texts), fields=fields) from None


def _sentences(row: models.Model, name: str, error: ValidationError) -> list[str]:
    """Return the messages of an error; that of a value that is no choice lists the choices."""
    if error.code != "invalid_choice":
        return error.messages
    choices = ", ".join(str(value) for value, _ in row._meta.get_field(name).flatchoices)  # type: ignore[union-attr]
    return [f"{getattr(row, name)!r} is not a choice. Choose one of: {choices}."]
