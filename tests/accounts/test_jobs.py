"""Jobs and their leases: which process ends a job, and what a process that stops does with its own."""

import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, transaction
from django.utils import timezone

from accounts.models import Job, JobKind, JobState, User
from accounts.services import job_worker, jobs
from accounts.services.job_worker import JobStopped, JobWorker, RunningJob
from accounts.services.jobs import KeyReused
from accounts.services.user_import_job import import_of_key
from core.errors import Conflict, NotFound, Unavailable
from tests.factories import UserFactory, principal
from tests.races import at_once


def start(user: User, worker: JobWorker, work: Any, key: str = "", content: str = "") -> Job:
    return worker.start(actor=principal(user), kind=JobKind.USER_IMPORT, steps=10, key=key, content=content, work=work)


def state(job: Job) -> str:
    return str(Job.objects.values_list("state", flat=True).get(pk=job.pk))


def expire(job: Job) -> None:
    Job.objects.filter(pk=job.pk).update(leased_at=timezone.now() - timedelta(minutes=1))


def eventually(job: Job, *states: str) -> str:
    """Wait until the job has one of these states."""
    deadline = time.monotonic() + 20
    while (found := state(job)) not in states:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


@pytest.fixture
def user(separate_connections: None) -> User:
    return UserFactory(username="starter@example.com")


