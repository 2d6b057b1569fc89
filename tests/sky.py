"""The real thing: an unmodified SkyPilot API server, and the released `sky`, each with a home of its own and nothing of ours."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from tests.http_client import HOST, Reply, ask
from tests.proxies import CADDY, NGINX, configured
from tests.requirements import missing, need_program
from tests.servers import ROOT, Program, directory, environment, free_port, start, wait_until

BIN: Final = ROOT / ".venv-skypilot" / "bin"
READY_SECONDS: Final = 60  # five where nothing else runs
CLI_SECONDS: Final = 180  # two where nothing else runs; a minute where many do
GATEWAYS: Final = ("caddy", "nginx")
AUTH_PROXY: Final = "127.0.0.2"  # where the gateways expect an auth proxy in front of them

# `pty.spawn` gives the command a terminal and copies between it and these pipes: what is written to them is typed.
_TERMINAL: Final = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Mode(StrEnum):
    """How the server finds out who calls (contract, section 1)."""

    HEADER = "header"  # it believes X-Auth-Request-Email, and takes a request without it for an unrestricted admin's
    BASIC = "basic"  # it checks passwords itself
    OAUTH2 = "oauth2"  # it asks an oauth2-proxy, whose address it is told, about every request


def need_skypilot(name: str) -> str:
    """Return the path of a program of SkyPilot's environment. Skips the test, or fails it under CI=true, without one."""
    if not (BIN.parent / "installed").exists():
        missing("needs SkyPilot itself: make .venv-skypilot/installed")
    return str(BIN / name)


class PortTaken(Exception):
    """Something else has the port of the server's queue: it follows from its own and lies among those of outgoing connections."""


@dataclass
class SkyPilot:
    """A running API server. It is asked without a gateway here, as only an operator on its private network can."""

    port: int
    home: Path
    programs: list[Program] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.port}"

    @property
    def log(self) -> str:
        return self.programs[-1].output

    def start(self, settings: Mapping[str, str], metrics: int) -> None:
        """Start it, and wait until it answers."""
        command = [need_skypilot("python"), "-m", "sky.server.server", "--host", HOST, "--port", str(self.port)]
        program = start([*command, "--metrics-port", str(metrics)], self.home / "server.log", settings, cwd=self.home)
        self.programs.append(program)

        def healthy() -> bool:
            if program.process.poll() is not None:
                raise PortTaken(program.output) if "is already in use" in program.output else AssertionError(program.output)
            with suppress(OSError):
                return ask(self.port, "/api/health").status == 200
            return False

        wait_until(healthy, "SkyPilot's API server", READY_SECONDS)

    def stop(self) -> None:
        """Stop it whole and at once: its executors outlive it, and hold the port of its queue."""
        if not self.programs:
            return
        group = self.programs[-1].process.pid
        self.programs[-1].end(signal.SIGKILL)

        def gone() -> bool:
            with suppress(ProcessLookupError):
                os.killpg(group, 0)
                return False
            return True

        wait_until(gone, "the executors' end")

    def ask(self, path: str, *headers: tuple[str, str | bytes], body: Any = None) -> Reply:
        """Ask the server itself: a POST where there is a body. Without an identity it does whatever it is asked."""
        if body is None:
            return ask(self.port, path, headers)
        told = [*headers, ("Content-Type", "application/json")]
        return ask(self.port, path, told, method="POST", body=json.dumps(body).encode())

    def users(self) -> dict[str, str]:
        """Return the role of everybody it knows, by name; not those that it has built in."""
        answer = self.ask("/users")
        assert answer.status == 200, answer
        return {row["name"]: row["role"] for row in answer.json if row["user_type"] != "system"}

    def forget(self, name: str) -> None:
        """Delete a user, as if they had never come."""
        found = [row["id"] for row in self.ask("/users").json if row["name"] == name]
        for user_id in found:
            assert self.ask("/users/delete", body={"user_id": user_id}).status == 200


