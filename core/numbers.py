"""Whole numbers in text that users type. Python's `int` takes the digits of every script, spaces and underscores."""

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError

_NUMBER = re.compile(r"-?[0-9]{1,18}\Z")


def whole_number(text: str) -> int:
    """Return the number that ASCII digits write. Raises ValueError."""
    if not _NUMBER.match(text):
        raise ValueError("Write a whole number with the digits 0 to 9.")
    return int(text)


class WholeNumberField(forms.IntegerField):
    """A form field whose value is a number in ASCII digits."""

    def to_python(self, value: Any) -> int | None:
        """Return the number, or None for an empty value. Raises ValidationError."""
        if isinstance(value, str) and value.strip():
            try:
                value = whole_number(value.strip())
            except ValueError:
                raise ValidationError(self.error_messages["invalid"], code="invalid") from None
        return super().to_python(value)
