"""Filters that the lists of the REST API and of the dashboard share, built on django-filter."""

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import and_, or_
from typing import Any, Final

from django import forms
from django.db.models import Q, QuerySet
from django.utils.text import smart_split, unescape_string_literal
from django_filters import BooleanFilter, CharFilter
from django_filters import ChoiceFilter as AnyChoiceFilter

MAX_SEARCH: Final = 500  # characters
MAX_WORDS: Final = 16


class StrictBooleanField(forms.NullBooleanField):
    """`true`, `false` or nothing, as text."""

    widget = forms.TextInput

    def to_python(self, value: Any) -> bool | None:  # type: ignore[override] # as NullBooleanField, whose stub is wrong
        """Return the value, or None for an empty one. Raises ValidationError."""
        if value in {"true", "false"}:
            return bool(value == "true")
        if value not in self.empty_values:
            raise forms.ValidationError("The value must be true or false.")
        return None

    def validate(self, value: bool | None) -> None:
        """Accept every value that `to_python` returns."""


class StrictBooleanFilter(BooleanFilter):  # type: ignore[misc]
    """Filters by `true` or `false`. Any other value is an error; django-filter's own field would ignore it."""

    field_class = StrictBooleanField

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(widget=forms.TextInput, **kwargs)


class ChoiceFilter(AnyChoiceFilter):  # type: ignore[misc]
    """Filters by one of the choices. The error of any other value lists them."""

    def __init__(self, *, choices: Sequence[tuple[str, str]], **kwargs: Any) -> None:
        known = ", ".join(value for value, _ in choices)
        errors = {"invalid_choice": f"%(value)s is not a choice. Choose one of: {known}."}
        super().__init__(choices=choices, error_messages=errors, **kwargs)


class SearchField(forms.CharField):
    """Text of at most MAX_WORDS words."""

    def validate(self, value: str) -> None:
        """Raise ValidationError for more words: each is compared with every row, and many words that match all take seconds."""
        super().validate(value)
        if (count := len(set(search_words(value)))) > MAX_WORDS:
            raise forms.ValidationError(f"The search has {count} words. It can have {MAX_WORDS}.")


class SearchFilter(CharFilter):  # type: ignore[misc]
    """Filters by words: each must match at least one of the lookups, such as `display_name__icontains`.

    Quotes keep several words together. The lookups in `lower_case` are of fields that are stored in lower case: they compare
    with the lower-case word, which is faster than ignoring case in every row.
    """

    field_class = SearchField

    def __init__(self, *lookups: str, lower_case: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(max_length=MAX_SEARCH, **kwargs)
        self.lookups = lookups
        self.lower_case = lower_case

    def filter(self, qs: QuerySet[Any], value: str) -> QuerySet[Any]:
        conditions = [self._condition(word) for word in dict.fromkeys(search_words(value))]
        return qs.filter(reduce(and_, conditions)) if conditions else qs

    def _condition(self, word: str) -> Q:
        return reduce(
            or_,
            [Q((lookup, word)) for lookup in self.lookups] + [Q((lookup, word.lower())) for lookup in self.lower_case],
        )


def search_words(text: str) -> Iterator[str]:
    """Yield the words of a search. Blanks and commas separate words, except between quotes."""
    for part in smart_split(text or ""):
        word = part.strip(",")
        if len(word) > 1 and word[0] in "\"'" and word[0] == word[-1]:
            yield unescape_string_literal(word)
        else:
            yield from filter(None, word.split(","))
