"""Imports of users as jobs, on running servers: the response comes at once, and a job ends once, whatever ends its process."""

import re
import signal
import sys
import time
from collections.abc import Iterator
from http.cookies import SimpleCookie
from typing import Any

import pytest

from tests.http_client import Headers, Reply, ask, bearer, session_key
from tests.servers import SECRET_KEY, SkyAuth, postgres, replica, skyauth_server, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("jobs")]

IMPORT = "/skyauth/users/import"
ROWS = 10_000
PERMISSIONS = ["users:read", "users:write", "upstream:read", "roles:read", "password:own"]  # those of a viewer, and users:write
PASSWORD = "correct horse battery staple"


@pytest.fixture(scope="module")
def server() -> Iterator[SkyAuth]:
    with skyauth_server() as server:
        for name in ("robot", "stranger"):
            server.console(
                "ensure_role",
                name="importer",
                permissions=["users:read", "users:write", "upstream:read", "roles:read", "password:own"],
            )
            server.console("create_account", name=name, role="importer")
        server.console("create_account", name="admin-robot", role="admin")
        yield server


@pytest.fixture(scope="module")
def robot(server: SkyAuth) -> tuple[str, bytes]:
    return bearer(server.console("issue", account="robot"))


def people(name: str, number: int, passwords: int = 0) -> bytes:
    """Return a file with so many users, of whom the last ones have passwords."""
    words = [""] * (number - passwords) + [PASSWORD] * passwords
    return ("username,role,password\n" + "".join(f"{name}{n}@x.example,viewer,{word}\n" for n, word in enumerate(words))).encode()


def post(server: SkyAuth, file: bytes, *headers: tuple[str, str | bytes]) -> Reply:
    return ask(server.port, "/api/v1/users/import", [("Content-Type", "text/csv"), *headers], method="POST", body=file)


def get(server: SkyAuth, path: str | None, *headers: tuple[str, str | bytes]) -> Any:
    assert path is not None
    reply = ask(server.port, path, headers)
    assert reply.status == 200, reply
    return reply.json


def watch(server: SkyAuth, path: str | None, *headers: tuple[str, str | bytes], seconds: float = 120) -> list[dict[str, Any]]:
    """Ask for a job until it has ended; return what each answer said."""
    seen: list[dict[str, Any]] = []

    def ended() -> bool:
        seen.append(get(server, path, *headers))
        return seen[-1]["state"] in {"done", "failed"}

    wait_until(ended, "the job ends", seconds)
    return seen


def number_of(server: SkyAuth, name: str, headers: Headers) -> int:
    """Return how many users have names that begin so."""
    return int(get(server, f"/api/v1/users?page_size=1&search={name}", *headers)["count"])


def working(server: SkyAuth, path: str | None, *headers: tuple[str, str | bytes]) -> None:
    """Wait until a job has begun and stored its progress."""

    def progressed() -> bool:
        job = get(server, path, *headers)
        assert job["state"] in {"waiting", "running"}, job
        return bool(job["steps_done"])

    wait_until(progressed, "the job makes progress", 60)


class Browser:
    """A browser without JavaScript in which a user is signed in, on the page that imports users."""

    def __init__(self, server: SkyAuth, key: str) -> None:
        self._port = server.port
        self._cookie = f"skyauth={key}"
        page = self.get(IMPORT)
        self._csrf = self.field(page, "csrfmiddlewaretoken")
        self._cookie += f"; skyauth-csrf={SimpleCookie(page.header('Set-Cookie'))['skyauth-csrf'].value}"

    @staticmethod
    def field(page: Reply, name: str) -> str:
        """Return the value of a hidden field."""
        found = re.search(rf'name="{name}" value="(\w+)"', page.body.decode())
        assert found is not None, name
        return found[1]

    def get(self, path: str | None) -> Reply:
        assert path is not None
        reply = ask(self._port, path, [("Cookie", self._cookie)])
        assert reply.status == 200, reply
        return reply

    def post(self, **values: str) -> Reply:
        """Send the form, as multipart/form-data like a form with a file."""
        fields = {"csrfmiddlewaretoken": self._csrf, **values}
        parts = [f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()]
        headers = [("Cookie", self._cookie), ("Content-Type", "multipart/form-data; boundary=x")]
        return ask(self._port, IMPORT, headers, method="POST", body="".join([*parts, "--x--\r\n"]).encode())


