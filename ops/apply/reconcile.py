"""Makes roles, routes, group roles and service accounts match a manifest, and returns the differences."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial

from django.db import transaction

from accounts.models import GroupRole
from accounts.services import groups
from accounts.services.prepared import Dependencies, prepare_first
from core import agreement
from core.agreement import asks_first
from core.errors import Invalid, ServiceError
from ops.apply.accounts import AccountSection
from ops.apply.changes import Change, changed
from ops.apply.manifest import Item, Manifest
from rbac import packs, services
from rbac.models import Role, Route
from rbac.packs import RouteSpec
from rbac.principals import Principal


class _Run:
    """The changes that were made, and the errors of those that services refused."""

    def __init__(self, actor: Principal) -> None:
        self.actor = actor
        self.changes: list[Change] = []
        self.errors: list[str] = []

    def make(self, change: Change, line: int | None, write: Callable[[], object]) -> None:
        """Make one change through a service, or record its error with the line of the manifest."""
        try:
            write()
        except ServiceError as error:
            self.fail(change, line, error)
        else:
            self.changes.append(change)

    def fail(self, change: Change, line: int | None, error: ServiceError) -> None:
        """Record the error of a change."""
        prefix = f"line {line}: " if line else "--prune: "
        self.errors.append(f"{prefix}{change.kind} {change.name}: {error.message}")

    def roles(self, items: Iterable[Item]) -> None:
        existing = {role.name: role for role in Role.objects.all()}
        for item in items:
            name, values = item.name, item.values
            if (role := existing.get(name)) is None:
                self.make(
                    Change("add", "role", name, new=values),
                    item.line,
                    partial(services.create_role, actor=self.actor, name=name, **values),
                )
                continue
            before = {"permissions": role.permissions, "description": role.description}
            if change := changed("role", name, before, values):
                self.make(
                    change,
                    item.line,
                    partial(services.update_role, actor=self.actor, name=name, **change.new),
                )

    def routes(self, specs: Sequence[RouteSpec], source: str, line: int) -> None:
        before = [row.spec for row in Route.objects.all()]
        if before == list(specs):
            return
        errors = len(self.errors)
        replacement = Change("change", "routes", source)
        self.make(replacement, line, lambda: services.replace_routes(actor=self.actor, specs=specs, source=source))
        if len(self.errors) == errors:  # each route that differs is shown
            self.changes.remove(replacement)
            self.changes += route_changes(before, specs)

    def group_roles(self, items: Iterable[Item]) -> None:
        existing = {row.group: row for row in GroupRole.objects.select_related("role")}
        for item in items:
            name, values = item.name, item.values
            if (row := existing.get(name)) is None:
                self.make(
                    Change("add", "group role", name, new=values),
                    item.line,
                    partial(groups.create_group_role, actor=self.actor, group=name, **values),
                )
            elif change := changed("group role", name, {"role": row.role.name, "priority": row.priority}, values):
                self.make(
                    change,
                    item.line,
                    partial(groups.update_group_role, actor=self.actor, group=name, **change.new),
                )

    def service_accounts(self, section: AccountSection) -> None:
        """Write the service accounts. After an error everything is rolled back, so nobody is asked then."""
        with agreement.assumed() if self.errors or section.failures else nullcontext():
            self.changes += section.write()
        for failure in section.failures:
            self.fail(*failure)

    def prune(self, manifest: Manifest) -> None:
        """Delete the group roles and then the roles that their sections do not list. Service accounts are deleted before."""
        if manifest.group_roles is not None:
            named = {item.name for item in manifest.group_roles}
            for group in GroupRole.objects.exclude(group__in=named).values_list("group", flat=True):
                self.make(
                    Change("remove", "group role", group),
                    None,
                    partial(groups.delete_group_role, actor=self.actor, group=group),
                )
        if manifest.roles is not None:
            named = {item.name for item in manifest.roles}
            for name in Role.objects.exclude(name__in=named).exclude(builtin=True).values_list("name", flat=True):
                self.make(
                    Change("remove", "role", name),
                    None,
                    partial(services.delete_role, actor=self.actor, name=name),
                )


def apply(*, actor: Principal, manifest: Manifest, prune: bool = False, dry_run: bool = False) -> list[Change]:
    """Make everything match the manifest, in one transaction, and return the differences. A second run changes nothing.

    `prune` also deletes what the sections of the manifest do not list, except built-in roles. Routes are one ordered list, which
    replaces the whole table. A `dry_run` makes the same changes and rolls them back, so it has the same errors. Raises Invalid
    with one line for each error.
    """
    if dry_run:
        with agreement.assumed():
            return _apply(actor, manifest, prune, dry_run)
    return _apply(actor, manifest, prune, dry_run)


@asks_first
def _apply(actor: Principal, manifest: Manifest, prune: bool, dry_run: bool) -> list[Change]:
    has_section = manifest.service_accounts is not None

    def plan() -> tuple[AccountSection, Dependencies]:
        section = AccountSection(actor, manifest.service_accounts or ()).plan(prune=prune and has_section)
        return section, section.dependencies

    def write(accounts: AccountSection) -> list[Change]:
        run = _Run(actor)
        run.roles(manifest.roles or ())
        if run.changes:
            accounts, _ = plan()  # again, with the new roles
        if manifest.routes is not None:
            run.routes(manifest.routes, manifest.routes_source, manifest.routes_line)
        run.group_roles(manifest.group_roles or ())
        run.service_accounts(accounts)
        if prune:
            run.prune(manifest)
        if run.errors:
            raise Invalid("\n".join(run.errors), fields={"detail": run.errors})
        transaction.set_rollback(dry_run)
        return run.changes

    return prepare_first(plan, write)


@transaction.atomic
def load_pack(*, actor: Principal, name: str, if_empty: bool = False) -> list[Change] | None:
    """Replace the route table with a policy pack, and return the differences; None if `if_empty` and there are routes.

    Raises NotFound and Forbidden.
    """
    specs = packs.load(name).routes
    services.lock_policy()
    rows = list(Route.objects.all())
    if if_empty and rows:
        return None
    services.load_pack(actor=actor, name=name, if_match=services.table_tag(rows))
    return route_changes([row.spec for row in rows], specs)


def route_changes(before: Sequence[RouteSpec], after: Sequence[RouteSpec]) -> list[Change]:
    """Return the differences between two ordered lists of routes; a route that moved is removed and added."""
    changes: list[Change] = []
    matcher = difflib.SequenceMatcher(a=before, b=after, autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag != "equal":
            changes += [Change("remove", "route", _line(spec, n)) for n, spec in enumerate(before[i1:i2], i1 + 1)]
            changes += [Change("add", "route", _line(spec, n)) for n, spec in enumerate(after[j1:j2], j1 + 1)]
    return changes


def _line(spec: RouteSpec, position: int) -> str:
    note = f"  ({spec.note})" if spec.note else ""
    return f"#{position} {','.join(spec.methods)} {spec.host}{spec.path} -> {spec.permission}{note}"
