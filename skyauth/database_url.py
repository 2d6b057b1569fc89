"""Reads DATABASE_URL. Every part of it has an effect or is refused by its name; no message contains the URL or a part of it."""

import re
import warnings
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import environ
from psycopg.pq import Conninfo

from skyauth import parsers

_WRITE: Final = "Write postgres://user:password@host:5432/name or sqlite:////path/to/file."
SQLITE: Final = "django.db.backends.sqlite3"
_POSTGRESQL: Final = "django.db.backends.postgresql"
# Parameters of libpq that SkyAuth decides, and where to set them instead.
_DECIDED: Final = {
    "connect_timeout": "Set DATABASE_TIMEOUT instead.",
    "client_encoding": "SkyAuth always uses UTF-8.",
    "dbname": "Write the name of the database after the host.",
    "replication": "SkyAuth needs an ordinary connection.",
}
_PARTS: Final = {"user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
_OPTION_NAME: Final = re.compile(r"[A-Za-z_]{1,40}\Z")


def parse(url: str, base: Path) -> dict[str, Any]:
    """Return the database as an entry of DATABASES. Raises ValueError.

    The path of an SQLite file is relative to `base`. NAME has no symbolic links; LINK is the path with them, if any.
    """
    options: dict[str, str] = {}
    try:
        options = {} if "@" in (query := urlsplit(url).query) else _query(query)  # @: a password with an unescaped ?
        bare = url.partition("?")[0].replace("+", "%2B")  # django-environ would take a plus sign in a name for a space
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # the warnings of django-environ contain the URL
            database = dict(environ.Env.db_url_config(bare))
    except _OptionError:
        raise
    except (environ.ImproperlyConfigured, Warning, ValueError, KeyError):
        database = {}
    engine = database.get("ENGINE")
    # An @ after the host: a password with an unescaped @ and /, whose middle would be taken for the host, and logged.
    if not engine or re.search(r"[#\s]|\?.*@", url) or (engine == _POSTGRESQL and re.search(r"//[^/]*/.*@", url)):
        raise ValueError(f"is not a database URL. {_WRITE} Write #, /, @ and spaces in a password as %23, %2F, %40 and %20.")
    if database["ENGINE"] not in {SQLITE, _POSTGRESQL}:
        raise ValueError("must name SQLite (sqlite:////path/to/file) or PostgreSQL (postgres://user:password@host:5432/name).")
    if database["ENGINE"] == SQLITE:
        return _sqlite(database, options, base)
    return _postgresql(database, options)


class _OptionError(ValueError):
    """An option of the URL cannot be used."""


def _query(query: str) -> dict[str, str]:
    """Return the options of a URL. Raises _OptionError, with the name of the option."""
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if not _OPTION_NAME.match(name):
            raise _OptionError("contains an option whose name is not a word.")
        if not value:
            raise _OptionError(f"contains the option {name} without a value.")
        if name in options:
            raise _OptionError(f"contains the option {name} twice.")
        options[name] = value
    return options


def _sqlite(database: dict[str, Any], options: dict[str, str], base: Path) -> dict[str, Any]:
    if options:
        raise _OptionError(f"contains the option {min(options)}. SQLite has no options here; DATABASE_TIMEOUT sets the time-out.")
    if database["NAME"] == ":memory:":
        raise ValueError(
            "names no file. Every connection would have an empty database of its own. Write sqlite:////path/to/file."
        )
    link = parsers.absolute(base / database["NAME"])
    path = link.resolve()
    if path.is_dir():
        raise ValueError("names a directory. Write the path of a file: sqlite:////path/to/file.")
    return {**database, "NAME": str(path), "OPTIONS": {}, **({"LINK": str(link)} if link != path else {})}


def _postgresql(database: dict[str, Any], options: dict[str, str]) -> dict[str, Any]:
    known = {option.keyword.decode() for option in Conninfo.get_defaults()}
    for name in sorted(options):
        if name in _DECIDED:
            raise _OptionError(f"contains the option {name}. {_DECIDED[name]}")
        if name not in known:
            raise _OptionError(f"contains the option {name}, which is not a connection parameter of PostgreSQL.")
        if name in _PARTS and database[_PARTS[name]]:
            raise _OptionError(f"contains the {name} twice. Remove the option {name}.")
    if not database["NAME"] and "service" not in options:
        raise ValueError(f"does not contain the name of a database. {_WRITE}")
    return {**database, "OPTIONS": options}
