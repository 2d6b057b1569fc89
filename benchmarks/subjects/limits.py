"""What bounds everybody: servers and frameworks that do nothing but answer, and nginx with and without SkyAuth behind it."""

import sys
from pathlib import Path
from typing import Final

from accounts import token_format
from benchmarks.harness import Also, Harness, Subject
from benchmarks.load import Requests
from benchmarks.seed import path_of
from benchmarks.subjects import skyauth
from benchmarks.subjects.peers import granian
from benchmarks.subjects.skyauth import BEARER, REFUSED, WORKING_SET, Served, Shape
from tests.servers import Program

CONFIGURATION: Final = Path(__file__).with_name("nginx.conf")


def _same(harness: Harness, shape: Shape, name: str, target: str = "/") -> tuple[Served, Requests]:
    """Return a SkyAuth, and what it is asked with tokens, for somebody else to answer."""
    running = skyauth.served(harness, shape)
    path = harness.template(name, running.request(BEARER, target=target))
    return running, Requests(path, running.data / "tokens.txt", WORKING_SET)


def asgi(harness: Harness, shape: Shape) -> Subject:
    """Return an ASGI application that answers 200, in SkyAuth's server profile."""
    port = harness.port()
    program = harness.serve("asgi", [sys.executable, "-m", "benchmarks.sites.bare_asgi", str(port)], port)
    return Subject(port, _same(harness, shape, "asgi")[1], (program,))


def view(harness: Harness, shape: Shape) -> Subject:
    """Return a Django view that answers 200, without middleware."""
    port = harness.port()
    program = granian(harness, "view", "benchmarks.sites.bare_django:application", port)
    return Subject(port, _same(harness, shape, "view")[1], (program,))


def _nginx(harness: Harness, verify: int) -> tuple[int, int, Program]:
    """Return the ports of an nginx that asks itself, and of one that asks the SkyAuth on this port, and the nginx of both."""

    def start() -> tuple[int, int, Program]:
        alone, asking, home = harness.port(), harness.port(), harness.folder("nginx")
        text = CONFIGURATION.read_text(encoding="ascii")
        for name, value in (("HOME", home), ("ALONE", alone), ("ASKING", asking), ("SKYAUTH", verify)):
            text = text.replace(f"@{name}@", str(value))
        written = home / "nginx.conf"
        written.write_text(text, encoding="ascii")
        return alone, asking, harness.serve("nginx", [harness.tools.nginx, "-c", str(written), "-e", "stderr"], asking)

    return harness.once("nginx", start)


def nginx_alone(harness: Harness, shape: Shape) -> Subject:
    """Return `auth_request` to a 200 that nginx gives itself."""
    running, requests = _same(harness, shape, "nginx-alone", path_of(shape.routes))
    port, _, program = _nginx(harness, running.port)
    return Subject(port, requests, (program,))


def nginx_skyauth(harness: Harness, shape: Shape) -> Subject:
    """Return `auth_request` to SkyAuth."""
    running, requests = _same(harness, shape, "nginx-skyauth", path_of(shape.routes))
    _, port, program = _nginx(harness, running.port)
    bad = running.request(("Authorization", f"Bearer {token_format.mint().plaintext}"), target=path_of(shape.routes))
    return Subject(port, requests, (program, running.program), also=(Also(bad, REFUSED),))
