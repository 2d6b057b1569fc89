"""Checks of the files that hold secrets: no other user of the machine can read or change them."""

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections

from core.private_files import reachable_by_others
from doctor.finding import Check, Finding

_SQLITE_FILES: Final = ("", "-wal", "-shm", "-journal")
_MOUNTS: Final = Path("/proc/self/mountinfo")
_SECRET_LINE: Final = re.compile(
    rb"^\s*(?:export\s+)?(?:SECRET_KEY(?:_FALLBACKS)?|DATABASE_URL|AUTH_STRING|METRICS_TOKEN)=\S", re.MULTILINE
)


def secret_key(check: Check) -> Iterable[Finding]:
    return _open(check, [_key_file()])


def sqlite_file(check: Check) -> Iterable[Finding]:
    """Yield a finding for the database with its journals; SQLite gives them the mode of the database."""
    return _open(check, _database_files())


def other_names(check: Check) -> Iterable[Finding]:
    """Yield a finding if a path with other journals leads to the database, too: its users do not see what others commit."""
    for database in _database_files()[:1]:
        with suppress(OSError):
            if database.stat().st_nlink > 1:
                yield check.finding(
                    f"{database} has another name (a hard link). Programs that use different names damage the database.",
                    "Remove the other name, or replace it by a symbolic link.",
                )
            if str(database) in _mount_points():
                yield check.finding(
                    f"{database} is mounted alone, so the journals beside it are others than those at its source.",
                    "Mount the directory of the database instead.",
                )


def _mount_points() -> set[str]:
    """Return where something is mounted, on Linux. Raises OSError elsewhere."""
    lines = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    return {line.split()[4].replace("\\040", " ") for line in lines}


def data_files(check: Check) -> Iterable[Finding]:
    """Yield a finding for the other files in DATA_DIR, such as backups, exports and keys."""
    try:
        files = sorted(path for path in settings.DATA_DIR.iterdir() if path.is_file())
    except OSError:
        return []
    checked = {path.resolve() for path in [_key_file(), *_database_files()]}
    return _open(check, [path for path in files if path.resolve() not in checked])


def dotenv_file(check: Check) -> Iterable[Finding]:
    """Yield a finding for a `.env` with a secret in it."""
    path = settings.BASE_DIR / ".env"
    with suppress(OSError):
        if path.is_file() and _SECRET_LINE.search(path.read_bytes()):
            return _open(check, [path])
    return []


def _key_file() -> Path:
    return Path(settings.DATA_DIR) / "secret_key"


def _database_files() -> list[Path]:
    if connections[DEFAULT_DB_ALIAS].vendor != "sqlite":
        return []
    name = str(settings.DATABASES[DEFAULT_DB_ALIAS]["NAME"])
    return [Path(f"{name}{ending}") for ending in _SQLITE_FILES]


def _open(check: Check, paths: Iterable[Path]) -> Iterable[Finding]:
    found = [path for path in paths if _reachable(path)]
    if len(found) == 1:
        yield check.finding(f"Other users of this machine can read or change {found[0]}.", f"Run: chmod 600 {found[0]}")
    elif found:
        what = f"Other users of this machine can read or change files in {found[0].parent}"
        yield check.finding(what, "Run chmod 600 on each of them.", names=[path.name for path in found])


def _reachable(path: Path) -> bool:
    """Return whether the file exists and is open to others; a file that vanishes meanwhile, such as a journal, is not."""
    with suppress(OSError):
        return path.is_file() and reachable_by_others(path)
    return False
