"""The canonical form of names and ids: one identity has one spelling (promise 7)."""

import hashlib
import re
import secrets
from typing import Final

MAX_NAME: Final = 254
_PLAIN = re.compile(r"[a-z0-9](?:[a-z0-9._+\-]*[a-z0-9])?\Z")
# RFC 5321 section 4.1.2 dot-string local part, at a domain with at least one dot; no quoting, no comments, no literals.
_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~\-]+"
_LABEL = r"[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?"
_EMAIL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+\Z")
_ACCOUNT = re.compile(r"[a-z][a-z0-9._\-]{0,63}\Z")
ACCOUNT_PREFIX: Final = "sa-"


class BadName(ValueError):
    """The name is invalid; the message says what a valid one looks like."""


def canonical_email(text: str) -> str:
    """Return one e-mail address in lower case. Raises BadName; nothing is trimmed or repaired."""
    lowered = text.lower() if text.isascii() else ""
    if len(text) > MAX_NAME or not _EMAIL.match(lowered):
        raise BadName("An e-mail address is one ASCII address, such as alice@example.com.")
    return lowered


def canonical_username(text: str) -> str:
    """Return a user's name in lower case: an e-mail address, or a plain name such as `alice`. Raises BadName."""
    lowered = text.lower() if text.isascii() else ""
    if len(text) > MAX_NAME or not (_EMAIL.match(lowered) or _PLAIN.match(lowered)):
        raise BadName("A user name is an e-mail address, or has ASCII letters, digits and . _ + -, such as alice.")
    if lowered.startswith(ACCOUNT_PREFIX):
        raise BadName("Names that start with sa- are reserved for service accounts.")
    return lowered


def canonical_account_name(text: str) -> str:
    """Return a service account's name in lower case. Raises BadName."""
    lowered = text.strip().lower() if text.isascii() else ""
    if not _ACCOUNT.match(lowered) or lowered.startswith(ACCOUNT_PREFIX):
        raise BadName(
            "A service account name starts with a letter, but not with sa-, and has up to 64 ASCII letters, digits and . _ -."
        )
    return lowered


def user_uid(username: str, attempt: int = 0) -> str:
    """Return the id of a user: 8 hex digits of MD5, as SkyPilot derives it; `attempt` counts collisions. Not a secret."""
    text = username if attempt == 0 else f"{username}#{attempt}"
    return hashlib.md5(text.encode("utf-8"), usedforsecurity=False).hexdigest()[:8]


def account_uid() -> str:
    """Return a new id of a service account: `sa-` and 16 random hex digits."""
    return f"{ACCOUNT_PREFIX}{secrets.token_hex(8)}"
