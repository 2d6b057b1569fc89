"""The shared credential of AUTH_STRING: htpasswd lines, each a name and a password hash that several people share."""

from functools import lru_cache

from django.conf import settings
from passlib.apache import HtpasswdFile


@lru_cache(maxsize=8)
def htpasswd(text: str) -> HtpasswdFile:
    """Return the parsed lines of AUTH_STRING. Raises ValueError when a line is none."""
    return HtpasswdFile.from_string("\n".join(text.split()))


def shared_hash(username: str) -> str | None:
    """Return the hash of the shared credential of that name, or None."""
    lines = htpasswd(settings.AUTH_STRING) if settings.AUTH_STRING else None
    # libpass raises for what cannot be a name, such as one with a colon, so it is asked for those that are there alone
    stored = lines.get_hash(username) if lines is not None and username in lines.users() else None
    return stored.decode("ascii") if isinstance(stored, bytes) else stored
