"""The route table: which permission a request requires. The first matching route decides; a request without one is denied."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from rbac.patterns import Pattern, compile_pattern
from rbac.permissions import EVERYTHING, Permission
from rbac.targets import Target

T = TypeVar("T")

ANY_METHOD: Final = "*"
# Each table caches the matching rule by target. Anonymous clients choose the targets, so the number and the length are limited.
_MAX_CACHED: Final = 8_192
_MAX_CACHED_PATH: Final = 256


@dataclass(frozen=True, slots=True)
class Rule:
    """One compiled route. `host` empty: any host. `methods` `{"*"}`: any method. `permission` None: an unknown one, so deny."""

    position: int
    host: str
    pattern: Pattern
    methods: frozenset[str]
    permission: Permission | None
    text: str

    def matches(self, target: Target) -> bool:
        """Return whether this rule applies to the target."""
        return (
            (not self.host or self.host == target.host)
            and (ANY_METHOD in self.methods or target.method in self.methods)
            and self.pattern.matches(target.path)
        )


def route_text(*, position: int, host: str, path: str, methods: Iterable[str], permission: str) -> str:
    """Return a route as one line of text, whether or not it can be compiled."""
    names = frozenset(methods)
    method = "*" if ANY_METHOD in names else ",".join(sorted(names))
    return f"#{position} {method} {host}{path} -> {permission}"


def compile_rule(*, position: int, host: str, path: str, methods: Iterable[str], permission: str) -> Rule:
    """Return the rule of one stored route. Raises BadPattern; an unknown permission compiles to None."""
    methods = frozenset(methods)
    required = Permission(permission) if permission in EVERYTHING else None
    text = route_text(position=position, host=host, path=path, methods=methods, permission=permission)
    return Rule(position, host, compile_pattern(path), methods, required, text)


def insert_at(items: Sequence[T], item: T, position: int | None) -> list[T]:
    """Return the items with one more at `position`, counted from 1: the last for None, the first or last beyond the ends."""
    index = len(items) if position is None else min(max(position, 1), len(items) + 1) - 1
    return [*items[:index], item, *items[index:]]


class _Node:
    """One path segment in a table: rules that end here, rules that match any further segments, and the next segments."""

    __slots__ = ("children", "ending", "opening")

    def __init__(self) -> None:
        self.children: dict[str | None, _Node] = {}  # None is `*`
        self.ending: list[int] = []
        self.opening: list[int] = []


class Table:
    """An ordered route table. The cost of a look-up grows with the length of the path, not with the number of routes."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(rules)
        self._roots: dict[str, _Node] = {}
        self._cached: dict[tuple[str, str, str], Rule | None] = {}
        for number, rule in enumerate(self.rules):
            node = self._roots.setdefault(rule.host, _Node())
            for wanted in rule.pattern.segments:
                node = node.children.setdefault(wanted, _Node())
            (node.opening if rule.pattern.open_ended else node.ending).append(number)

    def first_match(self, target: Target) -> Rule | None:
        """Return the first matching rule in the order of the table, or None: then the request is denied."""
        key = (target.method, target.host, target.text)
        try:
            return self._cached[key]
        except KeyError:
            candidates = sorted(self._candidates(target))
            rule = next((rule for rule in map(self.rules.__getitem__, candidates) if rule.matches(target)), None)
            if len(target.text) <= _MAX_CACHED_PATH and len(self._cached) < _MAX_CACHED:
                self._cached[key] = rule
            return rule

    def covering(self, rule: Rule) -> list[Rule]:
        """Return the rules whose host and pattern match every path that the pattern of `rule` matches on its host, in order."""
        nodes = [root for root in map(self._roots.get, {"", rule.host}) if root is not None]
        numbers = [number for node in nodes for number in node.opening]
        for segment in rule.pattern.segments:
            wanted = {segment, None} if segment else {segment}  # `*` matches no empty segment
            nodes = [child for node in nodes for name in wanted if (child := node.children.get(name)) is not None]
            numbers += [number for node in nodes for number in node.opening]
        if not rule.pattern.open_ended:
            numbers += [number for node in nodes for number in node.ending]
        return [self.rules[number] for number in sorted(numbers)]

    def _candidates(self, target: Target) -> list[int]:
        """Return the numbers of a few rules, among them every matching one; `Rule.matches` decides which of them match."""
        nodes = [root for root in map(self._roots.get, {"", target.host}) if root is not None]
        numbers = [number for node in nodes for number in node.opening]
        for segment in target.path:
            nodes = [
                child for node in nodes for child in (node.children.get(segment), node.children.get(None)) if child is not None
            ]
            for node in nodes:
                numbers += node.opening
        for node in nodes:
            numbers += node.ending
        return numbers
