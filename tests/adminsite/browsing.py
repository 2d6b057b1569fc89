"""Posts forms as a browser does: with the fields that the page has, including hidden ones."""

import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

from django.http import HttpResponse
from django.test import Client

Fields = dict[str, list[str]]


class _Form(HTMLParser):
    """Collects the fields that the form with an id sends."""

    def __init__(self, form_id: str) -> None:
        super().__init__()
        self.fields: Fields = {}
        self.found = False
        self._id = form_id
        self._inside = False
        self._select = ""
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._inside = attributes.get("id") == self._id
            self.found |= self._inside
        if not self._inside:
            return
        name = attributes.get("name", "")
        if tag == "input" and name and attributes.get("type") != "submit":
            if attributes.get("type") in {"checkbox", "radio"}:
                if "checked" in attributes:
                    self.fields.setdefault(name, []).append(attributes.get("value", "on"))
            else:
                self.fields.setdefault(name, []).append(attributes.get("value", ""))
        elif tag == "select":
            self._select = name
            self.fields.setdefault(name, [])
        elif tag == "option" and self._select and "selected" in attributes:
            self.fields[self._select].append(attributes.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""
        elif tag == "form":
            self._inside = False


def form_of(response: HttpResponse, form_id: str) -> Fields:
    """Return the fields that the browser sends if the user types nothing."""
    reader = _Form(form_id)
    reader.feed(response.content.decode())
    assert reader.found, f"the page has no form {form_id!r}"
    reader.fields.pop("csrfmiddlewaretoken", None)
    return reader.fields


def fill(client: Client, url: str, form_id: str, **typed: Any) -> Any:
    """Open a page, fill in the form and send it. None unchecks a checkbox."""
    fields = form_of(client.get(url), form_id)
    return client.post(url, changed(fields, **typed))


def changed(fields: Fields, **typed: Any) -> Fields:
    """Return the fields with the typed values."""
    new = {name: value if isinstance(value, list) else [str(value)] for name, value in typed.items() if value is not None}
    return {**{name: value for name, value in fields.items() if name not in typed}, **new}


def confirmation_on(response: Any) -> str:
    """Return the statement that the page asks the user to confirm; "" if it asks for none."""
    found = re.search(r'name="confirmation" value="([^"]+)"', response.content.decode())
    return unescape(found[1]) if found else ""


def messages_of(response: Any) -> str:
    """Return the messages on the page, after a redirect if there is one."""
    page = response if response.status_code == 200 else response.client.get(response["Location"])
    return " ".join(str(message) for message in page.context["messages"])


def form_errors(response: Any) -> dict[str, list[str]]:
    """Return the errors of the form on the page."""
    assert response.status_code == 200, "the form was accepted"
    return dict(response.context["adminform"].form.errors)
