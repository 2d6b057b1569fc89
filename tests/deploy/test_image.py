"""The container image: built from nothing by `make image`, with buildah on a base from Debian's packages, and run.

It takes minutes, so `make test-image` runs it, as root, and no other target does. There is no registry and no container daemon
here: a container is a chroot in a PID and mount namespace of its own, with a read-only root directory, as the user and with the
environment that the image has. tests/deploy/test_containerfile.py checks the rest.
"""

import json
import os
import shlex
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.debian import debian, run
from tests.http_client import HOST, ask, bearer
from tests.load import get, load
from tests.proxies import CADDY, running
from tests.requirements import need_program
from tests.servers import ROOT, Program, directory, environment, free_port, start, wait_until
from tests.upstream import upstream

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.sqlite,
    pytest.mark.xdist_group("image"),
    pytest.mark.skipif(os.environ.get("TEST_IMAGE") != "1", reason="takes minutes: make test-image"),
]

ANY_USER = 1_000_660_000  # as OpenShift chooses one
ROUNDS = 2


@dataclass(frozen=True)
class Image:
    """A built image: its files, which are mounted, and its configuration."""

    root: Path
    config: dict[str, Any]
    container: str
    environment: dict[str, str]

    @property
    def variables(self) -> list[str]:
        return list(self.config["Env"])

    def command(self, *arguments: str) -> list[str]:
        """Return the command of a container with these arguments instead of the image's own."""
        return [*self.config["Entrypoint"], *arguments]


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    """The image that `make image` builds."""
    if os.geteuid() != 0:
        pytest.skip("needs root: debootstrap and chroot")
    buildah = need_program("buildah", hint="install Debian's buildah package")
    with directory() as home:
        storage = f'[storage]\ndriver = "vfs"\ngraphroot = "{home}/store"\nrunroot = "{home}/run"\n'
        (home / "storage.conf").write_text(storage, encoding="utf-8")
        (home / "Containerfile").write_text("FROM scratch\nCOPY . /\n", encoding="utf-8")
        kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        values = environment(
            CONTAINERS_STORAGE_CONF=str(home / "storage.conf"), BUILDAH_ISOLATION="chroot", HOME=str(home), **kept
        )
        base = debian(home)
        run([buildah, "build", "--quiet", "--file", str(home / "Containerfile"), "--tag", "base", str(base)], values)
        built = {"IMAGE": "skyauth-test", "BASE": "localhost/base", "BUILDER": buildah}
        run(["make", "image"], {**values, **built})
        container = run([buildah, "from", "--pull-never", "skyauth-test"], values).strip()
        root = Path(run([buildah, "mount", container], values).strip())
        config = json.loads(run([buildah, "inspect", "--type", "image", "skyauth-test"], values))["Docker"]["config"]
        try:
            yield Image(root, config, container, values)
        finally:
            run([buildah, "umount", container], values)


@contextmanager
def container(image: Image, data: Path, *arguments: str, user: int = ANY_USER, **settings: str) -> Iterator[Program]:
    """Run a command of the image: process 1, no capability, the root directory read-only, and `data` as its /data."""
    root = shlex.quote(str(image.root))
    variables = [*image.variables, *(f"{name}={value}" for name, value in settings.items())]
    words = ["chroot", str(image.root), "setpriv", f"--reuid={user}", "--regid=0", "--clear-groups", "--no-new-privs"]
    words += ["--bounding-set=-all", "env", "--ignore-environment", f"--chdir={image.config['WorkingDir']}", *variables]
    script = f"""
        set -e
        mount --bind {root} {root}
        mount -o remount,bind,ro {root}
        mount --bind {shlex.quote(str(data))} {root}/data
        mount --rbind /dev {root}/dev
        mount -t proc proc {root}/proc
        cd {root}
        exec {shlex.join([*words, *image.command(*arguments)])}
    """
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]
    program = start(command, data.parent / f"container-{free_port()}.log", environment())
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.end(signal.SIGKILL)


def stop(program: Program) -> int:
    """Send SIGTERM to the first process of a container, as `docker stop` does, and return its exit code."""
    [child] = Path(f"/proc/{program.process.pid}/task/{program.process.pid}/children").read_text("ascii").split()
    os.kill(int(child), signal.SIGTERM)
    return program.process.wait(30)


def finish(image: Image, data: Path, *arguments: str, **settings: str) -> str:
    """Run a command of the image to its end, and return what it wrote."""
    with container(image, data, *arguments, **settings) as program:
        assert program.process.wait(120) == 0, program.output
        return program.output


@pytest.fixture
def data() -> Iterator[Path]:
    """A volume as Kubernetes mounts it: of another owner, and writable by the group 0."""
    with directory() as home:
        home.chmod(0o755)
        volume = home / "data"
        volume.mkdir()
        volume.chmod(0o2770)
        yield volume


