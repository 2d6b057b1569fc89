"""The background flusher calls its function again and again, whatever becomes of a call."""

import threading

import pytest

from core import flusher
from core.flusher import Flusher


class Stopped(BaseException):
    """Ends the thread of a flusher, which runs until its process ends otherwise."""


@pytest.fixture(autouse=True)
def _stopped_threads_are_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)


class Flushes:
    """A flush function that counts its calls, fails at the first one, and ends the thread at the fourth."""

    def __init__(self) -> None:
        self.calls = 0
        self.threads: set[threading.Thread] = set()
        self.finished = threading.Event()

    def __call__(self) -> None:
        self.calls += 1
        self.threads.add(threading.current_thread())
        if self.calls == 1:
            raise RuntimeError("the first flush fails")
        if self.calls == 4:
            self.finished.set()
            raise Stopped


def test_a_flush_that_fails_is_logged_and_followed_by_others(caplog: pytest.LogCaptureFixture) -> None:
    flushes = Flushes()
    Flusher("test-flusher", flushes, 0.001).start()
    assert flushes.finished.wait(10)
    assert [(record.name, record.message) for record in caplog.records] == [("skyauth.flusher", "A flush failed: test-flusher")]


def test_it_runs_in_one_daemon_thread_of_its_name_however_often_it_is_started() -> None:
    flushes = Flushes()
    started = Flusher("test-flusher", flushes, 0.001)
    assert not started.running
    for _ in range(3):
        started.start()
    assert started.running
    assert flushes.finished.wait(10)
    assert [(thread.name, thread.daemon) for thread in flushes.threads] == [("test-flusher", True)]


def test_it_closes_old_database_connections_before_and_after_each_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    finished = threading.Event()

    def flush() -> None:
        order.append("flush")
        if order.count("flush") == 2:
            finished.set()
            raise Stopped

    monkeypatch.setattr(flusher, "close_old_connections", lambda: order.append("close"))
    Flusher("test-flusher", flush, 0.001).start()
    assert finished.wait(10)
    assert order == ["close", "flush", "close", "close", "flush"]
