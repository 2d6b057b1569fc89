"""The five proxies of deploy/proxies: each started from the shipped file, and what is known to differ from one to the next."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from socket import SHUT_RDWR, create_connection, socket
from socketserver import BaseRequestHandler, ThreadingTCPServer

from tests.http_client import HOST, Reply, ask, encode, send
from tests.requirements import need_program
from tests.servers import ROOT, directory, environment, free_port, listens, start, wait_until

FOLDER = ROOT / "deploy" / "proxies"
LOAD_BALANCER = "127.0.0.3"
BILLING = "billing.example.com"  # the host of the second API in the shipped files
FROM_PYPI = "pip install -r requirements-dev.txt"


@dataclass(frozen=True)
class Differences:
    """What an upstream or a client can tell of which proxy stands between. deploy/proxies/README.md says the same in words."""

    unsaid: tuple[str, ...] = ("",)  # how a header arrives in which SkyAuth has nothing to say
    skyauth_down: int = 503  # the status while SkyAuth cannot be reached
    upstream_down: int = 503  # the status while the upstream cannot
    explains: bool = True  # whether such an answer is a problem document
    families: frozenset[str] = frozenset()  # of forged headers that pass where the file does not have the whole name
    keeps_cookies: bool = True  # whether the upstream's own cookies survive beside SkyAuth's
    passes_trailers: bool = False
    only_200: bool = False  # whether no other 2xx of SkyAuth's lets through
    any_method: bool = True  # whether a method may be one that nobody has heard of
    explains_refused_uploads: bool = True  # whether SkyAuth's reasons arrive
    http2: bool = False  # whether it is spoken without TLS
    invites: bool = False  # whether an upload with `Expect: 100-continue` is told to go on before it is refused
    cuts_slow_heads: bool = True  # whether a head that takes longer than 10 seconds is cut off
    passes_trouble: bool = True  # whether SkyAuth's own 503 arrives as it wrote it
    forwards_chain: bool = False  # whether the API receives all addresses of a load balancer's X-Forwarded-For
    only_balanced: str = ""  # the marks of `configured` with which only the load balancer can connect
    too_large: int = 431  # the status of a request with far more than 32 kB of headers
    makes_ids: bool = True  # whether the proxy gives every request an X-Request-Id of its own
    rewrites: Mapping[str, str] = field(default_factory=dict)  # request targets that arrive otherwise than they were sent


@dataclass(frozen=True)
class Proxy:
    """A proxy that a file of deploy/proxies is for. `command` gets the program, the first file's copy and its directory."""

    name: str
    hint: str
    files: tuple[str, ...]
    command: Callable[[str, Path, Path], list[str]]
    differences: Differences = field(default_factory=Differences)

    def __str__(self) -> str:
        return self.name


CADDY = Proxy(
    "caddy",
    FROM_PYPI,
    ("Caddyfile",),
    lambda program, file, home: [program, "run", "--adapter", "caddyfile", "--config", str(file)],
    Differences(skyauth_down=502, upstream_down=502, http2=True),
)
NGINX = Proxy(
    "nginx",
    "install Debian's nginx package",
    ("nginx.conf",),
    lambda program, file, home: [program, "-c", str(file), "-e", "stderr", "-g", "daemon off;"],
    Differences(
        unsaid=(),
        explains_refused_uploads=False,
        invites=True,
        too_large=400,
        only_balanced="p",
        families=frozenset({"X-Auth-Request", "X-Forwarded", "X-Original", "X-Envoy"}),
    ),
)
TRAEFIK = Proxy(
    "traefik",
    FROM_PYPI,
    ("traefik.yaml", "dynamic.yaml"),
    lambda program, file, home: [program, f"--configFile={file}"],
    Differences(
        skyauth_down=500,
        upstream_down=502,
        explains=False,
        http2=True,
        families=frozenset({"X-Forwarded"}),
        keeps_cookies=False,
        forwards_chain=True,
        cuts_slow_heads=False,
        makes_ids=False,
        rewrites={"/?a//b;c": "/?a//b%3Bc"},
    ),
)
ENVOY = Proxy(
    "envoy",
    FROM_PYPI,
    ("envoy.yaml",),
    lambda program, file, home: [program, "-c", str(file), "--disable-hot-restart", "--concurrency", "1", "-l", "warning"],
    Differences(only_200=True, passes_trouble=False, any_method=False, invites=True, only_balanced="fp"),
)
HAPROXY = Proxy(
    "haproxy",
    "install Debian's haproxy package",
    ("haproxy.cfg", "skyauth.lua"),
    lambda program, file, home: [program, "-db", "-f", str(file)],
    Differences(passes_trailers=True, too_large=400),
)
PROXIES = (NGINX, CADDY, TRAEFIK, ENVOY, HAPROXY)


def configured(text: str, ports: dict[int, int], home: Path, mark: str = "") -> str:
    """Return a shipped file with the example of a second API switched on, and other ports and places than it names.

    `mark` also uncomments the lines for a load balancer: "f" for one that sends X-Forwarded-For, "p" for the PROXY protocol. "2"
    uncomments those for a second replica of SkyAuth.
    """
    if mark == "2":
        text = re.sub(r"^.*#1\|\n", "", text, flags=re.MULTILINE)
    text = re.sub(rf"^(\s*)#{mark and f'{mark}?'}\| ?", r"\1", text, flags=re.MULTILINE)
    text = text.replace("10.0.0.8", LOAD_BALANCER)
    text = re.sub(
        r"(127\.0\.0\.1(?::|, port_value: )|\$GATEWAY_PORT:)(80\d\d)\b", lambda found: found[1] + str(ports[int(found[2])]), text
    )
    return text.replace("/run/", f"{home}/")


