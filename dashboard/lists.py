"""Lists: filtered and sorted by what the address says, in pages that stay fast however many rows there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from django.db.models import F, Model, OrderBy, QuerySet
from django.http import QueryDict

Row = TypeVar("Row", bound=Model)

PAGE_SIZE: Final = 50
# Rows beyond this are found by filtering and not by turning pages. Counting and skipping so many takes some ten milliseconds.
MOST: Final = 100_000


@dataclass(frozen=True, slots=True)
class RowPage(Generic[Row]):
    """One page of a list. `total` is how many rows there are, at most MOST; `more` whether there are still others."""

    rows: Sequence[Row]
    number: int
    pages: int
    total: int
    more: bool
    sort: str

    @property
    def first(self) -> int:
        """The number of the first row of the page, from 1; 0 when there is none."""
        return (self.number - 1) * PAGE_SIZE + 1 if self.rows else 0

    @property
    def last(self) -> int:
        """The number of its last row."""
        return self.first + len(self.rows) - 1 if self.rows else 0

    @property
    def previous(self) -> int | None:
        """The number of the page before it."""
        return self.number - 1 if self.number > 1 else None

    @property
    def next(self) -> int | None:
        """The number of the page after it."""
        return self.number + 1 if self.number < self.pages else None


def paginate(
    rows: QuerySet[Row],
    asked: QueryDict,
    *,
    sorts: Mapping[str, Sequence[str]],
    default: str,
    shown: QuerySet[Row] | None = None,
) -> RowPage[Row]:
    """Return the page that the address asks for by `page` and `sort`, in three queries.

    `sorts` has for each name that `sort` may have (with "-" before it: downwards) the fields to order by; whatever else is
    asked gets the `default`, and a page that there is not the nearest one. Rows that are skipped are read from the index alone,
    as keys. What is joined or counted for each row belongs into `shown`, of which only the rows of the page are read.
    """
    sort = asked.get("sort", "")
    if sort.removeprefix("-") not in sorts:
        sort = default
    down = sort.startswith("-")
    fields = [_ordered(rows.model, name, down=down) for name in (*sorts[sort.removeprefix("-")], "pk")]
    keys = rows.order_by(*fields)
    count = keys.order_by()[: MOST + 1].count()
    total = min(count, MOST)
    pages = max(1, -(-total // PAGE_SIZE))
    number = min(max(_number(asked.get("page", "")), 1), pages)
    wanted = list(keys.values_list("pk", flat=True)[(number - 1) * PAGE_SIZE : number * PAGE_SIZE]) if total else []
    by_key: dict[Any, Row] = (rows if shown is None else shown).order_by().in_bulk(wanted) if wanted else {}
    found = [by_key[key] for key in wanted if key in by_key]  # one that was deleted meanwhile is not there
    return RowPage(found, number, pages, total, count > MOST, sort)


def _ordered(model: type[Model], name: str, *, down: bool) -> OrderBy:
    """Return the order by a field: nothing is less than something, on every database. "-" before the name: the other way."""
    down, name = down != name.startswith("-"), name.removeprefix("-")
    fields = {field.name: getattr(field, "null", False) for field in model._meta.get_fields()}
    if not fields.get(name, name != "pk" and "__" not in name):  # what is no field is computed, and may be nothing
        return OrderBy(F(name), descending=down)  # as its index is ordered, which would not serve the other one
    return OrderBy(F(name), descending=down, nulls_first=None if down else True, nulls_last=True if down else None)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 1
