"""Which permission a request needs: ordered routes, the first match decides, no match means denied."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from rbac.patterns import Pattern, Segments, compile_pattern
from rbac.permissions import EVERYTHING, Permission

ANY_METHOD: Final = "*"
_METHOD = re.compile(r"[A-Z]{3,20}\Z")
# RFC 1123 names and IPv4 literals, or a bracketed IPv6 literal; the port is never part of it.
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?)*|\[[0-9a-f:.]+\])\Z")


def valid_method(text: str) -> bool:
    """Return whether `text` is a method name as requests carry it: upper-case letters only."""
    return bool(_METHOD.match(text))


def valid_host(text: str) -> bool:
    """Return whether `text` is a canonical host: lower case, no port, no last dot."""
    return len(text) <= 253 and bool(_HOST.match(text))


@dataclass(frozen=True, slots=True)
class Target:
    """What a request asks for, read strictly: `method` upper case, `host` canonical, `path` decoded segments."""

    method: str
    host: str
    path: Segments
    text: str  # the path as it was sent, for people

    def __str__(self) -> str:
        return f"{self.method} {self.host}{self.text}"


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


def compile_rule(*, position: int, host: str, path: str, methods: Iterable[str], permission: str) -> Rule:
    """Return the rule of one stored route. Raises BadPattern; an unknown permission compiles to one nobody holds."""
    methods = frozenset(methods)
    shown = "*" if ANY_METHOD in methods else ",".join(sorted(methods))
    known = Permission(permission) if permission in EVERYTHING else None
    return Rule(position, host, compile_pattern(path), methods, known, f"#{position} {shown} {host}{path} -> {permission}")


def first_match(target: Target, rules: Iterable[Rule]) -> Rule | None:
    """Return the first rule that matches, in the order given, or None: then the request is denied."""
    return next((rule for rule in rules if rule.matches(target)), None)
