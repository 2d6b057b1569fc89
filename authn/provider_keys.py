"""The keys of an auth proxy's signed assertions: the JSON Web Key Set (RFC 7517) of AUTH_JWT_JWKS, and which keys are used."""

import http.client
import json
import logging
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from authn.jwt_keys import LEAST_BITS
from core.text import clean

logger = logging.getLogger("skyauth.sso")

_OF_TYPE: Final = {  # by the type of a key and its curve (RFC 7518 section 6.1, RFC 8037 section 2)
    "RSA": frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
    "EC P-256": frozenset({"ES256"}),
    "EC P-384": frozenset({"ES384"}),
    "EC P-521": frozenset({"ES512"}),
    "OKP Ed25519": frozenset({"EdDSA"}),
}
ASYMMETRIC: Final = frozenset().union(*_OF_TYPE.values())

_MAX_SHOWN: Final = 60
_FETCH_SECONDS: Final = 5  # a provider that sends its answer byte by byte holds a request for no longer
_MAX_BYTES: Final = 1_048_576  # key sets have a few kB
_REFRESH_SECONDS: Final = 30  # unknown key ids, which any client can send, cause at most one fetch in this time
_RETRY_SECONDS: Final = 5  # after a fetch that failed, while there are no keys that can be used
_PATIENCE_SECONDS: Final = 0.5  # a request that waits for another's fetch holds a thread that could serve others
_FRESH_SECONDS: Final = 300  # after that, the keys are read again; a failure changes nothing before _MAX_AGE_SECONDS
_MAX_AGE_SECONDS: Final = 600  # for so long a key that the provider has withdrawn can still be accepted


class KeysUnavailable(Exception):
    """The key set cannot be read: a failure of SkyAuth (503), not of the credential. The message says why."""


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """A public key: its id, or "" if it has none, and the algorithms that it can verify."""

    key_id: str
    algorithms: frozenset[str]
    public: Any


class KeyContent(NamedTuple):
    """The keys of a key set that SkyAuth uses, and for those that it must not use the id with the reason."""

    keys: tuple[ProviderKey, ...]
    unsafe: tuple[str, ...]


