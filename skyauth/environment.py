"""Reads typed settings from the environment, and collects their documentation for docs/settings.md."""

import difflib
import os
import re
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import environ
from django.core.exceptions import ImproperlyConfigured

from skyauth import dotenv

T = TypeVar("T")

# Prefixes of SkyAuth alone: a name that begins with one of them and is not a setting is refused.
_OURS: Final = ("ASSERTION_", "AUDIT_", "RBAC_", "SKYAUTH_", "TRUSTED_")
# Other programs have variables with these prefixes, too, such as AUTH_SECRET, SESSION_MANAGER or TOKEN. A name is refused if its
# first two words are those of a setting, such as AUTH_JWT_URL, or if it is similar to a setting.
_PARTLY_OURS: Final = ("ALLOWED_", "AUTH_", "ENABLE_", "METRICS_", "SESSION_", "TOKEN_")
# Most variables with these prefixes are those of other programs. Only a name that differs in a letter or two is refused.
_SHARED: Final = ("CLI_", "DATA_", "DATABASE_", "DEBUG", "LOG_", "PUBLIC_", "RECENT_", "SECRET", "SKYPILOT_")
# Kubernetes sets these variables in every container if a Service has a name such as skyauth, auth or token.
_INJECTED: Final = re.compile(r"_(?:SERVICE_HOST|SERVICE_PORT(?:_.*)?|PORT(?:_.*)?)\Z")
_OF_CLIENTS: Final = frozenset({"SKYAUTH_TOKEN", "SKYAUTH_URL"})  # as the dashboard and the documentation name them


@dataclass(frozen=True, slots=True)
class Setting:
    """The documentation of a setting; `kind` describes its values, and `default` is text."""

    name: str
    kind: str
    default: str
    meaning: str
    section: str


