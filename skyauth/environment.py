"""Typed, documented reading of the environment. Every setting passes through here, so the reference cannot miss one."""

import difflib
import os
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import environ
from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")

# A name with one of these beginnings that is no setting is a misspelt one: better refused than silently ignored.
_OURS: Final = ("AUTH_", "AUDIT_", "RBAC_", "TOKEN_", "TRUSTED_", "ENABLE_", "SESSION_", "ALLOWED_", "ASSERTION_")
# What Kubernetes gives every container for a Service named auth, token and the like.
_INJECTED: Final = re.compile(r"_(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT(?:_.*)?)\Z")


@dataclass(frozen=True, slots=True)
class Setting:
    """One documented setting: its environment variable, its kind in words, its default as text, and what it does."""

    name: str
    kind: str
    default: str
    meaning: str
    section: str


class Environment:
    """Reads settings from the process environment and, where it exists, a `.env` file; the process wins."""

    def __init__(self, dotenv: Path) -> None:
        self.settings: list[Setting] = []
        self._section = ""
        self._env = environ.Env()
        self._dotenv_names: set[str] = set()
        self._unused: set[str] = set()
        if dotenv.is_file():
            before = set(os.environ)
            self._env.read_env(str(dotenv))
            self._dotenv_names = {
                line.split("=", 1)[0].removeprefix("export ").strip()
                for line in dotenv.read_text(encoding="utf-8").splitlines()
                if "=" in line and not line.lstrip().startswith("#")
            } | (set(os.environ) - before)

    def section(self, title: str) -> None:
        """Start a section of the reference."""
        self._section = title

    def text(self, name: str, default: str, meaning: str, *, shown: str | None = None) -> str:
        """Return a text setting; `shown` is the default as the reference tells it."""
        self._note(name, "text", default if shown is None else shown, meaning)
        return str(self._env.str(name, default=default)).strip()

    def flag(self, name: str, default: bool, meaning: str) -> bool:
        """Return a yes-or-no setting."""
        self._note(name, "true or false", str(default).lower(), meaning)
        raw = self._env.str(name, default=str(default)).strip().lower()
        if raw not in {"true", "false", "1", "0", "yes", "no", "on", "off"}:
            raise ImproperlyConfigured(f"{name}={raw!r} is neither true nor false. Write {name}=true or {name}=false.")
        return raw in {"true", "1", "yes", "on"}

    def number(self, name: str, default: int, meaning: str, *, least: int = 0) -> int:
        """Return a whole-number setting of at least `least`."""
        self._note(name, f"whole number, at least {least}", str(default), meaning)
        raw = self._env.str(name, default=str(default)).strip()
        if not raw.isascii() or not raw.isdigit() or int(raw) < least:
            raise ImproperlyConfigured(
                f"{name}={raw!r} is not a whole number of at least {least}. Write, say, {name}={max(default, least)}."
            )
        return int(raw)

    def words(self, name: str, default: Sequence[str], meaning: str) -> list[str]:
        """Return a comma-separated setting."""
        self._note(name, "comma-separated list", ",".join(default), meaning)
        return [word.strip() for word in self._env.str(name, default=",".join(default)).split(",") if word.strip()]

    def choice(self, name: str, default: str, options: Sequence[str], meaning: str) -> str:
        """Return a setting that is one of a few words."""
        self._note(name, "one of " + ", ".join(options), default, meaning)
        raw = self._env.str(name, default=default).strip()
        if raw not in options:
            raise ImproperlyConfigured(f"{name}={raw!r} is not known. Write one of: {', '.join(options)}.")
        return str(raw)

    def parsed(
        self, name: str, kind: str, default: str, meaning: str, parse: Callable[[str], T], *, shown: str | None = None
    ) -> T:
        """Return a setting read by `parse`, whose ValueError says what to write."""
        self._note(name, kind, default if shown is None else shown, meaning)
        raw = self._env.str(name, default=default).strip()
        try:
            return parse(raw)
        except ValueError as error:
            raise ImproperlyConfigured(f"{name} cannot be used: {error}") from None

    def database(self, name: str, default: str, meaning: str, *, shown: str) -> dict[str, Any]:
        """Return Django's description of the database at a URL."""
        self._note(name, "URL", shown, meaning)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # django-environ warns of what it ignores, and repeats the URL
                found = dict(self._env.db_url(name, default=default))
        except (environ.ImproperlyConfigured, Warning, ValueError, KeyError):
            found = {}
        if not found.get("ENGINE"):  # the value is not repeated: it may hold a password
            raise ImproperlyConfigured(
                f"{name} is not a database URL. Write postgres://user:password@host:5432/name or sqlite:////path/to/file."
            )
        return found

    def unused(self, name: str, reason: str) -> dict[str, str]:
        """Return the reason under the name of a setting that was removed, if it is set; it is accepted, and not documented."""
        self._unused.add(name)
        return {name: reason} if self._env.str(name, default="").strip() else {}

    def refuse_unknown(self) -> None:
        """Raise ImproperlyConfigured for a name that looks like a setting and is none."""
        known = {setting.name for setting in self.settings} | self._unused
        suspects = {name for name in os.environ if name.startswith(_OURS) and not _INJECTED.search(name)}
        for name in sorted((self._dotenv_names | suspects) - known):
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            if near or name in self._dotenv_names:
                hint = f" Did you mean {near[0]}?" if near else " docs/settings.md lists those that exist."
                raise ImproperlyConfigured(f"{name} is not a setting of SkyAuth.{hint}")

    def _note(self, name: str, kind: str, default: str, meaning: str) -> None:
        self.settings.append(Setting(name, kind, default, " ".join(meaning.split()), self._section))