def test_the_image_is_as_the_containerfile_says(image: Image) -> None:
    config = image.config
    assert (config["User"], config["StopSignal"], list(config["Volumes"])) == ("10001:0", "SIGTERM", ["/data"])
    assert config["Healthcheck"]["Test"][0] == "CMD"
    labels = {name.removeprefix("org.opencontainers.image."): value for name, value in config["Labels"].items()}
    assert (labels["title"], labels["licenses"], labels["base.name"]) == ("SkyAuth", "Apache-2.0", "localhost/base")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()
    assert labels["revision"] == head or not head


def test_the_image_has_no_compiler_no_pip_and_nothing_that_another_user_can_change(image: Image) -> None:
    names = {path.name for place in ("usr/bin", "opt/skyauth/.venv/bin") for path in (image.root / place).iterdir()}
    assert not names & {"gcc", "cc", "g++", "c++", "ld", "make", "pip", "pip3"}
    top = {path.name for path in (image.root / "opt/skyauth").iterdir()}
    assert not top & {"tests", "benchmarks", "docs", "scripts", ".git", ".env", "var"}
    for path in (image.root / "opt").rglob("*"):
        found = path.lstat()
        assert found.st_uid == 0, path
        assert stat.S_ISLNK(found.st_mode) or not found.st_mode & 0o022, path


def test_any_user_can_run_it_in_its_own_volume(image: Image) -> None:
    """With `buildah run`, which does not make the root directory read-only, and gives the image's volume."""
    buildah = [need_program("buildah", hint=""), "run", "--user", f"{ANY_USER}:0", image.container, "--"]
    run([*buildah, *image.command("bootstrap", "--pack", "read-write")], image.environment)
    assert "admin" in run([*buildah, "skyauth", "list_users"], image.environment)
    port = free_port()
    with directory() as home:
        command = [*buildah, *image.command("serve", "--host", HOST, "--port", str(port))]
        program = start(command, home / "run.log", image.environment)
        try:
            program.wait_for(port)
            assert ask(port, "/readyz").status == 200
            health = [*image.config["Healthcheck"]["Test"][1:], f"http://{HOST}:{port}/readyz"]
            run([*buildah, *health], image.environment)
            asked = subprocess.run(
                [*buildah, *health[:-1], f"http://{HOST}:{free_port()}/readyz"], env=image.environment, check=False
            )
            assert asked.returncode == 1
        finally:
            program.end()


def test_it_refuses_to_start_without_migrations_and_writes_to_data_only(image: Image, data: Path) -> None:
    with container(image, data, "serve") as program:
        assert program.process.wait(60) == 1
    assert "migrations" in program.output
    assert {path.name for path in data.iterdir()} <= {
        "secret_key",
        "skyauth.sqlite3",
        "skyauth.sqlite3-shm",
        "skyauth.sqlite3-wal",
    }


def test_several_workers_need_no_other_place_than_data(image: Image, data: Path) -> None:
    finish(image, data, "migrate", "--verbosity", "0")
    port = free_port()
    with container(image, data, "serve", "--host", HOST, "--port", str(port), "--workers", "2", "--drain", "0") as program:
        program.wait_for(port)
        wait_until(lambda: ask(port, "/readyz").status == 200, "it is ready")
        assert stop(program) == 0
    assert not list(data.glob("skyauth-metrics-*"))


def test_two_containers_are_replaced_under_load_without_a_failed_request(image: Image, data: Path) -> None:
    for words in (["migrate", "--verbosity", "0"], ["load_pack", "read-write"]):
        finish(image, data, *words)
    token = finish(image, data, "create_token", "pipeline", "--create", "--role", "user").split()[-1]
    first, second = free_port(), free_port()
    with ExitStack() as stack:

        def serve(port: int) -> Program:
            command = ["serve", "--host", HOST, "--port", str(port), "--drain", "3"]
            program = stack.enter_context(container(image, data, *command, TRUSTED_PROXIES=HOST))
            program.wait_for(port)
            return program

        api = stack.enter_context(upstream())
        replaced, kept = serve(first), serve(second)
        ports = {"skyauth": first, "replica": second, "upstream": api.port, "billing": api.port}
        with running(CADDY, **ports, mark="2") as port, load(port, get("/v1/things", bearer(token))) as clients:
            wait_until(lambda: clients.seen["200"] > 50, "requests pass")
            for _ in range(ROUNDS):
                assert stop(replaced) == 0
                time.sleep(1)
                replaced = serve(first)
                wait_until(lambda: ask(first, "/readyz").status == 200, "the new container is ready")
                time.sleep(2)  # for the check of the proxy
        assert not clients.failed
        assert clients.seen["200"] > 200
        assert stop(replaced) == stop(kept) == 0
