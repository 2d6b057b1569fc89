"""The role of a user who loses one: the lesser of two, so that the loss never adds permissions (promise 47, ADR 18)."""

from collections.abc import Mapping

from rbac.permissions import ADMIN


def lesser_role(default: str, held: str, table: Mapping[str, frozenset[str]]) -> str:
    """Return the lesser of the default role and the role that a user held, by their permissions in `table`.

    If neither contains the other, it is the greatest role that both contain. If there is none, or the held role no longer exists,
    it is the least role that the default contains. `default` has to be in the table.
    """
    limit, had = table[default], table.get(held)
    if had == limit:
        return held if default == ADMIN else default  # an upstream can give the name of a role a meaning
    if had is not None and had <= limit:
        return held
    if had is not None and limit <= had:
        return default
    within = [name for name, holds in table.items() if had is not None and holds <= limit & had]
    if within:
        return min(within, key=lambda name: (-len(table[name]), name))
    return min((name for name, holds in table.items() if holds <= limit), key=lambda name: (len(table[name]), name))
