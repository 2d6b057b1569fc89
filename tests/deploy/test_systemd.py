"""The unit files of deploy/systemd: systemd accepts them, and what they start works with a socket that systemd opened.

No service manager runs here. `make test-image` starts one, with the units as they are: tests/deploy/test_systemd_boot.py.
"""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.http_client import HOST, ask, basic
from tests.requirements import need_program
from tests.servers import ROOT, SkyAuth, directory, environment, free_port, skyauth_server, start, wait_until

UNITS = ROOT / "deploy" / "systemd"
SERVICES = ("skyauth.service", "skyauth-prune.service")
SYSTEMD = "install Debian's systemd package"
GUIDE = (ROOT / "docs" / "guides" / "production.md").read_text(encoding="utf-8")


def values(unit: str, name: str) -> list[str]:
    """Return the values of a directive of a unit file, in order."""
    return re.findall(rf"^{name}=(.*)$", (UNITS / unit).read_text(encoding="utf-8"), re.MULTILINE)


def command(unit: str) -> list[str]:
    """Return the command that a service starts, in this checkout and with this interpreter."""
    [line] = values(unit, "ExecStart")
    words = shlex.split(line)
    assert words[:2] == ["/opt/skyauth/.venv/bin/python", "/opt/skyauth/manage.py"]
    return [sys.executable, str(ROOT / "manage.py"), *words[2:]]


@pytest.fixture
def units() -> Iterator[list[Path]]:
    """Copies of the unit files for this checkout: `verify` looks for the programs that they start."""
    with directory() as home:
        for path in sorted(UNITS.glob("skyauth*.*")):
            text = path.read_text(encoding="utf-8").replace("/opt/skyauth/.venv/bin/python", sys.executable)
            (home / path.name).write_text(text.replace("/opt/skyauth", str(ROOT)), encoding="utf-8")
        yield [path for path in sorted(home.iterdir()) if path.suffix != ".sysusers"]


def test_systemd_accepts_the_unit_files(units: list[Path]) -> None:
    assert len(units) == 4
    analyze = need_program("systemd-analyze", hint=SYSTEMD)
    done = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    [calendar] = values("skyauth-prune.timer", "OnCalendar")
    assert subprocess.run([analyze, "calendar", calendar], capture_output=True, check=False).returncode == 0


def test_the_exposure_is_at_most_what_the_guide_says(units: list[Path]) -> None:
    analyze = need_program("systemd-analyze", hint=SYSTEMD)
    [documented] = re.findall(r"exposure level of (\d\.\d)", GUIDE)
    for name in SERVICES:
        [path] = [path for path in units if path.name == name]
        done = subprocess.run(
            [analyze, "security", "--offline=true", "--no-pager", path], capture_output=True, text=True, check=False
        )
        [found] = re.findall(rf"Overall exposure level for {re.escape(name)}: (\d+\.\d)", done.stdout)
        assert float(found) <= float(documented)


def test_both_services_have_the_same_limits_user_and_data() -> None:
    first, second = ((UNITS / name).read_text(encoding="utf-8") for name in SERVICES)
    limits = re.compile(r"^# What the process cannot do.*?(?=\n\n|\Z)", re.MULTILINE | re.DOTALL)
    assert limits.search(first)[0].strip() == limits.search(second)[0].strip()  # type: ignore[index]
    for name in ("User", "Group", "StateDirectory", "StateDirectoryMode", "UMask", "WorkingDirectory"):
        assert values(SERVICES[0], name) == values(SERVICES[1], name) != [], name


def test_systemd_waits_longer_than_the_server_needs_to_stop() -> None:
    [seconds] = values("skyauth.service", "TimeoutStopSec")
    assert int(seconds) >= 20  # docs/guides/restarts.md


@pytest.fixture(scope="module")
def server() -> Iterator[SkyAuth]:
    """A prepared database; the tests start the server by the unit's command."""
    with skyauth_server() as server:
        server.stop()
        server.console("create_user", name="alice@example.com", role="admin", password="correct horse battery staple")
        yield server


@pytest.mark.e2e
@pytest.mark.xdist_group("systemd")
class TestCommands:
    def test_the_server_uses_the_socket_and_stops_on_sigterm(self, server: SkyAuth) -> None:
        activate = need_program("systemd-socket-activate", hint=SYSTEMD)
        port = free_port()
        [listen] = values("skyauth.socket", "ListenStream")
        passed = [f"--setenv={name}={value}" for name, value in server.environment.items()]
        words = [activate, f"--listen={listen.replace('8000', str(port))}", *passed, *command("skyauth.service")]
        program = start(words, server.data / "activated.log", environment())
        try:
            program.wait_for(port)  # this first connection starts the server
            wait_until(lambda: ask(port, "/readyz").status == 200, "it is ready")
            told = [("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", HOST), ("X-Forwarded-Uri", "/")]
            alice = basic("alice@example.com", "correct horse battery staple")
            assert ask(port, "/authz/verify", [*told, alice]).status == 200
            assert program.end() == 0
        finally:
            program.end()
        assert "Listening on http://127.0.0.1" in program.output

    def test_the_timer_deletes_old_data(self, server: SkyAuth) -> None:
        done = subprocess.run(
            command("skyauth-prune.service"), cwd=ROOT, env=server.environment, capture_output=True, text=True, check=False
        )
        assert (done.returncode, "expired sessions" in done.stdout) == (0, True), done.stderr
