"""Content negotiation by the Accept header (RFC 9110 section 12.5.1)."""

import re
from collections.abc import Iterable
from typing import Final

_HTML: Final = "text/html"
_JSON: Final = ("application/json", "application/*", "*/*")  # the most specific first
_QUALITY = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\Z")


def prefers_html(accept: str) -> bool:
    """Return whether the header prefers an HTML page to JSON. It must name text/html, because programs send `*/*`."""
    weights = dict(_ranges(accept.lower().split(",")))
    json = next((weights[name] for name in _JSON if name in weights), 0.0)
    return weights.get(_HTML, 0.0) > json


def _ranges(texts: Iterable[str]) -> Iterable[tuple[str, float]]:
    for text in texts:
        name, *parameters = (part.strip() for part in text.split(";"))
        weights = [value.strip() for key, _, value in (p.partition("=") for p in parameters) if key.strip() == "q"]
        yield name, float(weights[0]) if weights and _QUALITY.match(weights[0]) else 0.0 if weights else 1.0
