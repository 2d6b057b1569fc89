"""Reads typed settings from the environment, and collects their documentation for docs/settings.md."""

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

# A name with one of these prefixes that is not a setting is probably misspelt. It is refused, not ignored.
_PREFIXES: Final = ("AUTH_", "AUDIT_", "RBAC_", "TOKEN_", "TRUSTED_", "ENABLE_", "SESSION_", "ALLOWED_", "ASSERTION_")
# Kubernetes sets these variables in every container if a Service has a name such as auth or token.
_INJECTED: Final = re.compile(r"_(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT(?:_.*)?)\Z")


@dataclass(frozen=True, slots=True)
class Setting:
    """The documentation of a setting; `kind` describes its values, and `default` is text."""

    name: str
    kind: str
    default: str
    meaning: str
    section: str


class Environment:
    """Reads settings from the process environment and a `.env` file; the process environment has precedence."""

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
        """Start a section of docs/settings.md."""
        self._section = title

    def text(self, name: str, default: str, meaning: str, *, default_text: str | None = None) -> str:
        """Return a text setting; `default_text` describes the default in the documentation."""
        self._note(name, "text", default if default_text is None else default_text, meaning)
        return str(self._env.str(name, default=default)).strip()

    def flag(self, name: str, default: bool, meaning: str) -> bool:
        """Return a boolean setting. Raises ImproperlyConfigured."""
        self._note(name, "true or false", str(default).lower(), meaning)
        raw = self._env.str(name, default=str(default)).strip().lower()
        if raw not in {"true", "false", "1", "0", "yes", "no", "on", "off"}:
            raise ImproperlyConfigured(f"{name}={raw!r} is neither true nor false. Write {name}=true or {name}=false.")
        return raw in {"true", "1", "yes", "on"}

    def number(self, name: str, default: int, meaning: str, *, least: int = 0) -> int:
        """Return an integer setting of at least `least`. Raises ImproperlyConfigured."""
        self._note(name, f"whole number, at least {least}", str(default), meaning)
        raw = self._env.str(name, default=str(default)).strip()
        if not raw.isascii() or not raw.isdigit() or int(raw) < least:
            raise ImproperlyConfigured(
                f"{name}={raw!r} is not a whole number of at least {least}. Write, for example, {name}={max(default, least)}."
            )
        return int(raw)

    def words(self, name: str, default: Sequence[str], meaning: str) -> list[str]:
        """Return a comma-separated setting."""
        self._note(name, "comma-separated list", ",".join(default), meaning)
        return [word.strip() for word in self._env.str(name, default=",".join(default)).split(",") if word.strip()]

    def choice(self, name: str, default: str, options: Sequence[str], meaning: str) -> str:
        """Return a setting that is one of the options. Raises ImproperlyConfigured."""
        self._note(name, "one of " + ", ".join(options), default, meaning)
        raw = self._env.str(name, default=default).strip()
        if raw not in options:
            raise ImproperlyConfigured(f"{name}={raw!r} is not allowed. Choose one of: {', '.join(options)}.")
        return str(raw)

    def parsed(
        self, name: str, kind: str, default: str, meaning: str, parse: Callable[[str], T], *, default_text: str | None = None
    ) -> T:
        """Return a setting that `parse` converts; the message of its ValueError is shown. Raises ImproperlyConfigured."""
        self._note(name, kind, default if default_text is None else default_text, meaning)
        raw = self._env.str(name, default=default).strip()
        try:
            return parse(raw)
        except ValueError as error:
            raise ImproperlyConfigured(f"{name} cannot be used: {error}") from None

    def database(self, name: str, default: str, meaning: str, *, default_text: str) -> dict[str, Any]:
        """Return the database at a URL as an entry of DATABASES. Raises ImproperlyConfigured, without the URL."""
        self._note(name, "URL", default_text, meaning)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # the warnings of django-environ contain the URL
                database = dict(self._env.db_url(name, default=default))
        except (environ.ImproperlyConfigured, Warning, ValueError, KeyError):
            database = {}
        if not database.get("ENGINE"):  # the message does not contain the value, which can contain a password
            raise ImproperlyConfigured(
                f"{name} is not a database URL. Write postgres://user:password@host:5432/name or sqlite:////path/to/file."
            )
        return database

    def unused(self, name: str, reason: str) -> dict[str, str]:
        """Return the reason under the name of a setting that was removed, if it is set; it is accepted, and not documented."""
        self._unused.add(name)
        return {name: reason} if self._env.str(name, default="").strip() else {}

    def refuse_unknown(self) -> None:
        """Raise ImproperlyConfigured for the first name that looks like a setting but is not one."""
        known = {setting.name for setting in self.settings} | self._unused
        suspects = {name for name in os.environ if name.startswith(_PREFIXES) and not _INJECTED.search(name)}
        for name in sorted((self._dotenv_names | suspects) - known):
            similar = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
            if similar or name in self._dotenv_names:
                hint = f" Did you mean {similar[0]}?" if similar else " See docs/settings.md for all settings."
                raise ImproperlyConfigured(f"{name} is not a setting of SkyAuth.{hint}")

    def _note(self, name: str, kind: str, default: str, meaning: str) -> None:
        self.settings.append(Setting(name, kind, default, " ".join(meaning.split()), self._section))
