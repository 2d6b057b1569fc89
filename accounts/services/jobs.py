"""Jobs in the database: start one, find it from any process, and end it once.

Starting one twice with the same key returns the same job (draft-ietf-httpapi-idempotency-key-header). `job_worker` works on them.
"""

from typing import Any, ClassVar, Final

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.crypto import constant_time_compare, salted_hmac

from accounts.models import Job, JobKind, JobState
from core.errors import NotFound, ServiceError
from core.problems import problem
from rbac.permissions import ADMIN
from rbac.principals import Principal

KEEP_DAYS: Final = 7  # after its end; the key of a job can be used again after that
ABANDONED: Final = "The server that ran this job stopped, or lost the database. Nothing was changed. Start it again."


class KeyReused(ServiceError):
    """The idempotency key belongs to a job with another input (HTTP 422)."""

    code: ClassVar[str] = "idempotency-key-reused"
    status: ClassVar[int] = 422


def start_job(*, actor: Principal, kind: JobKind, steps: int, key: str, content: str) -> tuple[Job, bool]:
    """Return the actor's job with this key or, without a key or such a job, a new one; and whether it is new.

    `content` is the input that a key stands for. Raises KeyReused.
    """
    job = Job(
        kind=kind,
        actor_kind=actor.kind,
        actor_pk=actor.pk or 0,  # only users and service accounts have one
        actor_name=actor.name,
        key=key,
        digest=_digests(content)[0] if key else "",
        steps=steps,
        leased_at=Now(),
    )
    try:
        with transaction.atomic():
            job.save(force_insert=True)
    except IntegrityError:
        found = job_of_key(actor=actor, key=key, content=content)
        if found is None:
            raise
        return found, False
    return Job.objects.get(pk=job.pk), True


def job_of_key(*, actor: Principal, key: str, content: str) -> Job | None:
    """Return the job that the actor started with this key, or None. Raises KeyReused if its input was another one."""
    job = _of(actor).filter(key=key).first() if key else None
    if job is None:
        return None
    if not any(constant_time_compare(digest, job.digest) for digest in _digests(content)):
        raise KeyReused("This Idempotency-Key was used with another file or other parameters. Use a new key.")
    return _fresh(job)


def find_job(*, actor: Principal, job_id: str) -> Job:
    """Return a job that the actor started; an admin finds every job. Raises NotFound."""
    jobs = Job.objects.all() if actor.role == ADMIN else _of(actor)
    job = jobs.filter(pk=job_id).first()
    if job is None:
        raise NotFound("There is no such job, or you are not allowed to see it.")
    return _fresh(job)


def latest_jobs(*, actor: Principal, kind: JobKind, number: int) -> list[Job]:
    """Return the latest jobs of this kind that the actor started, without their results."""
    found = _of(actor).filter(kind=kind).defer("result", "problem").order_by("-created_at", "pk")[:number]
    return [_fresh(job) for job in found]


def begin(job_id: str) -> bool:
    """Mark a waiting job as running. Return False if it has ended."""
    return bool(_active(job_id).update(state=JobState.RUNNING, leased_at=Now()))


def renew(job_id: str, done: int, steps: int) -> bool:
    """Renew the lease of an active job, and store its progress. Return False if it has ended."""
    return bool(_active(job_id).update(leased_at=Now(), steps_done=done, steps=steps))


def complete(job_id: str, result: Any) -> bool:
    """Mark an active job as done, in the transaction of its changes. Return False if it has ended: roll back then."""
    job = _active(job_id)
    return bool(job.update(state=JobState.DONE, result=result, steps_done=F("steps"), ended_at=timezone.now()))


def fail(job_id: str, reason: dict[str, Any]) -> bool:
    """Mark an active job as failed, with problem details. Return False if it has ended."""
    return bool(_active(job_id).update(state=JobState.FAILED, problem=reason, ended_at=timezone.now()))


def _of(actor: Principal) -> QuerySet[Job]:
    return Job.objects.filter(actor_kind=actor.kind, actor_pk=actor.pk or 0)


def _active(job_id: str) -> QuerySet[Job]:
    return Job.objects.active().filter(pk=job_id)


def _fresh(job: Job) -> Job:
    """Return the job, marked as failed if its process has ended. Without an update in vain: readers must not wait for writers."""
    if job.is_active and Job.objects.abandoned().filter(pk=job.pk).exists():
        reason = problem(503, "abandoned", ABANDONED)
        Job.objects.abandoned().filter(pk=job.pk).update(state=JobState.FAILED, problem=reason, ended_at=timezone.now())
        job.refresh_from_db()
    return job


def _digests(content: str) -> list[str]:
    """Return the keyed hashes of an input, the present one first. A plain hash would help to guess the passwords in it."""
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return [salted_hmac("accounts.services.jobs", content, secret=key, algorithm="sha256").hexdigest() for key in keys]
