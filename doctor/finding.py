"""One thing that `doctor` has found."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is; an error is what keeps SkyAuth from working, or from being safe."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: what it is, and what to do about it. `code` is a stable word for scripts."""

    severity: Severity
    code: str
    what: str
    todo: str
