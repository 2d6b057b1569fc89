"""Grants of administrative permissions, which pages perform only after a confirmation that names them (promise 55)."""

from collections.abc import Iterable

from rbac.permissions import ADMINISTRATIVE


def gained(before: Iterable[str], after: Iterable[str]) -> list[str]:
    """Return the administrative permissions that a change from `before` to `after` adds, sorted."""
    return sorted((frozenset(after) - frozenset(before)) & ADMINISTRATIVE)


def statement(doing: str, before: Iterable[str], after: Iterable[str]) -> str:
    """Return the sentence that a user confirms: what they are `doing`, and the administrative permissions that it adds.

    Returns "" for a change that adds none: it needs no confirmation. `doing` names the object, the old and the new value.
    """
    names = gained(before, after)
    return f"{doing}. This adds the administrative permission{'s' if len(names) > 1 else ''} {', '.join(names)}." if names else ""
