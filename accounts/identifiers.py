"""The canonical form of names and ids: one identity has one spelling (promise 7)."""

import hashlib
import re
import secrets
import string
import unicodedata
from typing import Final

MAX_NAME: Final = 254
_PLAIN = re.compile(r"[a-z0-9](?:[a-z0-9._+\-]*[a-z0-9])?\Z")
# RFC 5321 section 4.1.2 dot-string local part, at a domain with at least one dot; no quoting, no comments, no literals.
_ATOM = r"[a-z0-9!#$%&'*+/=?^_`{|}~\-]+"
_LABEL = r"[a-z0-9](?:[a-z0-9\-]{0,61}[a-z0-9])?"
_EMAIL = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+\Z")
# Some providers name users at a host without a dot, such as alice@corp. Upstreams know a service account as NAME@sa-..., so such
# a host is refused for users.
_IDENTITY = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@(?!sa-[^.]*\Z){_LABEL}(?:\.{_LABEL})*\Z")
_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)  # lower() turns the Kelvin sign into k
_ACCOUNT = re.compile(r"[a-z][a-z0-9._\-]{0,63}\Z")
ACCOUNT_PREFIX: Final = "sa-"
# `explain`, the audit log and the preview call a caller without a credential by this name. It is refused for new users and
# service accounts; canonical_username accepts it, so that a user of an older version can sign in.
ANONYMOUS: Final = "anonymous"


class BadName(ValueError):
    """The name is invalid; the message says what a valid one looks like."""


def canonical_email(text: str) -> str:
    """Return one e-mail address in lower case. Raises BadName; nothing is trimmed or repaired."""
    lowered = _lowered(text)
    if not _EMAIL.match(lowered):
        raise BadName("An e-mail address is one ASCII address, such as alice@example.com.")
    return lowered


def canonical_identity(text: str, prefix: str = "") -> str:
    """Return the user name that an identity provider sends: one address, after the prefix of the provider.

    The host of the address can be without a dot. A host outside ASCII is converted to A-labels (RFC 5890). Nothing is trimmed
    or repaired. Raises BadName.
    """
    if not text.startswith(prefix):
        raise BadName(f"An identity starts with {prefix} (AUTH_USER_PREFIX), as in {prefix}alice@example.com.")
    local, at, host = text.removeprefix(prefix).rpartition("@")
    address = _lowered(local + at + ".".join(map(_a_label, host.split("."))))
    if not _IDENTITY.match(address):
        raise BadName(f"An identity is one e-mail address, such as {prefix}alice@example.com.")
    return canonical_username(address)


def contact_address(username: str) -> str:
    """Return the e-mail address of a user with this canonical name, or "" if the name is no address that mail can be sent to."""
    return username if _EMAIL.match(username) else ""


def canonical_username(text: str) -> str:
    """Return a user's name in lower case: an e-mail address, or a plain name such as `alice`. Raises BadName."""
    lowered = _lowered(text)
    if not (_IDENTITY.match(lowered) or _PLAIN.match(lowered)):
        raise BadName("A user name is an e-mail address, or has ASCII letters, digits and . _ + -, such as alice.")
    if lowered.startswith(ACCOUNT_PREFIX):
        raise BadName("Names that start with sa- are reserved for service accounts.")
    return lowered


def new_username(text: str) -> str:
    """Return the canonical name of a user to create. Raises BadName, also for a name that SkyAuth itself uses."""
    return _unreserved(canonical_username(text))


def _unreserved(name: str) -> str:
    if name == ANONYMOUS:
        raise BadName(f"{ANONYMOUS} is the name of callers without a credential. Choose another name.")
    return name


def _lowered(text: str) -> str:
    """Return an ASCII text in lower case; "" for any other text, and for one that is too long."""
    return text.lower() if text.isascii() and len(text) <= MAX_NAME else ""


def _a_label(label: str) -> str:
    """Return the A-label of a label (RFC 5891), or the label itself, which is then refused, if it has none that is unambiguous.

    A label that Unicode considers equal to another one (upper case, compatibility forms such as the Kelvin sign, the German
    sharp s) is never converted, so two names never become one. Only letters, marks, digits and inner hyphens are converted.
    """
    label = label.translate(_LOWER)
    if label.isascii():
        return label
    stable = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold()) == label
    valid = all(c == "-" or unicodedata.category(c)[0] in "LM" or unicodedata.category(c) == "Nd" for c in label)
    if not (stable and valid) or label[0] == "-" or label[-1] == "-" or label[2:4] == "--":
        return label
    return label if unicodedata.category(label[0])[0] == "M" else f"xn--{label.encode('punycode').decode('ascii')}"


def canonical_account_name(text: str) -> str:
    """Return a service account's name in lower case. Raises BadName."""
    lowered = text.strip().lower() if text.isascii() else ""
    if not _ACCOUNT.match(lowered) or lowered.startswith(ACCOUNT_PREFIX):
        raise BadName(
            "A service account name starts with a letter, but not with sa-, and has up to 64 ASCII letters, digits and . _ -."
        )
    return lowered


def new_account_name(text: str) -> str:
    """Return the canonical name of a service account to create. Raises BadName, also for a name that SkyAuth itself uses."""
    return _unreserved(canonical_account_name(text))


def user_uid(username: str, attempt: int = 0) -> str:
    """Return the id of a user: 8 hex digits of MD5, as SkyPilot derives it; `attempt` counts collisions. Not a secret."""
    text = username if attempt == 0 else f"{username}#{attempt}"
    return hashlib.md5(text.encode("utf-8"), usedforsecurity=False).hexdigest()[:8]


def account_uid() -> str:
    """Return a new id of a service account: `sa-` and 16 random hex digits."""
    return f"{ACCOUNT_PREFIX}{secrets.token_hex(8)}"
