"""The server's processes: how they stop, restart and end together, and what reaches them over which socket."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.http_client import HOST, answers, ask, bearer, question
from tests.load import get, load
from tests.servers import SkyAuth, listens, skyauth_server, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("processes"), pytest.mark.sqlite]

TARGET = (("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", HOST), ("X-Forwarded-Uri", "/"))


@pytest.fixture(scope="module")
def server() -> Iterator[SkyAuth]:
    """A server that each test starts with its own options."""
    with skyauth_server() as server:
        server.stop()
        yield server


@pytest.fixture(scope="module")
def token(server: SkyAuth) -> tuple[str, bytes]:
    server.console("create_account", name="pipeline", role="viewer")
    return bearer(server.console("issue", account="pipeline"))


def children(parent: int) -> set[int]:
    """Return the processes whose parent this is."""
    return {int(word) for word in Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii").split()}


def alive(processes: set[int]) -> set[int]:
    """Return those that run; one that has ended and is not reaped does not."""
    found = set()
    for process in processes:
        with suppress(OSError):
            if Path(f"/proc/{process}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z":
                found.add(process)
    return found


def stop(server: SkyAuth, number: signal.Signals = signal.SIGTERM) -> None:
    server.programs[-1].process.send_signal(number)


def test_workers_end_with_a_parent_that_is_killed(server: SkyAuth) -> None:
    server.start(workers=2)
    parent = server.programs[-1].process
    workers = children(parent.pid)
    assert len(workers) >= 2
    parent.kill()
    parent.wait()
    wait_until(lambda: not alive(workers), "the workers end", 5)
    assert not listens(server.port)


@pytest.mark.long
def test_workers_that_start_slowly_are_not_killed(server: SkyAuth, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time\n\ntime.sleep(7)\n", "utf-8")  # a busy machine
    slow = SkyAuth(server.port, server.data, {**server.environment, "PYTHONPATH": str(tmp_path)}, server.console)
    slow.start(workers=2)
    try:
        assert "ended unexpectedly" not in slow.log
        assert ask(server.port, "/healthz").status == 200
    finally:
        slow.stop()


def test_a_stopping_server_says_so_and_still_answers_until_proxies_have_left(server: SkyAuth, token: tuple[str, bytes]) -> None:
    server.start(drain=3)
    with socket.create_connection((HOST, server.port), timeout=30) as kept:
        kept.sendall(question(token))
        assert answers(kept, ["GET"])[0].header("Connection") is None
        stop(server)
        wait_until(lambda: ask(server.port, "/readyz").status == 503, "not ready", 2)
        assert ask(server.port, "/readyz").json["code"] == "stopping"
        assert ask(server.port, "/healthz").status == 200
        assert server.ask(token).status == 200
        kept.sendall(question(token))
        reply = answers(kept, ["GET"])[0]
        assert (reply.status, reply.header("Connection")) == (200, "close")
        assert kept.recv(1) == b""
    with socket.create_connection((HOST, server.port), timeout=30) as kept:
        kept.sendall(question(target="/sign-in"))
        assert answers(kept, ["GET"])[0].header("Connection") == "close"
    assert server.programs[-1].process.wait(10) == 0
    assert not listens(server.port)


def test_a_connection_that_was_just_accepted_gets_its_answer(server: SkyAuth, token: tuple[str, bytes]) -> None:
    server.start()
    with socket.create_connection((HOST, server.port), timeout=30) as new:
        ask(server.port, "/healthz")  # by now the other one is accepted
        stop(server)
        time.sleep(0.5)
        new.sendall(question(token))
        assert answers(new, ["GET"])[0].status == 200
    assert server.programs[-1].process.wait(10) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_a_second_signal_do_not_drain(server: SkyAuth, number: signal.Signals) -> None:
    server.start(drain=60)
    stop(server, number)
    if number == signal.SIGTERM:
        time.sleep(1)
        assert ask(server.port, "/healthz").status == 200
        stop(server)
    assert server.programs[-1].process.wait(5) == 0


def test_a_hang_up_harms_a_single_worker_in_no_way(server: SkyAuth, token: tuple[str, bytes]) -> None:
    server.start()
    stop(server, signal.SIGHUP)
    wait_until(lambda: "SIGHUP: only the TLS certificate is read again." in server.log, "the signal is logged")
    assert server.ask(token).status == 200
    server.stop()


@pytest.mark.long
@pytest.mark.parametrize("keep", [True, False], ids=["kept", "new"])
def test_a_hang_up_replaces_several_workers_without_losing_a_request(
    server: SkyAuth, token: tuple[str, bytes], keep: bool
) -> None:
    server.start(workers=2, drain=3)
    parent = server.programs[-1].process
    before = children(parent.pid)
    with load(server.port, get("/authz/verify", *TARGET, token), keep=keep) as clients:
        wait_until(lambda: clients.seen["200"] > 50, "requests pass")
        restarts = server.log.count("All workers are replaced.")
        parent.send_signal(signal.SIGHUP)
        wait_until(lambda: server.log.count("All workers are replaced.") > restarts, "the workers are replaced", 90)
        seen = clients.seen["200"]
        wait_until(lambda: clients.seen["200"] > seen + 50, "requests pass")
    assert not clients.failed
    assert len(children(parent.pid) - before) == 2
    stop(server)
    assert parent.wait(20) == 0


def test_a_stop_signal_is_not_delayed_by_a_hang_up(server: SkyAuth) -> None:
    server.start(workers=2, drain=1)
    parent = server.programs[-1].process
    workers = children(parent.pid)
    parent.send_signal(signal.SIGHUP)
    time.sleep(0.7)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(15) == 0
    wait_until(lambda: not alive(workers), "the workers end", 5)
    assert not listens(server.port)


def test_a_worker_that_ends_is_replaced(server: SkyAuth, token: tuple[str, bytes]) -> None:
    server.start(workers=2)
    parent = server.programs[-1].process
    wait_until(lambda: server.log.count("Application startup complete") >= 2, "both serve")
    victim = max(children(parent.pid))
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: f"Worker {victim} ended unexpectedly and is replaced." in server.log, "the parent sees it")
    assert server.ask(token).status == 200
    server.stop()


def test_the_ipv6_address_of_everything_includes_ipv4(server: SkyAuth, token: tuple[str, bytes]) -> None:
    server.start("--host", "::")
    assert server.ask(token).status == 200
    with socket.create_connection(("::1", server.port), timeout=30) as connection:
        connection.sendall(question(token))
        assert answers(connection, ["GET"])[0].status == 403  # ::1 is not a trusted proxy
    server.stop()
