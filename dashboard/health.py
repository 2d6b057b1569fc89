"""The health of the installation, as the home page shows it to admins: the findings of doctor/checks.py, with links."""

from dataclasses import dataclass
from typing import Final

from django.urls import reverse

from audit.events import Event
from audit.models import Entry
from doctor.checks import findings
from doctor.finding import Audience, Finding, Severity
from rbac.permissions import ADMIN

NAMES: Final = 3  # of a finding
DENIALS: Final = 5


@dataclass(frozen=True, slots=True)
class _Step:
    """What an admin does in the dashboard about a finding: a sentence, and the page for it with the text of the link."""

    todo: str
    page: str
    link: str
    query: str = ""


_ADMINS: Final = f"?role={ADMIN}&sort=seen"
_STEPS: Final = {
    "routes.none": _Step("Load a policy pack: a ready-made table of routes.", "packs", "Review packs"),
    "routes.never-decide": _Step("Move them up, or delete them.", "routes", "Review routes"),
    "users.no-admin": _Step("Give an active user the role admin.", "users", "Review users"),
    "users.admin-by-default": _Step("Assign their roles.", "users", "Review admins", _ADMINS),
    "users.admin-unused": _Step("Disable those who have left, or lower their role.", "users", "Review admins", _ADMINS),
    "identity.groups-unread": _Step("Delete the groups, or ask an operator to turn on groups.", "groups", "Review groups"),
    "identity.group-never-matches": _Step("Delete them, and add each group alone.", "groups", "Review groups"),
    "accounts.owner-disabled": _Step(
        "Give them another owner or none, or delete them.", "service-accounts", "Review service accounts"
    ),
    "accounts.above-owner": _Step(
        "Give them the role that they need, another owner, or none.", "service-accounts", "Review service accounts"
    ),
    "tokens.endless": _Step("Replace them with tokens that expire.", "service-accounts", "Review tokens", "?tokens=never"),
    "tokens.expiring": _Step("Rotate them in time.", "service-accounts", "Review tokens", "?tokens=soon"),
    "tokens.unused": _Step("Revoke those that nobody needs.", "service-accounts", "Review tokens", "?tokens=unused"),
}


@dataclass(frozen=True, slots=True)
class HealthItem:
    """One finding on the page. `others` counts the affected rows besides `names`; `url` is empty if no page is about it."""

    severity: Severity
    what: str
    todo: str
    names: tuple[str, ...]
    others: int
    url: str = ""
    link: str = ""


def health_items() -> list[HealthItem]:
    """Return what an admin should look at, errors first. The number of queries does not depend on the number of rows."""
    return [_item(finding) for finding in findings(Audience.ADMIN)]


def _item(finding: Finding) -> HealthItem:
    names = finding.names[:NAMES]
    others = finding.total - len(names)
    step = _STEPS.get(finding.code)
    if step is None:
        return HealthItem(finding.severity, finding.what, finding.todo, names, others)
    url = reverse(f"dashboard:{step.page}") + step.query
    return HealthItem(finding.severity, finding.what, step.todo, names, others, url, step.link)


def denials() -> list[Entry]:
    """Return the last denied requests."""
    return list(Entry.objects.filter(event=Event.REQUEST_DENIED)[:DENIALS])
