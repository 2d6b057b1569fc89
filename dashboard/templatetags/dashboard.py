"""Template tags and filters: icons, relative times, sortable headings, form fields, page links."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django import template
from django.forms import BoundField
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from dashboard.lists import RowPage

register = template.Library()

_UNITS: Final = (("day", 86_400), ("hour", 3_600), ("minute", 60))
_MONTHS_FROM: Final = timedelta(days=60)


@register.simple_tag
def icon(name: str) -> SafeString:
    """Return a symbol of `static/skyauth/icons.svg`. It is hidden from screen readers: put a text beside it."""
    return format_html(
        '<svg class="icon" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>', static("skyauth/icons.svg"), name
    )


@register.simple_tag
def linked(text: str, link: str) -> SafeString | str:
    """Return the text, with a link unless that is ""; "none" for no text."""
    return format_html('<a href="{}">{}</a>', link, text) if link else text or "none"


@register.filter
def get(values: Mapping[Any, Any], key: Any) -> Any:
    """Return the value of a key, or None."""
    return values.get(key)


@register.filter
def thousands(number: int) -> str:
    """Return a number with separators: 100,000."""
    return f"{number:,}"


@register.filter
def ago(when: datetime | None, never: str = "never") -> SafeString:
    """Return a time relative to now, with the exact time (UTC) as its tooltip; `never` for None."""
    if when is None:
        return format_html('<span class="quiet">{}</span>', never)
    exact = f"{when:%Y-%m-%d %H:%M} UTC"
    distance = when - timezone.now()
    return format_html(
        '<time datetime="{}" title="{}">{}</time>', when.isoformat(timespec="seconds"), exact, _relative(distance, when)
    )


def _relative(distance: timedelta, when: datetime) -> str:
    seconds = int(abs(distance).total_seconds())
    if abs(distance) >= _MONTHS_FROM:
        return f"{when:%Y-%m-%d}"
    for unit, size in _UNITS:
        if number := seconds // size:
            text = f"{number} {unit}{'s' if number > 1 else ''}"
            return f"in {text}" if distance > timedelta() else f"{text} ago"
    return "now"


@register.inclusion_tag("dashboard/parts/heading.html", takes_context=True)
def heading(context: template.Context, name: str, title: str, page: RowPage[Any], first: str = "up") -> dict[str, Any]:
    """Return a column heading that sorts the list. The first click sorts ascending, or descending with `first` "down"."""
    current = page.sort.removeprefix("-") == name
    down = page.sort.startswith("-")
    sort = f"-{name}" if (not down if current else first == "down") else name
    direction = ("descending" if down else "ascending") if current else ""
    return {"request": context["request"], "title": title, "sort": sort, "direction": direction}


@register.inclusion_tag("dashboard/parts/pages.html", takes_context=True)
def pages(context: template.Context, page: RowPage[Any], what: str) -> dict[str, Any]:
    """Return the position in the list, and links to its other pages; `what` names the rows."""
    return {"request": context["request"], "page": page, "what": what}


@register.inclusion_tag("dashboard/parts/field.html")
def field(bound: BoundField) -> dict[str, Any]:
    """Return a form field with its label, help text and errors."""
    described = " ".join(
        [f"{bound.auto_id}-help"] * bool(bound.help_text) + [f"{bound.auto_id}-error"] * bool(bound.errors),
    )
    attributes: dict[str, Any] = {"aria-describedby": described} if described else {}
    if bound.errors:
        attributes["aria-invalid"] = "true"
    # With maxlength, a browser cuts a pasted text without a word. The form refuses it instead.
    bound.field.widget.attrs.pop("maxlength", None)
    return {"bound": bound, "widget": bound.as_widget(attrs=attributes), "kind": bound.widget_type, "described": described}
