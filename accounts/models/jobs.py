"""Jobs: work that a request starts and that goes on after its response."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any, Final

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

LEASE: Final = timedelta(seconds=20)  # a process renews it every second


class JobKind(models.TextChoices):
    """What a job does."""

    USER_IMPORT = "user-import", "import of users"


class JobState(models.TextChoices):
    """How far a job is."""

    WAITING = "waiting", "waiting"
    RUNNING = "running", "running"
    DONE = "done", "done"
    FAILED = "failed", "failed"


ACTIVE: Final = (JobState.WAITING, JobState.RUNNING)


class JobQuerySet(models.QuerySet["Job"]):
    """Jobs by their state. The time is that of the database, because the clocks of several processes differ."""

    def active(self) -> JobQuerySet:
        """Return the jobs that have not ended."""
        return self.filter(state__in=ACTIVE)

    def abandoned(self) -> JobQuerySet:
        """Return the active jobs whose process no longer renews the lease."""
        return self.active().filter(leased_at__lt=Now() - LEASE)

    def ended_before(self, days: int) -> JobQuerySet:
        """Return the jobs that ended, or were abandoned, more than so many days ago."""
        before = timezone.now() - timedelta(days=days)
        return self.filter(Q(ended_at__lt=before) | Q(state__in=ACTIVE, leased_at__lt=before))


def new_job_id() -> str:
    """Return a random id."""
    return secrets.token_hex(8)


class Job(models.Model):
    """A job, and its result for `manage.py prune` to delete later. `accounts.services.jobs` is the only writer.

    The process that works on it has its input in memory; a row never has a password. That process renews its lease, `leased_at`.
    The next process that finds the lease expired marks the job as failed. Then the process cannot complete it any more.
    """

    id = models.CharField(max_length=16, primary_key=True, default=new_job_id, editable=False)
    kind = models.CharField(max_length=16, choices=JobKind)
    state = models.CharField(max_length=8, choices=JobState, default=JobState.WAITING)
    # Who started it. Primary keys are not used again, while a user who is created again has the same id.
    actor_kind = models.CharField(max_length=16)
    actor_pk = models.BigIntegerField()
    actor_name = models.CharField(max_length=320)
    key = models.CharField(max_length=255, blank=True, default="")
    digest = models.CharField(max_length=64, blank=True, default="", help_text="A keyed hash of the input, to compare retries.")
    steps = models.PositiveIntegerField(default=0)
    steps_done = models.PositiveIntegerField(default=0)
    result: models.JSONField[Any, Any] = models.JSONField(null=True, blank=True)
    problem: models.JSONField[Any, Any] = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    ended_at = models.DateTimeField(null=True, blank=True, editable=False, db_index=True)
    leased_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = JobQuerySet.as_manager()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("actor_kind", "actor_pk", "key"), condition=~Q(key=""), name="job_key_is_used_once"),
            models.CheckConstraint(condition=Q(state__in=JobState.values), name="job_state_is_known"),
            models.CheckConstraint(
                condition=Q(state__in=ACTIVE, ended_at=None) | Q(ended_at__isnull=False, state__in=("done", "failed")),
                name="job_ends_once",
            ),
        )

    def __str__(self) -> str:
        return f"{self.get_kind_display()} by {self.actor_name}: {self.state}"

    @property
    def is_active(self) -> bool:
        """Whether the job has not ended."""
        return self.state in ACTIVE
