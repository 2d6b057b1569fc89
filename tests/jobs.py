"""Jobs within a test: a test's transaction is invisible to other threads."""

from accounts.services.job_worker import JobWorker, RunningJob


class SameThreadWorker(JobWorker):
    """Runs each job to its end before the response to the request that starts it."""

    def put(self, job: RunningJob) -> None:
        job.run()