def balanced(
    port: int, mark: str, client: str, *headers: tuple[str, str | bytes], source: str = LOAD_BALANCER, method: str = "GET"
) -> Reply:
    """Send a client's request as the load balancer does that `mark` stands for, or without one. See `configured`."""
    if mark == "p":
        head = f"PROXY TCP{6 if ':' in client else 4} {client} {client} 4711 80\r\n".encode()
        return send(port, head + encode(method, "/", headers), source=source)
    if mark == "f":
        return ask(port, "/", [("X-Forwarded-For", client), *headers], source=source, method=method)
    return ask(port, "/", headers, method=method)


@contextmanager
def running(
    proxy: Proxy,
    *,
    skyauth: int,
    upstream: int,
    billing: int,
    mark: str = "",
    edit: Callable[[str], str] = str,
    replica: int = 0,
) -> Iterator[int]:
    """Run a proxy from its shipped files between SkyAuth and two upstreams, all given by their ports; yields its port.

    `mark` uncomments lines (see `configured`), and `edit` changes the text further. `replica` is the port of a second SkyAuth.
    """
    program = need_program(proxy.name, hint=proxy.hint)
    with directory() as home:
        port = free_port()
        ports = {8000: skyauth, 8001: replica, 8009: free_port(), 8080: port, 8081: upstream, 8082: billing}
        for name in proxy.files:
            shipped = (FOLDER / proxy.name / name).read_text(encoding="utf-8")
            (home / name).write_text(edit(configured(shipped, ports, home, mark)), encoding="utf-8")
        values = environment(HOME=str(home), XDG_CONFIG_HOME=str(home), XDG_DATA_HOME=str(home))
        command = proxy.command(program, home / proxy.files[0], home)
        started = start(command, home / "proxy.log", values, cwd=home)
        try:
            started.wait_for(port)
            # Traefik listens before it has read the second file.
            wait_until(lambda: balanced(port, mark, "192.0.2.1").status == 401, f"{proxy} asks SkyAuth")
            yield port
        finally:
            started.end()


class Tap(ThreadingTCPServer):
    """Stands between the proxies and SkyAuth: keeps what they ask, byte for byte, and can answer in SkyAuth's place."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, port: int, target: int) -> None:
        super().__init__((HOST, port), _Pipe)
        self.target = target
        self.asked = bytearray()
        self.answer: bytes | None = None
        self.closing = False
        self.open: set[socket] = set()

    def drop(self) -> None:
        """End every connection: nobody goes on with what stood before."""

        def ended() -> bool:
            for connection in list(self.open):
                with suppress(OSError):
                    connection.shutdown(SHUT_RDWR)
            return not self.open

        wait_until(ended, "the tap's connections ended")

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a connection that ends in the middle is part of the tests."""


class _Pipe(BaseRequestHandler):
    server: Tap

    def handle(self) -> None:
        self.server.open.add(self.request)
        try:
            if self.server.answer is None:
                self._pass_on()
            else:
                self._answer()
        finally:
            self.server.open.discard(self.request)

    def _pass_on(self) -> None:
        with create_connection((HOST, self.server.target)) as far:
            back = threading.Thread(target=self._back, args=(far,), daemon=True)
            back.start()
            with suppress(OSError):
                while data := self.request.recv(65_536):
                    self.server.asked += data
                    far.sendall(data)
            with suppress(OSError):
                far.shutdown(SHUT_RDWR)
            back.join()

    def _back(self, far: socket) -> None:
        with suppress(OSError):
            while data := far.recv(65_536):
                self.request.sendall(data)
        with suppress(OSError):
            self.request.shutdown(SHUT_RDWR)

    def _answer(self) -> None:
        """Answer each question, which ends with its head, with the same bytes; none at all closes the connection."""
        while self.server.answer:
            head = b""
            while b"\r\n\r\n" not in head:
                data = self.request.recv(65_536)
                if not data:
                    return
                head += data
            self.server.asked += head
            self.request.sendall(self.server.answer)
            if self.server.closing:
                return


class Tapped:
    """A tap that can be closed, so that connections are refused, and opened again on the same port."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self._target = target
        self._stack = ExitStack()
        self.tap = self.open()

    def open(self) -> Tap:
        """Listen."""
        self.tap = self._stack.enter_context(Tap(self.port, self._target))
        thread = threading.Thread(target=self.tap.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(self.tap.shutdown)
        return self.tap

    def close(self) -> None:
        """End every connection, and refuse those to come."""
        self.tap.shutdown()
        self._stack.close()
        self.tap.drop()
        assert not listens(self.port)

    @contextmanager
    def answering(self, raw: bytes, *, closing: bool = False) -> Iterator[None]:
        """Answer every question with these bytes for as long as the block lasts, on a connection that then ends or stays."""
        self.tap.answer, self.tap.closing = raw, closing
        self.tap.drop()
        try:
            yield
        finally:
            self.tap.answer = None
            self.tap.drop()

    @contextmanager
    def listening_in(self) -> Iterator[bytearray]:
        """Yield what is asked while the block lasts."""
        self.tap.asked.clear()
        yield self.tap.asked
