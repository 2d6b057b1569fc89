"""The shared password of AUTH_STRING: htpasswd lines, each with a name and a password hash."""

from functools import lru_cache

from django.conf import settings
from passlib.apache import HtpasswdFile


@lru_cache(maxsize=8)
def htpasswd(text: str) -> HtpasswdFile:
    """Return the parsed lines of AUTH_STRING. Raises ValueError for a malformed line."""
    return HtpasswdFile.from_string("\n".join(text.split()))


def shared_hash(username: str) -> str | None:
    """Return the hash of the shared password with this name, or None."""
    lines = htpasswd(settings.AUTH_STRING) if settings.AUTH_STRING else None
    # libpass raises for an invalid name, such as one with a colon, so only existing names are looked up
    stored = lines.get_hash(username) if lines is not None and username in lines.users() else None
    return stored.decode("ascii") if isinstance(stored, bytes) else stored
