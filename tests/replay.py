"""The table of tests/skypilot/data: what is asked of SkyPilot's own server and of SkyAuth, and what the server answered."""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from accounts.identifiers import user_uid
from tests.factories import PASSWORD
from tests.http_client import basic, bearer
from tests.skypilot_client import VERSIONS

DATA: Final = Path(__file__).parent / "skypilot" / "data"
CAST: Final = {"alice": "admin", "bob": "user", "vera": "viewer"}
# Of the headers these are what a client of SkyPilot goes by. SkyAuth's answers are all no-store; the server's some.
HEADERS: Final = ("Allow", "Cache-Control", "Content-Type", "Location", "WWW-Authenticate", *(name.title() for name in VERSIONS))
_TIMES: Final = frozenset({"created_at", "last_used_at", "expires_at"})


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it is sent."""

    method: str
    path: str
    headers: tuple[tuple[str, str | bytes], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer without what is new each time. Of the headers, those of HEADERS."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


Send = Callable[[Asked], tuple[int, Mapping[str, str], bytes]]


@dataclass(frozen=True, slots=True)
class Step:
    """One request of a scene, and where SkyAuth differs, why and what it answers."""

    scene: str
    number: int
    written: Mapping[str, Any]

    @property
    def id(self) -> str:
        return f"{self.scene} {self.number}"

    @property
    def differs(self) -> str | None:
        return self.written.get("differs")


@dataclass(frozen=True, slots=True)
class Scene:
    """Requests that follow one another."""

    name: str
    mode: str
    steps: tuple[Step, ...]


def written() -> dict[str, Any]:
    """Return the table as it is written."""
    return dict(yaml.safe_load((DATA / "contract.yaml").read_text(encoding="utf-8")))


def scenes() -> list[Scene]:
    """Return all scenes."""
    found = []
    for scene in written()["scenes"]:
        steps = tuple(Step(scene["name"], number, step) for number, step in enumerate(scene["steps"], start=1))
        found.append(Scene(scene["name"], scene.get("mode", "basic"), steps))
    return found


def recorded() -> dict[str, Answered]:
    """Return what SkyPilot's own server answered, by the step's id."""
    answers = json.loads((DATA / "answers.json").read_text(encoding="utf-8"))["answers"]
    return {name: Answered(**answer) for name, answer in answers.items()}


def play(scene: Scene, send: Send, *, prefix: str = "") -> Iterator[tuple[Step, Answered]]:
    """Send the requests of a scene one after another, each path behind the prefix, and yield each answer, normalised."""
    kept = {name: user_uid(f"{name}@example.com") for name in CAST}
    for step in scene.steps:
        status, headers, raw = send(_asked(step.written, kept, prefix))
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = "<no JSON>"
        for name, key in step.written.get("keep", {}).items():
            assert key in body, f"{step.id}: {status} {raw!r}"
            kept[name] = body[key]
        yield step, Answered(status, _normal(body), _headers(headers, prefix))


def expected(step: Step) -> Answered:
    """Return what SkyAuth answers to a step that differs."""
    answer = step.written["answer"]
    kept = {name: user_uid(f"{name}@example.com") for name in CAST}
    return Answered(answer["status"], _filled(answer["body"], kept), answer.get("headers", {}))


def _asked(step: Mapping[str, Any], kept: Mapping[str, str], prefix: str) -> Asked:
    method, path = step["do"].split(" ", 1)
    headers: dict[str, str | bytes] = {} if step.get("versions") is False else {k.title(): v for k, v in VERSIONS.items()}
    if "body" in step or "raw" in step:
        headers["Content-Type"] = "application/json"
    headers |= {name.title(): value for name, value in step.get("headers", {}).items()}
    headers |= dict(_credential(step, kept))
    body = step["raw"].encode() if "raw" in step else json.dumps(_filled(step["body"], kept)).encode() if "body" in step else b""
    behind = "" if path.startswith("/internal/dashboard") else prefix
    return Asked(method, behind + path, tuple(headers.items()), body)


def _credential(step: Mapping[str, Any], kept: Mapping[str, str]) -> Iterator[tuple[str, str | bytes]]:
    who = step.get("as")
    if "basic" in step:
        yield basic(*step["basic"].split(":", 1))
    elif who in CAST:
        yield basic(f"{who}@example.com", PASSWORD)
    elif who != "nobody":
        yield bearer(kept[str(who)])


def _filled(value: Any, kept: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return re.sub(r"\{(\w+)\}", lambda found: kept.get(found[1], found[0]), value)
    if isinstance(value, list):
        return [_filled(item, kept) for item in value]
    return {name: _filled(item, kept) for name, item in value.items()} if isinstance(value, dict) else value


def _normal(value: Any) -> Any:
    """Return a body without what differs from one time to the next, and without what a 422 repeats of the request."""
    if isinstance(value, str):
        return re.sub(r"\$2b\$04\$[./0-9A-Za-z]{53}", "<hash>", re.sub(r"sa-[0-9a-f]{16}", "<sa>", value))
    if isinstance(value, list):
        items = [_normal(item) for item in value]
        named = items and all(isinstance(item, dict) and "name" in item for item in items)
        return sorted(items, key=lambda item: str(item["name"])) if named else items
    if not isinstance(value, dict):
        return value
    return {name: _field(name, item) for name, item in value.items() if name != "input"}


def _field(name: str, value: Any) -> Any:
    if name in _TIMES and isinstance(value, int | float):
        days = round((value - time.time()) / 86_400)
        return f"<in {days} days>" if name == "expires_at" else "<time>"
    if name == "token_id":
        return "<token id>"
    if name == "token":
        return "<token>"
    if name == "message" and isinstance(value, str) and "client version" in value:
        return "<text>"
    if name == "password" and isinstance(value, str):
        return "<hash>"
    return _normal(value)


def _headers(headers: Mapping[str, str], prefix: str) -> dict[str, str]:
    found = {name.title(): value for name, value in headers.items()}
    kept = {name: found[name] for name in map(str.title, HEADERS) if name in found}
    if "Location" in kept:
        kept["Location"] = re.sub(r"\Ahttp://[^/]+", "", kept["Location"]).removeprefix(prefix)
    return kept
