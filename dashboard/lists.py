"""Filtered and sorted lists in pages, with the same number of queries however many rows there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from django import forms
from django.db.models import F, Model, OrderBy, QuerySet
from django.http import QueryDict

from core.errors import Invalid

Row = TypeVar("Row", bound=Model)

PAGE_SIZE: Final = 50
# Counting and skipping this many rows takes about ten milliseconds. Rows after them are found with the filters.
MAX_ROWS: Final = 100_000


@dataclass(frozen=True, slots=True)
class RowPage(Generic[Row]):
    """One page of a list. `total` is the number of rows, at most MAX_ROWS; `more` tells whether there are others after them."""

    rows: Sequence[Row]
    number: int
    pages: int
    total: int
    more: bool
    sort: str

    @property
    def first(self) -> int:
        """The number of the page's first row, counted from 1; 0 for an empty page."""
        return (self.number - 1) * PAGE_SIZE + 1 if self.rows else 0

    @property
    def last(self) -> int:
        """The number of the page's last row; 0 for an empty page."""
        return self.first + len(self.rows) - 1 if self.rows else 0

    @property
    def previous(self) -> int | None:
        """The number of the previous page, if there is one."""
        return self.number - 1 if self.number > 1 else None

    @property
    def next(self) -> int | None:
        """The number of the next page, if there is one."""
        return self.number + 1 if self.number < self.pages else None


class ListFilter(forms.Form):
    """The filters of a list, in the query of its URL. With an unknown parameter it is invalid, so that the list shows no rows:
    a misspelled filter must not show, or select, more rows than were asked for.
    """

    def clean(self) -> dict[str, Any]:
        """Return the values."""
        if unknown := sorted(set(self.data) - set(self.fields) - {"page", "sort"}):
            raise forms.ValidationError(f"Unknown filter: {', '.join(unknown)}. The filters are: {', '.join(self.fields)}.")
        return super().clean() or self.cleaned_data

    def require_valid(self) -> None:
        """Raise Invalid with the errors, for a file, which cannot show them."""
        if not self.is_valid():
            texts = [
                f"{name}: {text}" if name != "__all__" else str(text) for name, errors in self.errors.items() for text in errors
            ]
            raise Invalid(" ".join(texts))


def paginate(
    rows: QuerySet[Row],
    query: QueryDict,
    *,
    sorts: Mapping[str, Sequence[str]],
    default: str,
    display: QuerySet[Row] | None = None,
) -> RowPage[Row]:
    """Return the page that the query parameters `page` and `sort` select, in three queries.

    `sorts` maps each value of `sort` ("-" in front of it: descending) to the fields to order by. An unknown `sort` becomes the
    `default`, and a page number out of range the nearest page. Skipped rows are read from the index only, as keys. Put joins
    and annotations of the displayed rows into `display`, of which only the rows of the page are read.
    """
    sort = query.get("sort", "")
    if sort.removeprefix("-") not in sorts:
        sort = default
    descending = sort.startswith("-")
    fields = [_ordering(rows.model, name, descending=descending) for name in (*sorts[sort.removeprefix("-")], "pk")]
    ordered = rows.order_by(*fields)
    count = ordered.order_by()[: MAX_ROWS + 1].count()
    total = min(count, MAX_ROWS)
    pages = max(1, -(-total // PAGE_SIZE))
    number = min(max(_page_number(query.get("page", "")), 1), pages)
    keys = list(ordered.values_list("pk", flat=True)[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]) if total else []
    by_key: dict[Any, Row] = (rows if display is None else display).order_by().in_bulk(keys) if keys else {}
    existing = [by_key[key] for key in keys if key in by_key]  # a row can be deleted between the two queries
    return RowPage(existing, number, pages, total, count > MAX_ROWS, sort)


def _ordering(model: type[Model], name: str, *, descending: bool) -> OrderBy:
    """Return the ordering by a field: null sorts before everything else, on every database. "-" in front reverses it."""
    descending, name = descending != name.startswith("-"), name.removeprefix("-")
    nullable = {field.name: getattr(field, "null", False) for field in model._meta.get_fields()}
    if not nullable.get(name, name != "pk" and "__" not in name):  # an annotation is not a field, and can be null
        return OrderBy(F(name), descending=descending)  # NULLS FIRST or LAST would keep the database from using the index
    return OrderBy(
        F(name), descending=descending, nulls_first=None if descending else True, nulls_last=True if descending else None
    )


def _page_number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1