def test_ten_thousand_users_are_imported_while_the_job_is_watched_and_decisions_go_on(
    server: SkyAuth, robot: tuple[str, bytes]
) -> None:
    with replica(server) as other:
        start = time.monotonic()
        accepted = post(server, people("many", ROWS, passwords=250), robot, ("Idempotency-Key", '"many-1"'))
        taken = time.monotonic() - start
        assert (accepted.status, accepted.json["state"] in {"waiting", "running"}) == (202, True), accepted
        path = accepted.header("Location")
        assert path == f"/api/v1/jobs/{accepted.json['id']}"
        decisions = []
        seen = []

        def ended() -> bool:
            decisions.append(server.ask(robot).status)
            seen.append(get(other, path, robot))
            return seen[-1]["state"] == "done"

        wait_until(ended, "the job ends", 120)
        assert set(decisions) == {200}
        assert len({job["steps_done"] for job in seen}) > 2, "progress is shown"
        assert [job["steps_done"] for job in seen] == sorted(job["steps_done"] for job in seen)
        assert seen[-1]["steps_done"] == seen[-1]["steps"] == 2 * ROWS + 250
        assert (seen[-1]["result"]["applied"], len(seen[-1]["result"]["created"])) == (True, ROWS)
        assert number_of(server, "many", [robot]) == ROWS
        for any_server in (server, other):  # a retry
            again = post(any_server, people("many", ROWS, passwords=250), robot, ("Idempotency-Key", '"many-1"'))
            assert (again.status, again.json) == (202, seen[-1])
        sys.stdout.write(f"202 after {taken:.2f} s, {len(decisions)} decisions in {time.monotonic() - start:.1f} s\n")


def test_a_retry_while_the_job_runs_starts_nothing_and_another_file_is_an_error(
    server: SkyAuth, robot: tuple[str, bytes]
) -> None:
    file, key = people("twice", 300, passwords=200), ("Idempotency-Key", "a-key-without-quotes")
    jobs = [post(server, file, robot, key) for _ in range(3)]
    assert [reply.status for reply in jobs] == [202] * 3
    assert len({reply.json["id"] for reply in jobs}) == 1
    other = post(server, people("other", 300), robot, key)
    assert (other.status, other.json["code"]) == (422, "idempotency-key-reused")
    assert watch(server, jobs[0].header("Location"), robot)[-1]["state"] == "done"
    assert number_of(server, "twice", [robot]) == 300
    assert number_of(server, "other", [robot]) == 0


def test_nobody_but_who_started_it_and_admins_find_a_job(server: SkyAuth, robot: tuple[str, bytes]) -> None:
    path = post(server, people("mine", 1), robot, ("Prefer", "respond-async")).header("Location")
    assert path is not None
    watch(server, path, robot)
    stranger, admin = (bearer(server.console("issue", account=name)) for name in ("stranger", "admin-robot"))
    assert ask(server.port, path, [stranger]).status == 404
    assert get(server, path, admin)["created_by"] == "robot"


def test_a_token_that_is_revoked_while_its_job_runs_imports_nobody(server: SkyAuth) -> None:
    token = server.console("issue", account="robot")
    path = post(server, people("stolen", 300, passwords=200), bearer(token)).header("Location")
    server.console("revoke", token=token)
    robot = bearer(server.console("issue", account="robot"))
    job = watch(server, path, robot)[-1]
    assert (job["state"], job["problem"]["status"]) == ("failed", 403)
    assert "Your token was revoked" in job["problem"]["detail"]
    assert number_of(server, "stolen", [robot]) == 0


