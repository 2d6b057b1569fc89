"""What bounds everybody: servers and frameworks that do nothing but answer, and nginx with and without SkyAuth behind it."""

import sys
from pathlib import Path
from typing import Final

from accounts import tokens
from benchmarks.contestants import skyauth
from benchmarks.contestants.peers import granian
from benchmarks.contestants.skyauth import BEARER, REFUSED, WORKING_SET, Served, Shape
from benchmarks.fill import path_of
from benchmarks.load import Requests
from benchmarks.stage import Also, Contestant, Stage
from tests.servers import Program

CONFIGURATION: Final = Path(__file__).with_name("nginx.conf")


def _same(stage: Stage, shape: Shape, name: str, target: str = "/") -> tuple[Served, Requests]:
    """Return a SkyAuth, and what it is asked with tokens, for somebody else to answer."""
    running = skyauth.served(stage, shape)
    path = stage.template(name, running.request(BEARER, target=target))
    return running, Requests(path, running.data / "tokens.txt", WORKING_SET)


def asgi(stage: Stage, shape: Shape) -> Contestant:
    """Return an ASGI application that answers 200, in SkyAuth's server profile."""
    port = stage.port()
    program = stage.serve("asgi", [sys.executable, "-m", "benchmarks.sites.bare_asgi", str(port)], port)
    return Contestant(port, _same(stage, shape, "asgi")[1], (program,))


def view(stage: Stage, shape: Shape) -> Contestant:
    """Return a Django view that answers 200, without middleware."""
    port = stage.port()
    program = granian(stage, "view", "benchmarks.sites.bare_django:application", port)
    return Contestant(port, _same(stage, shape, "view")[1], (program,))


def _nginx(stage: Stage, verify: int) -> tuple[int, int, Program]:
    """Return the ports of an nginx that asks itself, and of one that asks the SkyAuth on this port, and the nginx of both."""

    def start() -> tuple[int, int, Program]:
        alone, asking, home = stage.port(), stage.port(), stage.folder("nginx")
        text = CONFIGURATION.read_text(encoding="ascii")
        for name, value in (("HOME", home), ("ALONE", alone), ("ASKING", asking), ("SKYAUTH", verify)):
            text = text.replace(f"@{name}@", str(value))
        written = home / "nginx.conf"
        written.write_text(text, encoding="ascii")
        return alone, asking, stage.serve("nginx", [stage.tools.nginx, "-c", str(written), "-e", "stderr"], asking)

    return stage.once("nginx", start)


def nginx_alone(stage: Stage, shape: Shape) -> Contestant:
    """Return `auth_request` to a 200 that nginx gives itself."""
    running, requests = _same(stage, shape, "nginx-alone", path_of(shape.routes))
    port, _, program = _nginx(stage, running.port)
    return Contestant(port, requests, (program,))


def nginx_skyauth(stage: Stage, shape: Shape) -> Contestant:
    """Return `auth_request` to SkyAuth."""
    running, requests = _same(stage, shape, "nginx-skyauth", path_of(shape.routes))
    _, port, program = _nginx(stage, running.port)
    bad = running.request(("Authorization", f"Bearer {tokens.mint().plaintext}"), target=path_of(shape.routes))
    return Contestant(port, requests, (program, running.program), also=(Also(bad, REFUSED),))
