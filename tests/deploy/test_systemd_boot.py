"""systemd itself runs the units of deploy/systemd, which the commands of docs/guides/production.md have installed.

It is the first process of a PID namespace, in a small Debian. The network is that of this machine. It takes minutes, so `make
test-image` runs it, as root, and no other target does.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.debian import debian, run
from tests.http_client import HOST, ask, bearer
from tests.load import get, load
from tests.servers import ROOT, Program, directory, environment, free_port, start, wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.sqlite,
    pytest.mark.xdist_group("image"),
    pytest.mark.skipif(os.environ.get("TEST_IMAGE") != "1", reason="takes minutes: make test-image"),
]

CGROUP = Path("/sys/fs/cgroup/systemd")
RESTARTS = 3
MASKED = (
    "console-getty.service", "getty.target", "systemd-logind.service", "systemd-modules-load.service", "systemd-pstore.service",
    "systemd-random-seed.service", "systemd-remount-fs.service", "systemd-sysctl.service", "systemd-timesyncd.service",
    "systemd-udev-trigger.service", "systemd-udevd.service",
)  # fmt: skip
# Everything of the machine that systemd could change is read-only, and its control groups are below a new one.
BOOT = """
set -e
mkdir -p {cgroup}
echo $$ > {cgroup}/cgroup.procs
exec unshare --mount --pid --fork --uts --ipc --cgroup --kill-child sh -ec '
mount --make-rprivate /
mount --bind {root} {root}
cd {root}
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
mkdir dev/shm dev/pts
ln -s /proc/self/fd dev/fd
ln -s pts/ptmx dev/ptmx
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
mkdir sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
cd {root}
mkdir -p .old
pivot_root . .old
umount -l .old
exec env -i container=docker PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=basic.target --show-status=no
'
"""


@dataclass(frozen=True)
class Machine:
    """A machine that systemd runs."""

    program: Program
    port: int

    @property
    def systemd(self) -> int:
        """The process id of systemd as this machine sees it; 0 until it runs."""
        process = self.program.process.pid
        for child in Path(f"/proc/{process}/task/{process}/children").read_text("ascii").split():
            with suppress(OSError):  # a child of the shell before it is replaced
                if Path(f"/proc/{child}/exe").readlink().name == "systemd":
                    return int(child)
        return 0

    def run(self, script: str) -> str:
        """Run a script as root and return its output; fail with it."""
        enter = ["nsenter", "--target", str(self.systemd), "--mount", "--pid", "--uts", "--ipc", "--cgroup", "--root", "--wd"]
        kept = [f"{name}={value}" for name, value in os.environ.items() if name.startswith("PIP_")]
        command = [*enter, "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", *kept, "sh", "-exc", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, (done.stdout[-2_000:], done.stderr[-4_000:])
        return done.stdout


def commands_of_the_guide() -> list[str]:
    """Return the commands that install the units, in order."""
    guide = (ROOT / "docs" / "guides" / "production.md").read_text(encoding="utf-8")
    section = guide.partition("\n## With systemd\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^ *```console\n(.*?)^ *```$", section, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """A machine with SkyAuth, installed as the guide says."""
    if os.geteuid() != 0 or not CGROUP.is_dir():
        pytest.skip("needs root, and the control groups of systemd")
    with directory() as home:
        root = home / "root"
        run(["cp", "--archive", str(debian(home, "systemd", "sudo")), str(root)])
        for name in MASKED:
            (root / "etc/systemd/system" / name).symlink_to("/dev/null")
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        (root / "src").mkdir()
        export = (
            f"git ls-files -z | tar --null --files-from=- --create | tar --extract --directory {shlex.quote(str(root / 'src'))}"
        )
        subprocess.run(["sh", "-c", export], cwd=ROOT, check=True)
        cgroup = CGROUP / home.name
        (home / "boot.sh").write_text(BOOT.format(root=root, cgroup=cgroup), encoding="utf-8")
        program = start(["sh", str(home / "boot.sh")], home / "boot.log", environment())
        machine = Machine(program, free_port())
        try:
            wait_until(lambda: machine.systemd > 0, "systemd has started")
            wait_until(lambda: "active" in machine.run("systemctl is-active basic.target || true").split(), "the machine is up")
            install(machine)
            yield machine
        finally:
            program.end(signal.SIGKILL)  # and with it, all processes of the namespace
            for path in [*sorted(cgroup.rglob("*/"), reverse=True), cgroup]:
                if path.is_dir():
                    wait_until(lambda path=path: not (path / "cgroup.procs").read_text("ascii"), "the group is empty")
                    path.rmdir()


def install(machine: Machine) -> None:
    """Run the guide's commands, with other settings and another address."""
    lines = commands_of_the_guide()
    assert len(lines) >= 15
    settings = ["DATA_DIR=/var/lib/skyauth", f"TRUSTED_PROXIES={HOST}", f"PUBLIC_URL=http://{HOST}:{machine.port}"]
    override = f"[Socket]\\nListenStream=\\nListenStream={HOST}:{machine.port}\\n"
    at = lines.index("chown root:skyauth .env")
    lines[at:at] = [
        f"printf '{override}' > /run/override",
        "mkdir /etc/systemd/system/skyauth.socket.d",
        "cp /run/override /etc/systemd/system/skyauth.socket.d/override.conf",
        "systemctl daemon-reload",
        f"printf '%s\\n' {shlex.join(settings)} > .env",
    ]
    machine.run("\n".join(["cd /src", *lines]))


