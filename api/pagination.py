"""Pages of a list: `page` and `page_size` in the query; `count`, `next`, `previous` and `results` in the response."""

import re
from typing import Any, Final

from rest_framework.exceptions import NotFound
from rest_framework.pagination import PageNumberPagination
from rest_framework.request import Request

from core.errors import Invalid

_NUMBER: Final = re.compile(r"[0-9]{1,9}")  # `int` also reads digits of other scripts
_DESCRIPTIONS = {
    "count": "The number of rows on all pages.",
    "next": "The URL of the next page.",
    "previous": "The URL of the previous page.",
    "results": "The rows of this page.",
}


class ApiPagination(PageNumberPagination):
    """100 rows a page by default, and 1,000 at most."""

    page_size = 100
    page_size_query_param = "page_size"
    max_page_size = 1_000
    invalid_page_message = "page: There is no such page. The first page is 1; next contains the URL of the following one."
    PARAMETERS: Final = (PageNumberPagination.page_query_param, page_size_query_param)
    page_query_description = "The number of the page, starting at 1."
    page_size_query_description = f"The number of rows on a page: {page_size} by default, {max_page_size:,} at most."

    def get_page_size(self, request: Request) -> int:
        """Return the number of rows on a page. Raises Invalid."""
        sent = request.query_params.get(self.page_size_query_param)
        if sent is None:
            return self.page_size
        if not _NUMBER.fullmatch(sent) or not 1 <= int(sent) <= self.max_page_size:
            raise Invalid.field(self.page_size_query_param, f"page_size must be between 1 and {self.max_page_size:,}.")
        return int(sent)

    def get_page_number(self, request: Request, paginator: Any) -> Any:  # noqa: ARG002 - DRF's signature
        """Return the number of the page. Raises NotFound for text that is no number, as for a page that does not exist."""
        number = request.query_params.get(self.page_query_param, "1")
        if not _NUMBER.fullmatch(number):
            raise NotFound(self.invalid_page_message)
        return number

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """Return the parameters with their limits."""
        limits = {
            self.page_query_param: {"minimum": 1},
            self.page_size_query_param: {"minimum": 1, "maximum": self.max_page_size},
        }
        parameters = super().get_schema_operation_parameters(view)
        return [{**each, "schema": {**each["schema"], **limits[each["name"]]}} for each in parameters]

    def get_paginated_response_schema(self, schema: Any) -> dict[str, Any]:
        page: dict[str, Any] = super().get_paginated_response_schema(schema)
        for name, description in _DESCRIPTIONS.items():
            page["properties"][name] = {**page["properties"][name], "description": description}
        return {**page, "description": "One page of a list."}
