"""Pages of a list: `page` and `page_size` in the query; `count`, `next`, `previous` and `results` in the response."""

from typing import Any

from rest_framework.pagination import PageNumberPagination

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
    page_query_description = "The number of the page, starting at 1."
    page_size_query_description = f"The number of rows on a page: {page_size} by default, {max_page_size:,} at most."

    def get_paginated_response_schema(self, schema: Any) -> dict[str, Any]:
        page: dict[str, Any] = super().get_paginated_response_schema(schema)
        for name, description in _DESCRIPTIONS.items():
            page["properties"][name] = {**page["properties"][name], "description": description}
        return {**page, "description": "One page of a list."}
