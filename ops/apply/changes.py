"""Differences between a manifest and what is stored."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: `action` is "add", "change" or "remove"; `old` and `new` hold the values that differ."""

    action: str
    kind: str
    name: str
    old: Values = field(default_factory=dict)
    new: Values = field(default_factory=dict)


def changed(kind: str, name: str, before: Values, wanted: Values) -> Change | None:
    """Return the values that differ from `before`, or None. Values that are not in `wanted` are kept."""
    new = {key: value for key, value in wanted.items() if value != before[key]}
    return Change("change", kind, name, old={key: before[key] for key in new}, new=new) if new else None
