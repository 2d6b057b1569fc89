"""Policy packs: ready-made route tables, one YAML file each."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from core.errors import Invalid, NotFound

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """A route without position and version, as in a pack, a manifest or an API request."""

    path: str
    methods: tuple[str, ...]
    permission: str
    host: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Pack:
    name: str
    description: str
    routes: tuple[RouteSpec, ...]


def names() -> list[str]:
    """Return the names of the packs that ship with SkyAuth, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str) -> Pack:
    """Return one pack. Raises NotFound with the names that exist."""
    if name not in names():
        raise NotFound(f"There is no policy pack named {name!r}. The packs are: {', '.join(names())}.")
    return _read(name)


@cache  # the files come with the code, and reading YAML takes long
def _read(name: str) -> Pack:
    data = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return Pack(
        data["name"],
        data["description"],
        tuple(read_route(row, f"{name}.yaml, route {n}") for n, row in enumerate(data["routes"], 1)),
    )


def read_route(row: Any, where: str) -> RouteSpec:
    """Return the route that a parsed YAML mapping describes; `where` is its place, for error messages. Raises Invalid."""
    if not isinstance(row, dict):
        raise Invalid(f"{where}: a route is a mapping with path, methods and permission.")
    if unknown := sorted(map(str, row.keys() - {"path", "methods", "permission", "host", "note"})):
        raise Invalid(f"{where}: unknown key {', '.join(unknown)}. The keys are path, methods, permission, host and note.")
    if missing := sorted({"path", "methods", "permission"} - row.keys()):
        raise Invalid(f"{where}: {', '.join(missing)} is missing.")
    methods = row["methods"]
    if not isinstance(methods, list) or not all(isinstance(method, str) for method in methods):
        raise Invalid(f'{where}: methods is a list, such as [GET, HEAD], or ["*"] for any method.')
    texts = {key: row.get(key, "") for key in ("path", "permission", "host", "note")}
    if wrong := sorted(key for key, value in texts.items() if not isinstance(value, str)):
        raise Invalid(f"{where}: {', '.join(wrong)} must be text.")
    return RouteSpec(methods=tuple(methods), **texts)
