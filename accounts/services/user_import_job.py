"""Imports of users as jobs, which go on after the response to the request that started them."""

from typing import Any, Final

from django.db.models import QuerySet

from accounts.models import Job, JobKind, Session, Token, User
from accounts.services import job_worker, jobs
from accounts.services.job_worker import RunningJob
from accounts.services.user_csv import UserRow, read_rows
from accounts.services.user_import import ImportPlan, plan_import, run_plan, steps_of
from accounts.services.user_import_report import ImportReport
from core.errors import Forbidden
from rbac.permissions import Permission
from rbac.principals import Method, Principal
from rbac.services import require

SMALL_ROWS: Final = 200
SMALL_PASSWORDS: Final = 10  # hashing one takes as long as 100 rows
_LOST: Final = {
    Method.BEARER: "Your token was revoked",
    Method.SESSION: "Your session ended",
    Method.CLI: "Your session ended",
    Method.BASIC: "Your password was changed",
}


def is_small(rows: tuple[UserRow, ...]) -> bool:
    """Return whether an import of these rows takes less than a second, so that a request can wait for it."""
    return len(rows) <= SMALL_ROWS and sum(bool(row.password) for row in rows) <= SMALL_PASSWORDS


def start_import(*, actor: Principal, text: str, update: bool = False, key: str = "", plan: ImportPlan | None = None) -> Job:
    """Return the job that imports a CSV text, or the one that the actor started with the same key and text before.

    `plan` is what the actor has confirmed, if a preview was shown: the job fails if it would do something else. The result of the
    job is `ImportReport.as_json`, and its problem for invalid lines `as_problem`. The text, which can have passwords, stays in
    memory. Raises Forbidden, Invalid for an unreadable file, KeyReused and Unavailable.
    """
    require(actor, Permission.USERS_WRITE)
    if update:
        require(actor, Permission.USERS_READ)
    rows = read_rows(text).rows if plan is None else plan.rows
    credential = _credential(actor)

    def work(job: RunningJob) -> None:
        confirmed = plan or plan_import(actor=actor, text=text, update=update, progress=job.progress)

        def conclude(report: ImportReport) -> None:
            if not credential or _credential(actor) != credential:
                what = _LOST.get(actor.method, "Your user was deleted")
                raise Forbidden(f"{what} while the import was running, so nothing was imported.")
            job.complete(report.as_json())

        report = run_plan(actor=actor, plan=confirmed, progress=job.progress, conclude=conclude)
        if not report.applied:
            job.fail(report.as_problem())

    return job_worker.worker.start(
        actor=actor, kind=JobKind.USER_IMPORT, steps=steps_of(rows), key=key, content=_content(text, update), work=work
    )


def import_of_key(*, actor: Principal, text: str, update: bool, key: str) -> Job | None:
    """Return the job that the actor started with this key, or None. Raises KeyReused if it was for something else."""
    return jobs.job_of_key(actor=actor, key=key, content=_content(text, update))


def _credential(actor: Principal) -> tuple[Any, ...]:
    """Return what is stored of the credential that started an import, which can be revoked while passwords are hashed, or ()."""
    stored: QuerySet[Any, tuple[Any, ...]]
    match actor.method:
        case Method.BEARER:
            stored = Token.objects.filter(key_id=actor.token_key_id, revoked_at=None).values_list("pk")
        case Method.SESSION | Method.CLI:
            stored = Session.objects.filter(pk=actor.session_digest).values_list("user")
        case Method.BASIC:
            stored = User.objects.filter(pk=actor.pk or 0).values_list("pk", "password")
        case _:
            stored = User.objects.filter(pk=actor.pk or 0).values_list("pk")
    return tuple(stored)


def _content(text: str, update: bool) -> str:
    return f"{update}\n{text}"
