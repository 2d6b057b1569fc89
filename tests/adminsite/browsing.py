"""Forms as a browser would send them: read from the page, hidden fields and all."""

from html.parser import HTMLParser
from typing import Any

from django.http import HttpResponse
from django.test import Client

Fields = dict[str, list[str]]


class _Form(HTMLParser):
    """Collects what the form with an id would send."""

    def __init__(self, form_id: str) -> None:
        super().__init__()
        self.fields: Fields = {}
        self.found = False
        self._id = form_id
        self._inside = False
        self._select = ""
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._inside = given.get("id") == self._id
            self.found |= self._inside
        if not self._inside:
            return
        name = given.get("name", "")
        if tag == "input" and name and given.get("type") != "submit":
            if given.get("type") in {"checkbox", "radio"}:
                if "checked" in given:
                    self.fields.setdefault(name, []).append(given.get("value", "on"))
            else:
                self.fields.setdefault(name, []).append(given.get("value", ""))
        elif tag == "select":
            self._select = name
            self.fields.setdefault(name, [])
        elif tag == "option" and self._select and "selected" in given:
            self.fields[self._select].append(given.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""
        elif tag == "form":
            self._inside = False


def form_of(response: HttpResponse, form_id: str) -> Fields:
    """Return what the browser would send if nothing were typed."""
    reader = _Form(form_id)
    reader.feed(response.content.decode())
    assert reader.found, f"the page has no form {form_id!r}"
    reader.fields.pop("csrfmiddlewaretoken", None)
    return reader.fields


def fill(client: Client, url: str, form_id: str, **typed: Any) -> Any:
    """Open a page, type, and send the form. A value of None is a box that is not ticked."""
    fields = form_of(client.get(url), form_id)
    return client.post(url, changed(fields, **typed))


def changed(fields: Fields, **typed: Any) -> Fields:
    """Return the fields after typing."""
    new = {name: value if isinstance(value, list) else [str(value)] for name, value in typed.items() if value is not None}
    return {**{name: value for name, value in fields.items() if name not in typed}, **new}


def told(response: Any) -> str:
    """Return the messages on the page that a response leads to."""
    page = response if response.status_code == 200 else response.client.get(response["Location"])
    return " ".join(str(message) for message in page.context["messages"])


def faults(response: Any) -> dict[str, list[str]]:
    """Return the errors of the form that was shown again."""
    assert response.status_code == 200, "it was accepted"
    return dict(response.context["adminform"].form.errors)