class KeySet:
    """The configured keys, read at first use, after _FRESH_SECONDS, and for an unknown key id."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._keys: tuple[ProviderKey, ...] = ()
        self._read_at = self._tried_at = float("-inf")

    def find(self, key_id: str | None, algorithm: str, *, besides: tuple[ProviderKey, ...] = ()) -> tuple[ProviderKey, ...]:
        """Return the keys of that id that can verify the algorithm; mostly one or none.

        `besides` are keys that did not fit, so there may be newer ones of that id. Raises KeysUnavailable.
        """
        found = self._get(key_id, algorithm)  # without the lock: a slow fetch does not delay requests whose key is cached
        known = bool(found) and found != besides and self._age() < _MAX_AGE_SECONDS + _FETCH_SECONDS
        if known and self._age() < _FRESH_SECONDS:
            return found
        if not self._lock.acquire(timeout=0 if known else _PATIENCE_SECONDS):
            if known:
                return found  # too old only by the time that the current fetch takes
            raise KeysUnavailable("The key set of AUTH_JWT_JWKS is being read.")
        try:
            found = self._get(key_id, algorithm)
            if not found or found == besides or self._age() >= _FRESH_SECONDS:
                try:
                    self._refresh()
                except KeysUnavailable as error:
                    if not known or self._age() >= _MAX_AGE_SECONDS:
                        raise
                    logger.warning("%s The keys that were read %d seconds ago are used.", error, self._age())
            if self._age() >= _MAX_AGE_SECONDS:
                raise KeysUnavailable("The key set of AUTH_JWT_JWKS could not be read lately.")
            return self._get(key_id, algorithm)
        finally:
            self._lock.release()

    def _get(self, key_id: str | None, algorithm: str) -> tuple[ProviderKey, ...]:
        """Return the keys of that id; the only key for the algorithm where the assertion names none, or the key has none.

        Several keys can have one id (RFC 7517 section 4.5).
        """
        usable = [key for key in self._keys if algorithm in key.algorithms]
        named = tuple(key for key in usable if key_id and key.key_id == key_id)
        if not named and len(usable) == 1 and not (key_id and usable[0].key_id):
            return (usable[0],)
        return named

    def _age(self) -> float:
        return time.monotonic() - self._read_at

    def _refresh(self) -> None:
        """Read the keys, unless that was tried just now. Raises KeysUnavailable."""
        pause = _REFRESH_SECONDS if self._age() < _MAX_AGE_SECONDS else _RETRY_SECONDS
        if time.monotonic() - self._tried_at >= pause:
            self._tried_at = time.monotonic()
            self._keys = read(self._source).keys
            self._read_at = time.monotonic()


@lru_cache(maxsize=4)
def key_set(source: str) -> KeySet:
    """Return the key set of a source, a URL or a path. Each process has one."""
    return KeySet(source)


def read(source: str) -> KeyContent:
    """Read a key set. Raises KeysUnavailable for a set without a usable key. A fault in one key costs this key alone."""
    keys: list[ProviderKey] = []
    unsafe: list[str] = []
    for member in _members(_text(source)):
        algorithms = _algorithms(member) if isinstance(member, dict) else frozenset()
        if not algorithms:
            continue
        key_id = member.get("kid") or ""
        shown = clean(key_id, _MAX_SHOWN) if key_id else "a key without an id"
        if "d" in member:
            unsafe.append(f"{shown} (a private key, with which anyone who reads it can sign in as any user)")
        elif (public := _public(member, algorithms)) is None:
            continue
        elif isinstance(public, RSAPublicKey) and public.key_size < LEAST_BITS:
            unsafe.append(f"{shown} (an RSA key of {public.key_size} bits, fewer than {LEAST_BITS})")
        else:
            keys.append(ProviderKey(key_id, algorithms, public))
    if not keys:
        raise _unreadable(f"it has no key that SkyAuth can use{': ' if unsafe else ''}{', '.join(unsafe)}")
    return KeyContent(tuple(keys), tuple(unsafe))


def is_url(source: str) -> bool:
    """Return whether AUTH_JWT_JWKS is a URL, and not a path."""
    return source.startswith(("https://", "http://"))


def _unreadable(reason: str) -> KeysUnavailable:
    return KeysUnavailable(f"The key set of AUTH_JWT_JWKS cannot be read: {reason}.")


def _text(source: str) -> bytes:
    """Return the content of the file or the URL. Raises KeysUnavailable, which never quotes the URL: it can contain a secret."""
    try:
        return _fetched(source) if is_url(source) else Path(source).read_bytes()
    except urllib.error.HTTPError as error:
        error.close()
        final = "; SkyAuth follows no redirect, so set the final URL" if 300 <= error.code < 400 else ""
        raise _unreadable(f"the server answers {error.code}{final}") from None
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)  # what the URLError is about
        name = "time-out" if isinstance(cause, TimeoutError) else type(cause).__name__
        raise _unreadable(getattr(cause, "strerror", None) or name) from None
    except ValueError:
        raise _unreadable("the URL or the path is malformed") from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it can lead to the keys of another server, or to a connection without TLS."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _fetched(url: str) -> bytes:
    """Return the body of a response. Raises OSError, HTTPException, KeysUnavailable, and ValueError for a malformed URL."""
    ends_at = time.monotonic() + _FETCH_SECONDS
    body = b""
    with urllib.request.build_opener(_NoRedirect).open(url, timeout=_FETCH_SECONDS) as response:
        while chunk := response.read1(65_536):
            body += chunk
            if len(body) > _MAX_BYTES:
                raise _unreadable(f"it has more than {_MAX_BYTES:,} bytes")
            if time.monotonic() > ends_at:
                raise TimeoutError
    return body


def _members(text: bytes) -> list[Any]:
    """Return the list of keys in a key set (RFC 7517 section 5). Raises KeysUnavailable."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        raise _unreadable("it is not JSON") from None
    members = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(members, list):
        raise _unreadable("it is not a JSON Web Key Set, which is an object with a list of keys")
    return members


def _algorithms(key: dict[str, Any]) -> frozenset[str]:
    """Return the algorithms for which a key verifies signatures; none for a key of another type or use, or with an odd id."""
    type_, algorithm = key.get("kty"), key.get("alg")
    operations = key.get("key_ops") or ["verify"]
    signs = isinstance(operations, list) and ("verify" in operations or "sign" in operations)
    if not signs or key.get("use") not in (None, "sig") or not isinstance(key.get("kid"), str | None):
        return frozenset()
    of_type = _OF_TYPE.get("RSA" if type_ == "RSA" else f"{type_} {key.get('crv')}", frozenset())
    return frozenset(name for name in of_type if algorithm in (None, name))


def _public(key: dict[str, Any], algorithms: frozenset[str]) -> Any:
    """Return the public key, or None if it is malformed."""
    try:
        return jwt.PyJWK(key, min(algorithms)).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, KeyError):
        return None
