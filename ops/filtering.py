"""The filters of lists, as options: the same filter sets as in the REST API."""

from typing import Any, TypeVar

from django.core.management.base import CommandParser
from django.db.models import Model, QuerySet
from django_filters import FilterSet

from core.errors import Invalid

M = TypeVar("M", bound=Model)

ACTIVE = {None: None, "active": "true", "disabled": "false"}


def add_state_argument(parser: CommandParser, noun: str) -> None:
    """Add the option whose value `ACTIVE` turns into the filter `active`."""
    parser.add_argument("--state", choices=["active", "disabled"], help=f"Only {noun} in this state.")


def filtered(filters: type[FilterSet], rows: "QuerySet[M]", **values: Any) -> "QuerySet[M]":
    """Return the rows that match these values; None is no filter. Raises Invalid with the option of each wrong value."""
    filter_set = filters({name: value for name, value in values.items() if value is not None}, queryset=rows)
    if not filter_set.is_valid():
        errors = [f"--{name.replace('_', '-')}: {' '.join(texts)}" for name, texts in filter_set.errors.items()]
        raise Invalid(" ".join(errors))
    matching: QuerySet[M] = filter_set.qs
    return matching
