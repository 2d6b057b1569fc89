"""scripts/run.py, the launcher of `make run`: what it starts and prints, its errors, and that it leaves no processes behind."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.http_client import HOST, Reply, ask, basic, bearer
from tests.servers import (
    ROOT,
    Console,
    Launch,
    database,
    directory,
    environment,
    free_port,
    launch,
    launched,
    listens,
    wait_until,
)

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("make run"), pytest.mark.sqlite]


@pytest.fixture
def place() -> Iterator[tuple[Path, dict[str, str]]]:
    """A directory for the data, and the settings of an empty database."""
    with directory() as data, database() as where:
        yield data, where


def family(run: Launch) -> set[int]:
    """Return the ids of the processes that the launcher started."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return {int(pid) for pid, parent in map(str.split, listed.splitlines()) if int(parent) == run.program.process.pid}


def gone(pids: set[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def printed_requests(run: Launch, token: str) -> Iterator[tuple[str, Reply]]:
    """Send the requests that the launcher prints, and yield the status that it prints with the reply."""
    for command, status in re.findall(r"^  curl -i (.+)\n      (\d{3}):", run.output, re.MULTILINE):
        words = shlex.split(command.replace("$TOKEN", token))
        method = "POST" if words[:2] == ["-X", "POST"] else "GET"
        url = next(word for word in words if word.startswith("http"))
        headers = [tuple(words[n + 1].split(": ", 1)) for n, word in enumerate(words) if word == "-H"]
        assert url == f"http://{HOST}:{run.gateway}/hello"
        yield status, ask(run.gateway, "/hello", headers, method=method)


def manage(run: Launch, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command beside the launcher, in a terminal that knows only where the data is."""
    kept = {name: run.environment[name] for name in ("PATH", "DATA_DIR", "DATABASE_URL") if name in run.environment}
    command = [sys.executable, "manage.py", *words]
    return subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True, timeout=60, check=False)


def test_the_three_requests_that_a_first_run_prints_have_the_printed_status(place: tuple[Path, dict[str, str]]) -> None:
    data, where = place
    with launched(data, **where) as run:
        replies = list(printed_requests(run, run.token))
        assert [status for status, _ in replies] == ["200", "401", "403"]
        for status, reply in replies:
            assert str(reply.status) == status
            if status == "200":
                assert reply.json["received_headers"]["X-Auth-Request-Email"].startswith("demo@sa-")
                assert reply.json["received_headers"]["X-Auth-Request-Role"] == "viewer"
        assert (
            ask(run.gateway, "/", [basic("admin", run.password)], method="DELETE").json["received_headers"]["X-Auth-Request-Role"]
            == "admin"
        )


def test_a_second_run_keeps_the_data_and_prints_no_secret(place: tuple[Path, dict[str, str]]) -> None:
    data, where = place
    with launched(data, **where) as first:
        token, password = first.token, first.password
        with closing(Console(environment(**first.environment))) as console:
            console("load_pack", name="open")
    with launched(data, **where) as second:
        assert "Password" not in second.output
        assert "sky_" not in second.output
        assert "create_token demo" in second.output
        assert ask(second.gateway, "/", [bearer(token)], method="POST").status == 200, "the route table was kept"
        assert ask(second.gateway, "/", [basic("admin", password)]).status == 200


def test_a_later_run_prints_requests_that_have_the_printed_status_now(place: tuple[Path, dict[str, str]]) -> None:
    data, where = place
    with launched(data, **where) as first:
        assert manage(first, "set_role", "demo", "user").returncode == 0
    with launched(data, **where) as second:
        [line] = re.findall(r'^  (TOKEN=".+")   #', second.output, re.MULTILINE)
        shell = subprocess.run(
            ["bash", "-c", f'{line}; printf %s "$TOKEN"'],
            cwd=ROOT,
            env=environment(**where),
            capture_output=True,
            text=True,
            check=False,
        )
        assert shell.stdout.startswith("sky_"), shell.stderr
        replies = list(printed_requests(second, shell.stdout))
        assert [status for status, _ in replies] == ["200", "401", "200"]
        assert all(str(reply.status) == status for status, reply in replies)


def test_a_command_beside_the_launcher_has_the_settings_of_its_server(place: tuple[Path, dict[str, str]]) -> None:
    data, where = place
    theirs = {"skyauth.W101", "skyauth.W102"}  # no trusted proxy; everybody is admin
    with launched(data, **where) as run:
        beside = manage(run, "doctor", "--json")
        assert "make run is running. Its settings are checked: PUBLIC_URL, RBAC_DEFAULT_ROLE, TRUSTED_PROXIES." in beside.stderr
        assert not theirs & {finding["code"] for finding in json.loads(beside.stdout)["findings"]}
        server = manage(run, "serve", "--port", "1")
        assert (server.returncode, "Stop make run, or set another DATA_DIR." in server.stderr) == (1, True)
        second = launch(data, **where)
        assert second.program.process.wait(30) == 1
        assert "make run: It is already running with the data in" in second.output
    after = manage(run, "doctor", "--json")
    assert "make run is running" not in after.stderr
    assert theirs <= {finding["code"] for finding in json.loads(after.stdout)["findings"]}


def test_if_nobody_reads_the_output_everything_is_stopped_without_a_traceback(place: tuple[Path, dict[str, str]]) -> None:
    data, where = place
    ports = {name: str(free_port()) for name in ("PORT", "GATEWAY_PORT", "ECHO_PORT")}
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {shlex.quote(sys.executable)} scripts/run.py | head -n 1"],
        cwd=ROOT,
        env=environment(DATA_DIR=str(data / "var"), **ports, **where),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert "First admin created." in done.stdout
    assert "Traceback" not in done.stderr
    assert not any(listens(int(port)) for port in ports.values())


def test_the_secrets_that_a_first_run_prints_are_not_on_disk(place: tuple[Path, dict[str, str]]) -> None:
    data, where = place
    with launched(data, **where) as run:
        assert ask(run.gateway, "/", [bearer(run.token)]).status == 200
        assert ask(run.gateway, "/", [basic("admin", run.password)]).status == 200
        secrets = (run.token.encode(), run.password.encode())
        found = [file for file in run.data.rglob("*") if file.is_file() and any(text in file.read_bytes() for text in secrets)]
        assert found == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_everything_and_leaves_no_process(place: tuple[Path, dict[str, str]], number: signal.Signals) -> None:
    data, where = place
    with launched(data, **where) as run:
        children = family(run)
        assert len(children) == 3
        run.program.process.send_signal(number)
        assert run.program.process.wait(20) == 0
        assert gone(children)
        assert not any(listens(port) for port in (run.port, run.gateway, int(run.environment["ECHO_PORT"])))
        assert "Traceback" not in run.output


def test_a_signal_during_the_start_leaves_no_process(place: tuple[Path, dict[str, str]]) -> None:
    data, where = place
    run = launch(data, **where)
    try:
        wait_until(lambda: "Password" in run.output, "the first admin was created")
        run.program.process.send_signal(signal.SIGINT)
        assert run.program.process.wait(20) == 0
        assert not any(listens(port) for port in (run.port, run.gateway))
    finally:
        run.program.end()


@pytest.mark.parametrize("victim", ["skyauth", "gateway", "upstream"])
def test_if_a_program_ends_the_others_are_stopped_and_the_end_of_its_log_is_printed(
    place: tuple[Path, dict[str, str]], victim: str
) -> None:
    data, where = place
    with launched(data, **where) as run:
        children = family(run)
        marks = {"skyauth": "serve", "gateway": "Caddyfile", "upstream": "echo_upstream"}
        [pid] = [pid for pid in children if marks[victim] in Path(f"/proc/{pid}/cmdline").read_text()]
        os.kill(pid, signal.SIGKILL)
        assert run.program.process.wait(20) == 1
        assert f"make run: {victim} was stopped by signal 9. The end of {run.data / 'log' / victim}.log:" in run.output
        assert gone(children)


def test_the_upstream_can_be_another_api_and_can_start_later(place: tuple[Path, dict[str, str]]) -> None:
    data, where = place
    with socket.socket() as quiet:
        quiet.bind((HOST, 0))
        address = f"http://{HOST}:{quiet.getsockname()[1]}"
        with launched(data, UPSTREAM=address, **where) as run:
            assert f"Upstream  {address}   your API, which does not accept connections yet" in run.output
            assert not listens(int(run.environment["ECHO_PORT"]))
            assert ask(run.gateway, "/", [bearer(run.token)]).status == 502
            assert ask(run.gateway, "/").status == 401


@pytest.mark.parametrize("name", ["PORT", "GATEWAY_PORT", "ECHO_PORT"])
def test_a_port_in_use_is_an_error_before_anything_starts(place: tuple[Path, dict[str, str]], name: str) -> None:
    data, where = place
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        run = launch(data, **{name: str(port)}, **where)
        assert run.program.process.wait(20) == 1
    assert (
        run.output
        == f"make run: Port {port} cannot be used: Address already in use. Choose another one, for example {name}={port + 10}\n"
    )
    assert not run.data.exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"PORT": "eighty"}, "PORT='eighty' is not a port"),
        ({"GATEWAY_PORT": "70000"}, "GATEWAY_PORT='70000' is not a port"),
        ({"PORT": "21000", "GATEWAY_PORT": "21000"}, "must be three different ports"),
        ({"UPSTREAM": "127.0.0.1:9000"}, "Write scheme, host and port, for example UPSTREAM=http://127.0.0.1:9000"),
        ({"UPSTREAM": "http://127.0.0.1:9000/api"}, "Write scheme, host and port"),
        ({"UPSTREAM": "http://a b\n}"}, "Write scheme, host and port"),
        ({"UPSTREAM": "http://127.0.0.1:99999"}, "Write scheme, host and port"),
        ({"UPSTREAM": "http://127.0.0.1:0"}, "Write scheme, host and port"),
        ({"GATEWAY_PORT": "21001", "UPSTREAM": "http://localhost:21001"}, "the address of SkyAuth or of the gateway"),
        ({"PORT": "21002", "UPSTREAM": "http://localhost:21002"}, "the address of SkyAuth or of the gateway"),
    ],
)
def test_an_invalid_variable_is_an_error_with_what_to_write_instead(
    place: tuple[Path, dict[str, str]], settings: dict[str, str], message: str
) -> None:
    data, where = place
    run = launch(data, **{**where, **settings})
    assert run.program.process.wait(20) == 1
    assert message in run.output
    assert "Traceback" not in run.output
    assert not run.data.exists()


@pytest.mark.parametrize("settings", [{"RBAC_DEFAULT_ROLE": "emperor"}, {"AUTH_BASIC": "perhaps"}, {"AUTH_STRINGS": "x"}])
def test_an_invalid_setting_of_skyauth_has_the_message_of_skyauth(
    place: tuple[Path, dict[str, str]], settings: dict[str, str]
) -> None:
    data, where = place
    run = launch(data, **where, **settings)
    assert run.program.process.wait(30) == 1
    assert next(iter(settings)) in run.output
    assert "Traceback" not in run.output
    assert not listens(run.gateway)


def test_a_setting_in_dotenv_has_precedence_over_the_defaults_of_the_launcher(place: tuple[Path, dict[str, str]]) -> None:
    data, where = place
    copy = data / "project"
    for module in ROOT.glob("*/__init__.py"):
        shutil.copytree(module.parent, copy / module.parent.name)
    for name in ("deploy", "scripts", "static", "templates"):
        shutil.copytree(ROOT / name, copy / name)
    shutil.copy(ROOT / "manage.py", copy)
    (copy / ".env").write_text("PUBLIC_URL=http://auth.example.test:4711\n", encoding="utf-8")
    with launched(data, root=copy, **where) as run:
        assert ask(run.port, "/sign-in", [("Host", "auth.example.test:4711")]).status == 200
        assert ask(run.port, "/sign-in", [("Host", "other.example.test:4711")]).status == 400


def test_nothing_is_written_into_the_home_directory(place: tuple[Path, dict[str, str]]) -> None:
    data, where = place
    home = data / "home"
    home.mkdir()
    with launched(data, HOME=str(home), **where) as run:
        assert ask(run.gateway, "/", [bearer(run.token)]).status == 200
    assert list(home.rglob("*")) == []


def test_promise_49_a_first_time_user_of_make_run_is_no_admin(place: tuple[Path, dict[str, str]]) -> None:
    data, where = place
    with launched(data, AUTH_USER_HEADER_FORMAT="plaintext", **where) as run:
        headers = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", HOST), ("X-Forwarded-Uri", "/")]
        reply = ask(run.port, "/authz/verify", [*headers, ("X-Auth-Request-Email", "carol@example.com")])
        assert (reply.status, reply.header("X-Auth-Request-Role")) == (200, "user")
