"""Routes that never decide a request, because earlier ones match everything that they match."""

from collections.abc import Iterable, Mapping, Sequence

from rbac.models import Route
from rbac.packs import RouteSpec
from rbac.patterns import BadPattern
from rbac.routes import ANY_METHOD, Rule, Table, compile_rule


def shadowed(rows: Iterable[Route]) -> Mapping[int, str]:
    """Return the routes that never decide, by their ids: each with the text of the last route that is needed to shadow it.

    Stored routes that cannot be compiled make every request fail, so nothing is returned for a table with one.
    """
    ordered = list(rows)
    try:
        table = Table([row.compiled() for row in ordered])
    except BadPattern:
        return {}
    found = {}
    for row, rule in zip(ordered, table.rules, strict=True):
        if (last := _completing(_before(table, rule), rule)) is not None:
            found[row.pk] = last.text
    return found


def dead(specs: Sequence[RouteSpec]) -> list[str]:
    """Return the texts of the routes that never decide a request. Raises BadPattern."""
    table = Table([_compiled(number, spec) for number, spec in enumerate(specs, 1)])
    return [rule.text for rule in table.rules if _completing(_before(table, rule), rule) is not None]


def shadowing(specs: Sequence[RouteSpec], index: int) -> str:
    """Return the text of the route that shadows the one at this index, or "" if that one can decide. Raises BadPattern."""
    rules = [_compiled(number, spec) for number, spec in enumerate(specs[: index + 1], 1)]
    last = _completing(Table(rules[:-1]).covering(rules[-1]), rules[-1])
    return "" if last is None else last.text


def last_useful_position(specs: Sequence[RouteSpec], spec: RouteSpec) -> int:
    """Return the last position, counted from 1, at which this route can decide a request among the others.

    That is after all routes, or before the first one that would shadow it, such as a catch-all. If a route cannot be compiled, it
    is the position after all.
    """
    try:
        rules = [_compiled(number, other) for number, other in enumerate(specs, 1)]
        rule = _compiled(0, spec)
    except BadPattern:
        return len(specs) + 1
    last = _completing(Table(rules).covering(rule), rule)
    return len(specs) + 1 if last is None else last.position


def _before(table: Table, rule: Rule) -> list[Rule]:
    """Return the rules before this one that match everything that it matches, whatever the method."""
    return [other for other in table.covering(rule) if other.position < rule.position]


def _completing(covering: Iterable[Rule], rule: Rule) -> Rule | None:
    """Return the first of these rules up to which all methods of `rule` are matched; None if some remain."""
    remaining = set(rule.methods)
    for other in covering:
        remaining = set() if ANY_METHOD in other.methods else remaining - other.methods
        if not remaining:
            return other
    return None


def _compiled(position: int, spec: RouteSpec) -> Rule:
    return compile_rule(position=position, host=spec.host, path=spec.path, methods=spec.methods, permission=spec.permission)
