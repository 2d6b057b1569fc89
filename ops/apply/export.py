"""Writes what is stored as a manifest that `apply` reads: on an empty installation it makes the same, and then no difference."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import yaml
from django.db import transaction

from accounts.models import GroupRole, ServiceAccount
from ops.apply.manifest import SECTIONS
from rbac.models import Role, Route
from rbac.permissions import ADMIN, EVERYTHING
from rbac.services import lock_policy

_HEADER: Final = """\
# Roles, routes, group roles and service accounts, written by: manage.py export
# To make an installation match this file: manage.py apply FILE --preview, then without --preview.
# It contains no users, no tokens and not the role admin, which cannot be changed.
"""
_OWNERS: Final = "# These users own service accounts, and must exist before the file is applied: {}\n"
_LINE: Final = 4_096  # characters: texts are not folded


@dataclass(frozen=True, slots=True)
class Export:
    """The sections of a manifest, and the users who must exist before it is applied."""

    values: dict[str, list[dict[str, Any]]]
    owners: tuple[str, ...]

    def as_yaml(self) -> str:
        owners = _OWNERS.format(", ".join(self.owners)) if self.owners else ""
        text = yaml.dump(self.values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_LINE)
        return f"{_HEADER}{owners}\n{text}"

    def as_json(self) -> str:
        """Return JSON, which is YAML too."""
        return json.dumps(self.values, indent=2, ensure_ascii=False) + "\n"


def read(sections: Collection[str] = SECTIONS, *, only_unowned: bool = False) -> Export:
    """Return what is stored in these sections, as of one moment; `only_unowned` leaves out service accounts with an owner."""
    values: dict[str, list[dict[str, Any]]] = {}
    owners: set[str] = set()
    with transaction.atomic():
        lock_policy()  # so that no change comes between the sections
        if "roles" in sections:
            values["roles"] = [_role(row) for row in Role.objects.exclude(name=ADMIN)]
        if "routes" in sections:
            values["routes"] = [_route(row) for row in Route.objects.all()]
        if "group_roles" in sections:
            rows = GroupRole.objects.select_related("role")
            values["group_roles"] = [{"group": row.group, "role": row.role.name, "priority": row.priority} for row in rows]
        if "service_accounts" in sections:
            accounts = ServiceAccount.objects.select_related("role", "owner")
            accounts = accounts.filter(owner=None) if only_unowned else accounts
            values["service_accounts"] = [_service_account(row) for row in accounts]
            owners = {row.owner.username for row in accounts if row.owner}
    return Export(values, tuple(sorted(owners)))


def _role(row: Role) -> dict[str, Any]:
    # A name that no permission has any more gives nothing, and `apply` refuses it.
    permissions = sorted(EVERYTHING & set(row.permissions))
    return {"name": row.name, "description": row.description, "permissions": permissions}


def _route(row: Route) -> dict[str, Any]:
    values: dict[str, Any] = {"path": row.path, "methods": list(row.methods), "permission": row.permission}
    return values | {key: value for key, value in (("host", row.host), ("note", row.note)) if value}


def _service_account(row: ServiceAccount) -> dict[str, Any]:
    return {
        "name": row.name,
        "role": row.role.name,
        "description": row.description,
        "owner": row.owner.username if row.owner else None,
        "active": row.is_active,
    }


class _Dumper(yaml.SafeDumper):
    """Writes lists of methods on one line, and indents the items of other lists."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - PyYAML's signature
        super().increase_indent(flow, False)

    def represent_values(self, data: list[Any]) -> yaml.Node:
        flow = all(isinstance(value, str) and ":" not in value for value in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flow)


_Dumper.add_representer(list, _Dumper.represent_values)
