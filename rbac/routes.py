"""Which permission a request needs: ordered routes, the first match decides, no match means denied."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from rbac.patterns import Pattern, compile_pattern
from rbac.permissions import EVERYTHING, Permission
from rbac.targets import Target

T = TypeVar("T")

ANY_METHOD: Final = "*"
# What was found for a target is remembered by its table. Strangers choose the targets: so many, and none that is longer.
_REMEMBERED: Final = 8_192
_SHORT: Final = 256


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled route. `host` empty means any host; `methods` may be `{"*"}`; `permission` None is a broken row: deny."""

    position: int
    host: str
    pattern: Pattern
    methods: frozenset[str]
    permission: Permission | None
    text: str

    def matches(self, target: Target) -> bool:
        """Return whether this rule speaks about the target."""
        return (
            (not self.host or self.host == target.host)
            and (ANY_METHOD in self.methods or target.method in self.methods)
            and self.pattern.matches(target.path)
        )


def in_words(*, position: int, host: str, path: str, methods: Iterable[str], permission: str) -> str:
    """Return a route as logs and people name it, whether or not it can be compiled."""
    names = frozenset(methods)
    shown = "*" if ANY_METHOD in names else ",".join(sorted(names))
    return f"#{position} {shown} {host}{path} -> {permission}"


def compile_rule(*, position: int, host: str, path: str, methods: Iterable[str], permission: str) -> Rule:
    """Return the rule of one stored route. Raises BadPattern; an unknown permission compiles to one nobody holds."""
    methods = frozenset(methods)
    known = Permission(permission) if permission in EVERYTHING else None
    text = in_words(position=position, host=host, path=path, methods=methods, permission=permission)
    return Rule(position, host, compile_pattern(path), methods, known, text)


def insert_at(items: Sequence[T], item: T, position: int | None) -> list[T]:
    """Return the items with one more at `position`, counted from 1: the last for None, the first or last beyond the ends."""
    index = len(items) if position is None else min(max(position, 1), len(items) + 1) - 1
    return [*items[:index], item, *items[index:]]


class _Node:
    """One step down the paths of a table: the rules that end here, those open from here on, and the next steps."""

    __slots__ = ("children", "ending", "opening")

    def __init__(self) -> None:
        self.children: dict[str | None, _Node] = {}  # None is the step of `*`
        self.ending: list[int] = []
        self.opening: list[int] = []


class Table:
    """An ordered route table. What a look-up costs grows with the path's length and not with the number of routes."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._roots: dict[str, _Node] = {}
        self._found: dict[tuple[str, str, str], Rule | None] = {}
        for number, rule in enumerate(self.rules):
            node = self._roots.setdefault(rule.host, _Node())
            for wanted in rule.pattern.segments:
                node = node.children.setdefault(wanted, _Node())
            (node.opening if rule.pattern.open_ended else node.ending).append(number)

    def first_match(self, target: Target) -> Rule | None:
        """Return the first rule, in the table's order, that matches, or None: then the request is denied."""
        key = (target.method, target.host, target.text)
        try:
            return self._found[key]
        except KeyError:
            candidates = sorted(self._candidates(target))
            rule = next((rule for rule in map(self.rules.__getitem__, candidates) if rule.matches(target)), None)
            if len(target.text) <= _SHORT and len(self._found) < _REMEMBERED:
                self._found[key] = rule
            return rule

    def _candidates(self, target: Target) -> list[int]:
        """Return the numbers of few rules, among them every one that matches; which of them do is `Rule.matches`'s to say."""
        nodes = [root for root in map(self._roots.get, {"", target.host}) if root is not None]
        found = [number for node in nodes for number in node.opening]
        for segment in target.path:
            nodes = [
                child for node in nodes for child in (node.children.get(segment), node.children.get(None)) if child is not None
            ]
            for node in nodes:
                found += node.opening
        for node in nodes:
            found += node.ending
        return found