def test_the_units_restart_the_server_under_load_without_a_failed_request(machine: Machine) -> None:
    wait_until(lambda: ask(machine.port, "/readyz").status == 200, "it is ready")
    create = "sudo -u skyauth .venv/bin/python manage.py create_token pipeline --create --role user"
    token = bearer(machine.run(f"cd /opt/skyauth && {create}").split()[-1])
    told = (("X-Forwarded-Method", "GET"), ("X-Forwarded-Host", HOST), ("X-Forwarded-Uri", "/"))
    with load(machine.port, get("/authz/verify", *told, token)) as clients:
        for _ in range(RESTARTS):
            seen = clients.seen["200"]
            wait_until(lambda seen=seen: clients.seen["200"] > seen + 50, "requests pass")
            machine.run("systemctl restart skyauth.service")
        seen = clients.seen["200"]
        wait_until(lambda: clients.seen["200"] > seen + 50, "requests pass")
    assert not clients.failed


def test_the_server_has_no_capability_and_few_system_calls(machine: Machine) -> None:
    status = machine.run("cat /proc/$(systemctl show --property MainPID --value skyauth.service)/status")
    found = dict(line.split(":\t", 1) for line in status.splitlines())
    assert (int(found["CapEff"], 16), int(found["CapBnd"], 16), found["NoNewPrivs"], found["Seccomp"]) == (0, 0, "1", "2")
    assert machine.run("systemctl is-enabled skyauth.service skyauth.socket skyauth-prune.timer").split() == ["enabled"] * 3


def test_reload_and_the_timer_work(machine: Machine) -> None:
    machine.run("systemctl reload skyauth.service")
    machine.run("systemctl start skyauth-prune.service")
    assert "expired sessions" in machine.run("journalctl --unit skyauth-prune.service --no-pager")
    assert ask(machine.port, "/readyz").status == 200


def test_the_settings_can_be_read_by_skyauth_and_not_by_others(machine: Machine) -> None:
    machine.run("cd /opt/skyauth && sudo -u skyauth .venv/bin/python manage.py list_tokens")
    machine.run("cd /opt/skyauth && ! sudo -u nobody cat .env")


def test_the_server_starts_again_after_many_failures(machine: Machine) -> None:
    """A limit of starts would close the socket, too, and SkyAuth would stay away after a longer outage of the database."""
    machine.run("mv /opt/skyauth/manage.py /opt/skyauth/away && systemctl restart skyauth.service || true")
    wait_until(lambda: int(machine.run("systemctl show --property NRestarts --value skyauth.service")) > 6, "it fails repeatedly")
    assert machine.run("systemctl is-active skyauth.socket").strip() == "active"
    machine.run("mv /opt/skyauth/away /opt/skyauth/manage.py")
    assert ask(machine.port, "/readyz").status == 200  # the socket keeps the request until the server is back