class _Literal(Mapping[str, str]):
    r"""Variables whose values django-environ returns as they are: with escape_proxy, it replaces `\$` by `$`.

    Without it, a value that begins with `$`, such as a generated SECRET_KEY, would be the name of another variable.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def __getitem__(self, name: str) -> str:
        return self._variables[name].replace("$", r"\$")

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)


class Environment:
    """Reads settings from the process environment and a `.env` file; the process environment has precedence."""

    def __init__(self, dotenv_file: Path) -> None:
        self.settings: list[Setting] = []
        self._section = ""
        self._unused: set[str] = set()
        try:
            self._dotenv = dotenv.read(dotenv_file)
        except dotenv.DotenvError as error:
            raise ImproperlyConfigured(str(error)) from None
        self._running: dict[str, str] = {}
        self._env = environ.Env()
        self._env.ENVIRON = _Literal(ChainMap(os.environ, self._running, self._dotenv))
        self._env.escape_proxy = True

    def read_running(self, path: Path) -> list[str]:
        """Read the settings that a running `make run` wrote to a file, between `.env` and the process environment.

        So the commands beside it, `doctor` above all, see the settings of its server. Returns the names that have another value
        than without the file. Raises ImproperlyConfigured.
        """
        try:
            values = dotenv.read_while_locked(path)
        except dotenv.DotenvError as error:
            raise ImproperlyConfigured(str(error)) from None
        without = ChainMap(os.environ, self._dotenv)
        names = sorted(name for name, value in values.items() if name not in os.environ and without.get(name) != value)
        self._running.update(values)
        return names

    def section(self, title: str) -> None:
        """Start a section of docs/settings.md."""
        self._section = title

    def text(self, name: str, default: str, meaning: str, *, verbatim: bool = False, optional: bool = False) -> str:
        """Return a text setting. Raises ImproperlyConfigured.

        `verbatim` is for texts in which any character has a meaning, `optional` for those in which an empty value has one.
        """
        self._note(name, "text", default, meaning)
        return self._read(name, default, verbatim=verbatim, optional=optional)

    def secret(self, name: str, kind: str, meaning: str, parse: Callable[[str], T], *, default: str, default_text: str = "") -> T:
        """Return a secret that `parse` converts, from the setting or from the file that NAME_FILE names.

        Raises ImproperlyConfigured, with the message of a ValueError of `parse`, and never with the value.
        """
        self._note(name, kind, default_text, meaning)
        self._note(f"{name}_FILE", "path", "", f"A file that contains {name}, which must then not be set itself.")
        text = self._read_file(name)
        if text is None:
            text = self._read(name, default, verbatim=True)
        try:
            return parse(text)
        except ValueError as error:
            raise ImproperlyConfigured(f"{name} {error}") from None

    def flag(self, name: str, default: bool, meaning: str) -> bool:
        """Return a boolean setting. Raises ImproperlyConfigured."""
        self._note(name, "true or false", str(default).lower(), meaning)
        raw = self._read(name, str(default)).lower()
        if raw not in {"true", "false", "1", "0", "yes", "no", "on", "off"}:
            raise ImproperlyConfigured(f"{name}={raw!r} is neither true nor false. Write {name}=true or {name}=false.")
        return raw in {"true", "1", "yes", "on"}

    def number(self, name: str, default: int, meaning: str, *, least: int = 0, most: int = 1_000_000) -> int:
        """Return an integer setting from `least` to `most`. Raises ImproperlyConfigured."""
        self._note(name, f"whole number, at least {least}", str(default), meaning)
        raw = self._read(name, str(default))
        if not re.fullmatch("[0-9]{1,20}", raw) or int(raw) < least:
            raise ImproperlyConfigured(
                f"{name}={raw!r} is not a whole number of at least {least}. Write, for example, {name}={max(default, least)}."
            )
        if int(raw) > most:
            raise ImproperlyConfigured(f"{name}={raw} is too large. The maximum is {most}.")
        return int(raw)

    def words(self, name: str, default: Sequence[str], meaning: str, *, parse: Callable[[str], str] = str) -> list[str]:
        """Return a comma-separated setting, each word converted as by `parsed`. Raises ImproperlyConfigured."""
        self._note(name, "comma-separated list", ",".join(default), meaning)
        raw = self._read(name, ",".join(default), optional=True)
        try:
            return [parse(word.strip()) for word in raw.split(",") if word.strip()]
        except ValueError as error:
            raise ImproperlyConfigured(f"{name} cannot be used: {error}") from None

    def choice(self, name: str, default: str, options: Sequence[str], meaning: str) -> str:
        """Return a setting that is one of the options. Raises ImproperlyConfigured."""
        self._note(name, "one of " + ", ".join(options), default, meaning)
        raw = self._read(name, default)
        if raw not in options:
            raise ImproperlyConfigured(f"{name}={raw!r} is not allowed. Choose one of: {', '.join(options)}.")
        return raw

    def parsed(
        self,
        name: str,
        kind: str,
        default: str,
        meaning: str,
        parse: Callable[[str], T],
        *,
        default_text: str | None = None,
        verbatim: bool = False,
    ) -> T:
        """Return a setting that `parse` converts; the message of its ValueError is shown. Raises ImproperlyConfigured."""
        self._note(name, kind, default if default_text is None else default_text, meaning)
        raw = self._read(name, default, verbatim=verbatim)
        try:
            return parse(raw)
        except ValueError as error:
            raise ImproperlyConfigured(f"{name} cannot be used: {error}") from None

    def unused(self, name: str, reason: str) -> dict[str, str]:
        """Return the reason under the name of a setting that was removed, if it is set; it is accepted, and not documented."""
        self._unused.add(name)
        return {name: reason} if self._read(name, "", verbatim=True) else {}

    def changed(self) -> frozenset[str]:
        """Return the names of the settings whose text is not that of the default."""
        values = self._env.ENVIRON
        return frozenset(each.name for each in self.settings if values.get(each.name, each.default).strip() != each.default)

    def refuse_unknown(self) -> None:
        """Raise ImproperlyConfigured for the first name that is not a setting, but in `.env`, ours, or similar to a setting."""
        known = {setting.name for setting in self.settings} | self._unused
        plain = {_plain(name): name for name in known}
        for name in sorted(os.environ.keys() - known):  # auth_basic, DATADIR, SKYAUTH_PUBLIC_URL
            if meant := plain.get(_plain(name)):
                raise ImproperlyConfigured(self._unknown(name, [meant]))
        for name in sorted(self._dotenv.keys() - known):
            raise ImproperlyConfigured(self._unknown(name, _nearest(name, known)))
        for name in sorted(os.environ.keys() - known):
            if _is_refused(name, known):
                raise ImproperlyConfigured(self._unknown(name, _nearest(name, known)))

    def _unknown(self, name: str, nearest: list[str]) -> str:
        hint = f"Did you mean {' or '.join(nearest)}?" if nearest else "See docs/settings.md for all settings."
        where = "It is in .env: rename it there, or remove the line."
        if name not in self._dotenv:
            where = "It is set in the environment of this process: rename it there, or remove it."
        return f"{name} is not a setting of SkyAuth. {hint} {where}"

    def _read(self, name: str, default: str, *, optional: bool = False, verbatim: bool = False) -> str:
        """Return the value without spaces around it. Raises ImproperlyConfigured, without the value, if it was quoted wrongly.

        Docker and systemd, unlike a shell, read quotes and comments as a part of the value. An empty value is no value, unless it
        is the default or `optional`.
        """
        value = str(self._env.str(name, default=default)).strip()
        if not value and default and not optional:
            raise ImproperlyConfigured(f"{name} is empty. Write a value, or remove it for the default.")
        if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
            raise ImproperlyConfigured(f"{name} contains the quotes around its value. Remove them where it is set.")
        if any(not char.isprintable() and char not in "\t\r\n" for char in value):
            raise ImproperlyConfigured(f"{name} contains an invisible character. Type the value again.")
        if not verbatim and re.search(r"\s#", value):
            raise ImproperlyConfigured(f"{name} contains a comment, from # on. Remove it where the variable is set.")
        return value

    def _read_file(self, name: str) -> str | None:
        """Return the content of the file that NAME_FILE names, without a line break at its end; None if it names none."""
        path = self._read(f"{name}_FILE", "")
        if not path:
            return None
        if str(self._env.str(name, default="")).strip():
            raise ImproperlyConfigured(f"{name} and {name}_FILE are both set. Remove one of them.")
        try:
            text = Path(path).read_bytes().decode("utf-8").removesuffix("\n").removesuffix("\r")
        except OSError as error:
            raise ImproperlyConfigured(f"{name}_FILE names {path}, which cannot be read: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise ImproperlyConfigured(f"{name}_FILE names {path}, which is not UTF-8 text.") from None
        if not text.strip():
            raise ImproperlyConfigured(f"{name}_FILE names {path}, which is empty.")
        if any(not char.isprintable() and char not in "\t\r\n" for char in text):
            raise ImproperlyConfigured(f"{name}_FILE names {path}, which contains an invisible character. Write the file again.")
        return text

    def _note(self, name: str, kind: str, default: str, meaning: str) -> None:
        self.settings.append(Setting(name, kind, default, " ".join(meaning.split()), self._section))


def _plain(name: str) -> str:
    """Return the name of a variable without what users write differently: case, underscores, and SkyAuth's own name."""
    return name.upper().replace("_", "").removeprefix("SKYAUTH")


def _is_refused(name: str, known: set[str]) -> bool:
    """Return whether a variable of the environment, which is not a setting, can only be meant as one."""
    if _INJECTED.search(name) or name in _OF_CLIENTS:
        return False
    if name.startswith(_OURS):
        return True
    if name.startswith(_PARTLY_OURS):
        return _first_words(name) in map(_first_words, known) or bool(difflib.get_close_matches(name, known, cutoff=0.8))
    return name.startswith(_SHARED) and bool(difflib.get_close_matches(name, known, cutoff=0.9))


def _first_words(name: str) -> tuple[str, ...]:
    return tuple(name.split("_")[:2])


def _nearest(name: str, known: set[str]) -> list[str]:
    """Return the one setting that is surely meant, or up to three whose names are most similar, the nearest first."""
    bare = name.removeprefix("SKYAUTH_")
    return difflib.get_close_matches(bare, known, n=1, cutoff=0.88) or difflib.get_close_matches(bare, known, n=3, cutoff=0.7)
