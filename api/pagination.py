"""Lists come in pages: `page`, `page_size`; the answer has `count`, `next`, `previous` and `results`."""

from rest_framework.pagination import PageNumberPagination


class Pages(PageNumberPagination):
    """A hundred rows unless asked otherwise, a thousand at most."""

    page_size = 100
    page_size_query_param = "page_size"
    max_page_size = 1_000
