"""The first set-up of an installation, in steps that can be repeated, and that several replicas can run at the same time."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from django.db import DEFAULT_DB_ALIAS, OperationalError, connections, transaction
from django.db.migrations.executor import MigrationExecutor

from accounts.services import users
from audit.events import Event
from audit.models import Entry
from ops import direct_connection
from rbac import services
from rbac.models import Route
from rbac.permissions import ADMIN
from rbac.principals import Principal

_PAUSE_SECONDS: Final = 1.0
_SAY_SECONDS: Final = 5.0
# With one of these in the audit log, an empty route table can be what an admin wants: it denies every request.
_ROUTES_WERE_CHANGED: Final = (
    Event.ROUTE_CREATED,
    Event.ROUTE_DELETED,
    Event.ROUTE_UPDATED,
    Event.ROUTES_REPLACED,
    Event.AUDIT_PRUNED,
)


def wait_for_database(seconds: float, say: Callable[[str], None]) -> None:
    """Return when the database answers. Raises OperationalError if it did not for so long, and for SQLite at once.

    `say` receives why the database does not answer, whenever the reason changes, and every five seconds.
    """
    database = connections[DEFAULT_DB_ALIAS]
    if database.vendor == "sqlite":
        database.ensure_connection()
        return
    start, said_at, said = time.monotonic(), 0.0, ""
    while True:
        try:
            with direct_connection.connect(database) as session:
                session.execute("SELECT 1")
        except OperationalError as error:
            waited = time.monotonic() - start
            if waited >= seconds:
                raise
            reason = reason_of(error)
            if reason != said or waited - said_at >= _SAY_SECONDS:
                said, said_at = reason, waited
                say(f"Waiting for the database, {seconds - waited:.0f} seconds more: {reason}.")
            time.sleep(min(_PAUSE_SECONDS, max(seconds - waited, 0)))
        else:
            return


def reason_of(error: OperationalError) -> str:
    """Return the first line of the database's own words."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def pending_migrations() -> int:
    """Return the number of migrations that are not applied."""
    executor = MigrationExecutor(connections[DEFAULT_DB_ALIAS])
    return len(executor.migration_plan(executor.loader.graph.leaf_nodes()))


@dataclass(frozen=True, slots=True)
class SetUp:
    """Whether the policy pack was loaded and the admin was created, and with which password. None: it was not asked for."""

    pack: bool | None
    admin: bool | None
    routes: int
    password: str = field(default="", repr=False)


@transaction.atomic
def set_up(*, actor: Principal, pack: str | None, admin: str | None, new_password: Callable[[], str]) -> SetUp:
    """Load the policy pack into a route table that was always empty, and create an admin of this name if no admin is active.

    `new_password` is only called for an admin that is created. Raises NotFound, and what it and `create_user` raise.
    """
    services.lock_policy()  # of several replicas, one sets up, and the others find it done
    routes = Route.objects.count()
    load = pack is not None and not routes and not Entry.objects.filter(event__in=_ROUTES_WERE_CHANGED).exists()
    if load:
        routes = len(services.load_pack(actor=actor, name=str(pack)))
    create = admin is not None and not users.active_admins()
    password = ""
    if create:
        password = new_password()
        users.create_user(actor=actor, username=str(admin), password=password, role=ADMIN)
    return SetUp(load if pack is not None else None, create if admin is not None else None, routes, password)