class Steps:
    """Work that begins, and ends when the test says so."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, job: RunningJob) -> None:
        self.begun.set()
        while not self.go.wait(0.02):
            job.progress(5, 10)
        with transaction.atomic():
            UserFactory(username="made@example.com")
            job.complete({})


def test_a_job_runs_after_the_call_that_starts_it(user: User) -> None:
    steps = Steps()
    job = start(user, JobWorker(), steps)
    assert steps.begun.wait(20)
    assert state(job) == "running"
    steps.go.set()
    assert eventually(job, "done", "failed") == "done"
    assert User.objects.filter(username="made@example.com").exists()


def test_the_lease_is_renewed_with_the_progress(user: User) -> None:
    steps = Steps()
    job = start(user, JobWorker(), steps)
    assert steps.begun.wait(20)
    deadline = time.monotonic() + 20
    while Job.objects.get(pk=job.pk).steps_done != 5:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert Job.objects.get(pk=job.pk).leased_at > job.leased_at
    steps.go.set()
    eventually(job, "done")


def test_a_job_without_a_live_process_has_failed_for_every_reader_and_stays_so(user: User) -> None:
    job, _ = jobs.start_job(actor=principal(user), kind=JobKind.USER_IMPORT, steps=1, key="", content="")
    assert jobs.find_job(actor=principal(user), job_id=job.pk).state == JobState.WAITING
    expire(job)
    found = jobs.find_job(actor=principal(user), job_id=job.pk)
    assert (found.state, found.problem["code"], "Nothing was changed." in found.problem["detail"]) == (
        "failed",
        "abandoned",
        True,
    )
    assert not jobs.complete(job.pk, {})
    assert not jobs.renew(job.pk, 1, 1)


def test_a_process_that_lost_its_lease_writes_nothing(user: User) -> None:
    """A process that was suspended for longer than its lease wakes up and goes on."""
    job, _ = jobs.start_job(actor=principal(user), kind=JobKind.USER_IMPORT, steps=1, key="", content="")

    def work(running: RunningJob) -> None:
        expire(job)
        assert jobs.find_job(actor=principal(user), job_id=job.pk).state == JobState.FAILED
        with transaction.atomic():
            UserFactory(username="made@example.com")
            running.complete({})

    RunningJob(job, work).run()
    assert state(job) == "failed"
    assert not User.objects.filter(username="made@example.com").exists()


def test_an_expired_lease_that_nobody_has_noticed_is_no_failure(user: User) -> None:
    job, _ = jobs.start_job(actor=principal(user), kind=JobKind.USER_IMPORT, steps=1, key="", content="")
    expire(job)
    RunningJob(job, lambda running: running.complete({})).run()
    assert state(job) == "done"


@pytest.mark.parametrize(
    ("raised", "code"), [(Conflict("Taken."), "conflict"), (RuntimeError("a bug"), "internal"), (JobStopped(), None)]
)
def test_work_that_raises_fails_its_job(user: User, raised: Exception, code: str | None) -> None:
    job, _ = jobs.start_job(actor=principal(user), kind=JobKind.USER_IMPORT, steps=1, key="", content="")

    def work(running: RunningJob) -> None:
        raise raised

    RunningJob(job, work).run()
    job.refresh_from_db()
    assert (job.problem or {}).get("code") == code


def test_promise_42_the_text_of_an_unexpected_error_is_not_in_the_log(user: User, caplog: pytest.LogCaptureFixture) -> None:
    job, _ = jobs.start_job(actor=principal(user), kind=JobKind.USER_IMPORT, steps=1, key="", content="")

    quoted = "Failing row contains (ann, hunter2)."  # as PostgreSQL does; the traceback has source lines

    def work(running: RunningJob) -> None:
        raise IntegrityError(quoted)

    RunningJob(job, work).run()
    assert "IntegrityError" in caplog.text
    assert "hunter2" not in caplog.text
    job.refresh_from_db()
    assert "hunter2" not in str(job.problem)


def test_two_requests_with_one_key_at_the_same_time_start_one_job(user: User) -> None:
    worker, ran = JobWorker(), []

    def work(running: RunningJob) -> None:
        ran.append(running.job_id)
        running.complete({})

    found = at_once(*[lambda: start(user, worker, work, key="k", content="x") for _ in range(6)])
    assert len({job.pk for job in found}) == 1, found
    eventually(found[0], "done")
    assert ran == [found[0].pk]


def test_a_worker_that_stops_lets_the_running_job_end(user: User) -> None:
    worker, steps = JobWorker(), Steps()
    running = start(user, worker, steps)
    assert steps.begun.wait(20)
    waiting = start(user, worker, Steps())
    threading.Timer(0.3, steps.go.set).start()
    worker.stop()
    assert (state(running), state(waiting)) == ("done", "failed")
    with pytest.raises(Unavailable):
        start(user, worker, Steps())


def test_a_worker_that_stops_fails_a_job_that_takes_too_long(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_worker, "STOP_SECONDS", 0.1)
    worker, steps = JobWorker(), Steps()
    job = start(user, worker, steps)
    assert steps.begun.wait(20)
    worker.stop()
    steps.go.set()
    assert state(job) == "failed"
    assert Job.objects.get(pk=job.pk).problem["code"] == "stopped"
    time.sleep(0.2)
    assert not User.objects.filter(username="made@example.com").exists()


def test_a_process_has_a_limit_of_jobs(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_worker, "_MAX_JOBS", 1)
    worker, steps = JobWorker(), Steps()
    first = start(user, worker, steps)
    assert steps.begun.wait(20)
    second = start(user, worker, steps)
    with pytest.raises(Unavailable):
        start(user, worker, steps)
    worker.stop()
    assert {eventually(first, "done", "failed"), state(second)} == {"failed"}


def test_only_the_starter_and_admins_find_a_job(user: User, alice: User) -> None:
    job, _ = jobs.start_job(actor=principal(user), kind=JobKind.USER_IMPORT, steps=1, key="", content="")
    assert jobs.find_job(actor=principal(alice), job_id=job.pk).pk == job.pk
    with pytest.raises(NotFound):
        jobs.find_job(actor=principal(UserFactory(username="other@example.com")), job_id=job.pk)


def test_work_that_loses_the_database_fails_its_job(user: User) -> None:
    job, _ = jobs.start_job(actor=principal(user), kind=JobKind.USER_IMPORT, steps=1, key="", content="")

    def work(running: RunningJob) -> None:
        raise OperationalError("the connection is closed")

    RunningJob(job, work).run()
    job.refresh_from_db()
    assert (job.state, job.problem["code"]) == ("failed", "unavailable")


def test_a_worker_goes_on_after_a_job_whose_failure_cannot_be_stored(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, fail, failures = JobWorker(), jobs.fail, iter([OperationalError("lost"), RuntimeError("a bug")])

    def lost(*arguments: Any) -> bool:
        if (error := next(failures, None)) is not None:
            raise error
        return fail(*arguments)

    monkeypatch.setattr(jobs, "fail", lost)

    def work(running: RunningJob) -> None:
        raise Conflict("Taken.")

    ends = [start(user, worker, work) for _ in range(3)]
    assert eventually(ends[2], "failed") == "failed"
    assert [state(job) for job in ends[:2]] == ["running", "running"], "their leases expire"


def test_leases_are_renewed_again_after_an_error(user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    renew, failures = jobs.renew, iter([OperationalError("lost"), RuntimeError("a bug")])

    def lost(*arguments: Any) -> bool:
        if (error := next(failures, None)) is not None:
            raise error
        return renew(*arguments)

    monkeypatch.setattr(job_worker, "_BEAT", 0.01)
    monkeypatch.setattr(jobs, "renew", lost)
    steps = Steps()
    job = start(user, JobWorker(), steps)
    deadline = time.monotonic() + 20
    while Job.objects.get(pk=job.pk).steps_done != 5:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    steps.go.set()
    assert eventually(job, "done") == "done"


def test_a_key_that_another_process_has_just_used_leads_to_its_job(user: User) -> None:
    again = {"actor": principal(user), "kind": JobKind.USER_IMPORT, "steps": 1, "key": "k"}
    first, is_new = jobs.start_job(**again, content="x")
    found, is_new_again = jobs.start_job(**again, content="x")
    assert (found.pk, is_new, is_new_again) == (first.pk, True, False)
    with pytest.raises(KeyReused):
        jobs.start_job(**again, content="y")
    with pytest.raises(KeyReused):
        import_of_key(actor=principal(user), text="y", update=False, key="k")


def test_the_latest_jobs_are_those_of_the_starter_the_newest_first(user: User, alice: User) -> None:
    started = [
        jobs.start_job(actor=principal(who), kind=JobKind.USER_IMPORT, steps=1, key="", content="")[0]
        for who in (user, user, alice, user)
    ]
    expire(started[3])
    found = jobs.latest_jobs(actor=principal(user), kind=JobKind.USER_IMPORT, number=2)
    assert [(job.pk, str(job.state)) for job in found] == [(started[3].pk, "failed"), (started[1].pk, "waiting")]
    assert str(found[1]) == "import of users by starter@example.com: waiting"