def test_a_job_whose_process_is_killed_has_failed_and_changed_nobody(server: SkyAuth, robot: tuple[str, bytes]) -> None:
    before = get(server, "/api/v1/audit-events?page_size=1", admin := bearer(server.console("issue", account="admin-robot")))
    path = post(server, people("killed", ROWS, passwords=4_000), robot).header("Location")
    working(server, path, robot)
    server.stop(signal.SIGKILL)
    server.start()
    seen = watch(server, path, robot)
    assert (seen[-1]["state"], seen[-1]["result"], seen[-1]["problem"]["code"]) == ("failed", None, "abandoned")
    assert "Nothing was changed." in seen[-1]["problem"]["detail"]
    assert number_of(server, "killed", [robot]) == 0
    assert get(server, "/api/v1/audit-events?page_size=1", admin)["count"] == before["count"]


@pytest.mark.postgres
def test_a_database_that_is_lost_while_passwords_are_hashed_does_not_fail_the_job() -> None:
    with postgres() as cluster, skyauth_server(DATABASE_URL=cluster.url, SECRET_KEY=SECRET_KEY) as server:
        server.console("create_account", name="robot", role="admin")
        robot = bearer(server.console("issue", account="robot"))
        path = post(server, people("outage", 300, passwords=300), robot).header("Location")
        working(server, path, robot)
        cluster.stop()
        cluster.start()
        wait_until(lambda: ask(server.port, path or "", [robot]).status == 200, "the database is found again")
        assert watch(server, path, robot)[-1]["state"] == "done"
        assert number_of(server, "outage", [robot]) == 300


def test_a_job_that_ends_soon_is_completed_before_the_server_stops(server: SkyAuth, robot: tuple[str, bytes]) -> None:
    path = post(server, people("soon", 1_000), robot).header("Location")
    server.stop()
    server.start()
    assert get(server, path, robot)["state"] == "done"
    assert number_of(server, "soon", [robot]) == 1_000


def test_jobs_that_take_longer_fail_before_the_server_stops_and_change_nobody(server: SkyAuth, robot: tuple[str, bytes]) -> None:
    paths = [post(server, people(f"long{n}", 4_000, passwords=4_000), robot).header("Location") for n in range(2)]
    working(server, paths[0], robot)
    server.stop()
    assert server.programs[-1].process.returncode == 0
    assert "Traceback" not in server.log
    server.start()
    for path in paths:
        job = get(server, path, robot)
        assert (job["state"], job["problem"]["code"]) == ("failed", "stopped")
    assert number_of(server, "long", [robot]) == 0


def test_an_import_in_the_dashboard_goes_on_without_its_page_and_a_second_click_starts_nothing(server: SkyAuth) -> None:
    server.console("create_user", name="boss@example.com", role="admin", password=PASSWORD)
    browser = Browser(server, session_key(server.port, "boss@example.com", PASSWORD))
    text = people("clicked", ROWS, passwords=100).decode()
    previewed = browser.post(text=text)
    assert b"10,000 users would be created, 100 with a password." in previewed.body
    form = {name: browser.field(previewed, name) for name in ("seen", "attempt")}
    clicks = [browser.post(text=text, **form) for _ in range(2)]  # nobody loads the page to which they redirect
    assert [click.status for click in clicks] == [302, 302]
    path = clicks[0].header("Location")
    assert path == clicks[1].header("Location")
    assert b'http-equiv="refresh"' in browser.get(path).body
    assert path in browser.get(IMPORT).body.decode()
    wait_until(lambda: b"Import complete: 10,000 users created." in browser.get(path).body, "the import is complete", 120)
    assert b'http-equiv="refresh"' not in browser.get(path).body
    assert number_of(server, "clicked", [bearer(server.console("issue", account="robot"))]) == ROWS
