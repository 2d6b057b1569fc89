"""Checks of the files that hold secrets: no other user of the machine can read them."""

import stat
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections

from doctor.finding import Check, Finding


def secret_key(check: Check) -> Iterable[Finding]:
    return _readable(check, settings.DATA_DIR / "secret_key")


def sqlite_file(check: Check) -> Iterable[Finding]:
    if connections[DEFAULT_DB_ALIAS].vendor == "sqlite":
        yield from _readable(check, Path(str(settings.DATABASES[DEFAULT_DB_ALIAS]["NAME"])))


def _readable(check: Check, path: Path) -> Iterable[Finding]:
    if path.is_file() and _open_to_others(path):
        yield check.finding(f"Other users of this machine can read {path}.", f"Run: chmod 700 {path.parent}")


def _open_to_others(path: Path) -> bool:
    """Return whether another user can read the file: by its own mode, and by those of all directories above it."""
    readable = path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)
    return bool(readable) and all(folder.stat().st_mode & (stat.S_IXGRP | stat.S_IXOTH) for folder in path.resolve().parents)
