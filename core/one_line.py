"""Free text that stays one line: what users type into names and descriptions, and what logs, tables and mails show."""

import re

from django.core.exceptions import ValidationError

# Control characters, half surrogates, line and paragraph separators, and those that reverse the text after them.
_REFUSED = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def check_one_line(text: str) -> None:
    """Raise ValidationError for a control character, a line break, or a character that changes the direction of text."""
    if found := _REFUSED.search(text):
        raise ValidationError(
            f"The character U+{ord(found[0]):04X} is not allowed. Write one line of text without control characters."
        )


def as_one_line(text: str) -> str:
    """Return the text with a space in place of each character that `check_one_line` refuses."""
    return _REFUSED.sub(" ", text)
