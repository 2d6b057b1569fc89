"""Imports of users as jobs, which go on after the response to the request that started them."""

from typing import Final

from accounts.models import Job, JobKind, Token
from accounts.services import job_worker, jobs
from accounts.services.job_worker import RunningJob
from accounts.services.user_csv import UserRow, read_rows
from accounts.services.user_import import ImportPlan, plan_import, run_plan, steps_of
from accounts.services.user_import_report import ImportReport
from core.errors import Forbidden
from rbac.permissions import Permission
from rbac.principals import Principal
from rbac.services import require

SMALL_ROWS: Final = 200
SMALL_PASSWORDS: Final = 10  # hashing one takes as long as 100 rows


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

    def work(job: RunningJob) -> None:
        confirmed = plan or plan_import(actor=actor, text=text, update=update, progress=job.progress)

        def conclude(report: ImportReport) -> None:
            _require_token(actor)
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


def _require_token(actor: Principal) -> None:
    """Raise Forbidden if the token that started the import was revoked since then: hashing takes minutes."""
    if actor.token_key_id and not Token.objects.filter(key_id=actor.token_key_id, revoked_at=None).exists():
        raise Forbidden("Your token was revoked while the import was running, so nothing was imported.")


def _content(text: str, update: bool) -> str:
    return f"{update}\n{text}"
