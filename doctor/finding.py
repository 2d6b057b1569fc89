"""The types of a check and of what it finds: code, severity, audience, message and what to do."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from django.db.models import QuerySet

NAMES: Final = 5  # in one finding


class Severity(StrEnum):
    """An error means that SkyAuth does not work or is not safe."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Audience(StrEnum):
    """Where a finding is shown."""

    OPERATOR = "operator"  # manage.py doctor
    ADMIN = "admin"  # the home page of the dashboard
    READINESS = "readiness"  # /readyz, and `serve` before it starts


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem. `todo` is the operator's next step; `names` are the first of the `total` affected rows, if there are any."""

    severity: Severity
    code: str
    what: str
    todo: str
    names: tuple[str, ...] = ()
    total: int = 0

    @property
    def text(self) -> str:
        """The problem as a sentence, with the names."""
        if not self.names:
            return self.what
        more = self.total - len(self.names)
        return f"{self.what}: {', '.join(self.names)}{f' and {more} more' if more > 0 else ''}."


@dataclass(frozen=True, slots=True)
class Check:
    """One check: its stable code, its severity, its readers, and the function that yields findings.

    A check whose code ends with `*` reports several codes, and each of its findings has a severity of its own; `severity` is the
    worst of them.
    """

    code: str
    severity: Severity
    audience: frozenset[Audience]
    find: Callable[["Check"], Iterable[Finding]]
    needs_database: bool = True

    def finding(self, what: str, todo: str, *, names: Sequence[str] = ()) -> Finding:
        """Return a finding of this check; `what` is a sentence, or its beginning where `names` follow."""
        return Finding(self.severity, self.code, what, todo, tuple(names[:NAMES]), len(names))

    def of_rows(self, rows: QuerySet[Any], *fields: str, what: str, todo: str) -> Iterable[Finding]:
        """Yield a finding that names the first rows by these fields, if there are any. It takes two queries at most."""
        if total := rows.count():
            names = tuple(" ".join(map(str, values)) for values in rows.values_list(*fields)[:NAMES])
            yield Finding(self.severity, self.code, what, todo, names, total)
