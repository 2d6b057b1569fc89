"""The shared password of AUTH_STRING: htpasswd lines, each with a name and a password hash."""

from collections.abc import Iterator
from functools import lru_cache

from django.conf import settings
from passlib.apache import HtpasswdFile


@lru_cache(maxsize=8)
def htpasswd(text: str) -> HtpasswdFile:
    """Return the parsed lines of AUTH_STRING. Raises ValueError, whose message names the line and never a hash."""
    return HtpasswdFile.from_string("\n".join(f"{name}:{hashed}" for name, hashed in _records(text)))


def _records(text: str) -> Iterator[tuple[str, str]]:
    """Yield names and hashes. Several records on one line are separated by spaces.

    As for Apache and nginx, text after `#` is a comment, and so is a third field. In a compose file `$$` stands for `$`; no hash
    begins with two, so one that does is read as what compose would make of it. Raises ValueError.
    """
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        has_comment = False
        for record in line.split():
            if record.startswith("#"):
                break
            name, colon, rest = record.partition(":")
            if not colon and has_comment:
                continue  # the third field has several words
            if not colon or not name:
                raise ValueError(f"line {number} has no name and hash with a colon between them.")
            if name in seen:
                raise ValueError(f"line {number} has the name {name!r} again, as line {seen[name]}.")
            seen[name] = number
            hashed, third, _ = rest.partition(":")
            has_comment = bool(third)
            yield name, hashed.replace("$$", "$") if hashed.startswith("$$") else hashed


def shared_hash(username: str) -> str | None:
    """Return the hash of the shared password with this name, or None."""
    lines = htpasswd(settings.AUTH_STRING) if settings.AUTH_STRING else None
    # libpass raises for an invalid name, such as one with a colon, so only existing names are looked up
    stored = lines.get_hash(username) if lines is not None and username in lines.users() else None
    return stored.decode("ascii") if isinstance(stored, bytes) else stored