def guide() -> list[str]:
    """Return the files that docs/guides/skypilot.md tells an operator to write: .server.yaml and config.yaml."""
    text = (ROOT / "docs" / "guides" / "skypilot.md").read_text(encoding="utf-8")
    return re.findall(r"^```yaml\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[:2]


@contextmanager
def skypilot_server(mode: Mode = Mode.HEADER, *, default_role: str = "user", **settings: str) -> Iterator[SkyPilot]:
    """Run the API server of .venv-skypilot on a free loopback port. It takes five seconds and a gigabyte: share one.

    `settings` are further environment variables: SKYPILOT_AUTH_OAUTH2_PROXY_BASE_URL belongs to the mode oauth2.
    """
    modes = {
        Mode.HEADER: {},
        Mode.BASIC: {"ENABLE_BASIC_AUTH": "true"},
        Mode.OAUTH2: {"SKYPILOT_AUTH_OAUTH2_PROXY_ENABLED": "true"},
    }
    with ExitStack() as stack:
        home = stack.enter_context(directory())
        (home / ".sky").mkdir()
        believing, careful = guide()
        (home / ".sky" / "config.yaml").write_text(careful.replace("viewer", default_role), encoding="utf-8")
        if mode is Mode.HEADER:
            (home / ".sky" / ".server.yaml").write_text(believing, encoding="utf-8")
        values = environment(
            HOME=str(home),
            IS_SKYPILOT_SERVER="true",
            SKYPILOT_DISABLE_USAGE_COLLECTION="1",
            ENABLE_SERVICE_ACCOUNTS="true",
            **modes[mode],
            **settings,
        )
        yield _started(home, values, stack)


def _started(home: Path, values: Mapping[str, str], stack: ExitStack, tries: int = 3) -> SkyPilot:
    """Return a server that answers, on another port where the first one will not do; the stack ends it."""
    server = SkyPilot(free_port(), home)
    try:
        stack.callback(server.stop)
        server.start({**values, "SKYPILOT_API_SERVER_LOCAL_PORT": str(server.port)}, free_port())
    except PortTaken:
        if tries == 1:
            raise
        (home / "server.log").unlink()
        return _started(home, values, stack, tries - 1)
    return server


@dataclass(frozen=True)
class Ran:
    """What a command of the CLI came to: its exit code, and what it printed, without colours."""

    code: int
    output: str


class Typing:
    """A command of the CLI at a terminal, while it runs."""

    def __init__(self, program: Program, keyboard: Any) -> None:
        self._program = program
        self._keyboard = keyboard

    @property
    def output(self) -> str:
        """What stands on the terminal."""
        return _ESCAPES.sub("", self._program.output)

    def wait_for(self, text: str, seconds: float = CLI_SECONDS) -> str:
        """Return what was printed up to now, once the text is in it; fail when it does not come, or the command ends without."""
        deadline = time.monotonic() + seconds
        while text not in self.output:
            over = self._program.process.poll() is not None or time.monotonic() > deadline
            assert text in self.output or not over, f"there is no {text!r} in:\n{self.output}"
            time.sleep(0.05)
        return self.output

    def type(self, text: str) -> None:
        """Type, or paste, a text; "\\x03" is ctrl-c, and "\\n" the return key."""
        os.write(self._keyboard, text.encode())

    def interrupt(self) -> None:
        """Press ctrl-c."""
        self.type("\x03")

    def ended(self, seconds: float = CLI_SECONDS) -> Ran:
        """Wait for the command to end by itself."""
        try:
            code = self._program.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {seconds} seconds:\n{self.output}") from None
        return Ran(code, self.output)

    def stop(self) -> None:
        """End it, whatever it is doing; it is hung up on."""
        self._program.end(signal.SIGKILL)
        with suppress(OSError):
            os.close(self._keyboard)


class Sky:
    """The released `sky`, in a home of its own. Log in first: without an endpoint it would start a server by itself.

    What it opens in a browser is in `opened` instead.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(exist_ok=True)
        self._program = need_skypilot("sky")
        self._opened = home / "opened"
        browser = home / "browser"
        browser.write_text(f'#!/bin/sh\necho "$1" >> {self._opened}\n', encoding="utf-8")
        browser.chmod(0o700)
        self.environment = environment(
            HOME=str(home), BROWSER=f"{browser} %s", SKYPILOT_DISABLE_USAGE_COLLECTION="1", TERM="dumb", COLUMNS="300", LINES="60"
        )

    @property
    def opened(self) -> list[str]:
        """The addresses that it opened in a browser, the latest last."""
        return self._opened.read_text(encoding="utf-8").split() if self._opened.exists() else []

    @property
    def cookies(self) -> dict[str, str]:
        """The cookies that it keeps (Netscape's format)."""
        file = self.home / ".sky" / "cookies.txt"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        rows = [line.removeprefix("#HttpOnly_").split("\t") for line in lines if line and not line.startswith("# ")]
        return {row[5]: row[6] for row in rows if len(row) == 7}

    @property
    def config(self) -> str:
        """What it keeps in its configuration, as text."""
        file = self.home / ".sky" / "config.yaml"
        return file.read_text(encoding="utf-8") if file.exists() else ""

    def __call__(self, *arguments: str, typed: str = "", seconds: float = CLI_SECONDS, **variables: str) -> Ran:
        """Run a command without a terminal, to its end; `variables` join its environment."""
        try:
            done = subprocess.run(
                [self._program, *arguments],
                cwd=self.home,
                env={**self.environment, **variables},
                input=typed,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=seconds,
                check=False,
                start_new_session=True,
            )
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"sky {' '.join(arguments)} still runs after {seconds} seconds:\n{late.stdout!r}") from None
        return Ran(done.returncode, _ESCAPES.sub("", done.stdout))

    @contextmanager
    def at_a_terminal(self, *arguments: str, **variables: str) -> Iterator[Typing]:
        """Run a command at a terminal of its own, for as long as the block lasts."""
        log = self.home / f"terminal-{time.monotonic_ns()}.log"
        reading, keyboard = os.pipe()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", _TERMINAL, self._program, *arguments],
                cwd=self.home,
                env={**self.environment, **variables},
                stdin=reading,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        os.close(reading)
        typing = Typing(Program(process, log), keyboard)
        try:
            yield typing
        finally:
            typing.stop()


@contextmanager
def gateway_of(
    name: str, *, port: int, skyauth: int, skypilot: int, user_header: str = "X-Auth-Request-Email", mark: str = ""
) -> Iterator[int]:
    """Run a gateway of deploy/skypilot, from the shipped file, between SkyAuth and a SkyPilot server; yields its port.

    `user_header` is the one in which the auth proxy names people, and `mark` uncomments lines: see `configured`.
    """
    proxy = {"caddy": CADDY, "nginx": NGINX}[name]
    program = need_program(name, hint=proxy.hint)
    with directory() as home:
        file = home / proxy.files[0]
        shipped = (ROOT / "deploy" / "skypilot" / name / file.name).read_text(encoding="utf-8")
        text = configured(shipped, {8000: skyauth, 8080: port}, home, mark)
        text = text.replace("$http_x_auth_request_email", "$http_" + user_header.lower().replace("-", "_"))
        file.write_text(text.replace("127.0.0.1:46580", f"{HOST}:{skypilot}"), encoding="utf-8")
        values = environment(
            HOME=str(home),
            XDG_CONFIG_HOME=str(home),
            XDG_DATA_HOME=str(home),
            AUTH_PROXY=AUTH_PROXY,
            AUTH_USER_HEADER=user_header,
        )
        started = start(proxy.command(program, file, home), home / "gateway.log", values, cwd=home)
        try:
            started.wait_for(port)
            yield port
        finally:
            started.end()
