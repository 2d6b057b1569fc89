"""The differences that `apply` and `load_pack` print."""

from collections.abc import Sequence
from typing import Any

from ops.apply.changes import Change
from ops.base import Command

_SIGNS = {"add": "+", "change": "~", "remove": "-"}


def show(command: Command, changes: Sequence[Change], *, applied: bool, **also: Any) -> None:
    """Print the changes as a table or as JSON; `also` are further keys of the JSON object."""
    if command.as_json:
        rows = [
            {"action": change.action, "kind": change.kind, "name": change.name, "old": change.old, "new": change.new}
            for change in changes
        ]
        command.print_json({"applied": applied, **also, "changes": rows})
    elif changes:
        command.print_table(
            ["", "KIND", "NAME", "VALUES"],
            [(_SIGNS[change.action], change.kind, change.name, _values(change)) for change in changes],
        )


def _values(change: Change) -> str:
    if change.action == "change":
        return "; ".join(f"{key}: {_text(change.old[key])} -> {_text(value)}" for key, value in change.new.items())
    return "; ".join(f"{key}: {_text(value)}" for key, value in change.new.items())


def _text(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(map(str, value)) or "none"
        case _:
            return str(value) or '""'
