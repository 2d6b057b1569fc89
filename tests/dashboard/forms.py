"""What a browser sends for a form of a page."""

import re
from html.parser import HTMLParser


class _Fields(HTMLParser):
    """Collects the fields of the last form of a page with method POST."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, list[str]] = {}
        self._inside = False
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        name, value = attributes.get("name", ""), attributes.get("value", "")
        if tag == "form":
            self._inside = attributes.get("method") == "post"
            self.fields = {} if self._inside else self.fields
        elif self._inside and tag == "select":
            self._select = name
        elif self._inside and tag == "option" and "selected" in attributes:
            self.fields.setdefault(self._select, []).append(value)
        elif self._inside and tag == "input" and name not in {"", "csrfmiddlewaretoken"}:
            ticked = attributes.get("type") not in {"checkbox", "radio"} or "checked" in attributes
            self.fields.setdefault(name, []).extend([value] * ticked)


def fields_of(text: str) -> dict[str, list[str]]:
    """Return the fields of the last POST form in the content of the page, as a browser sends them unchanged."""
    reader = _Fields()
    reader.feed(re.sub(r"<header.*?</header>", "", text, flags=re.DOTALL))
    assert reader.fields, "the content of the page has no form that posts"
    return reader.fields
