"""Parsers of settings: each returns the value, or raises a ValueError that says what to write instead."""

import re
import secrets
from pathlib import Path
from typing import Final

from django.core.exceptions import ImproperlyConfigured

_KEY_LENGTH: Final = 32
_HOST: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._\-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])"
_PORT: Final = r"(?::(?P<port>[0-9]{1,5}))?"
_ORIGIN: Final = re.compile(rf"(?P<scheme>https?)://(?P<host>{_HOST}){_PORT}/?\Z", re.IGNORECASE)
_SERVER: Final = re.compile(rf"https?://{_HOST}\.?{_PORT}(?:/[^\s?#@]*)?\Z", re.IGNORECASE)
_ALLOWED_HOST: Final = re.compile(rf"(?:\*|\.?{_HOST})\Z")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def data_dir(text: str, base: Path) -> Path:
    """Return the directory, relative to `base`. Raises ValueError."""
    if text.startswith(("~", "$")):
        raise ValueError("SkyAuth does not replace ~ or $ in a path. Write the whole path, such as /var/lib/skyauth.")
    return absolute(base / text)


def absolute(path: Path) -> Path:
    """Return the path with its symbolic links, unless `..` is in it, whose meaning depends on them."""
    return path.resolve() if ".." in path.parts else path.absolute()


def make_data_dir(directory: Path) -> None:
    """Create DATA_DIR, readable only by its owner, unless it exists. Raises ImproperlyConfigured."""
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except FileExistsError:
        raise ImproperlyConfigured(f"DATA_DIR cannot be used: {directory} is not a directory.") from None
    except OSError as error:
        raise ImproperlyConfigured(f"DATA_DIR cannot be used: {directory}: {error.strerror}.") from None


def secret_key(text: str, directory: Path, *, generate: bool) -> str:
    """Return the key, or, with `generate`, one that is generated on first use and stored in `directory`, for its owner only.

    Raises ValueError and ImproperlyConfigured.
    """
    if text:
        if len(text) < _KEY_LENGTH:
            raise ValueError(
                f"cannot be used: it is shorter than {_KEY_LENGTH} characters. Generate one with: openssl rand -base64 48"
            )
        return text
    if not generate:
        raise ValueError(
            "must be set with PostgreSQL, to the same key on every replica. Generate one with: openssl rand -base64 48. "
            f"If SkyAuth has run here without it, its key is in {directory / 'secret_key'}."
        )
    make_data_dir(directory)
    path = directory / "secret_key"
    try:
        if not path.exists():
            _store_new_key(path)
        key = path.read_bytes().decode("ascii", "replace").strip()
    except OSError as error:
        raise ValueError(f"is not set, and the generated key cannot be read or stored: {path}: {error.strerror}.") from None
    if len(key) < _KEY_LENGTH or not key.isascii():
        raise ValueError(f"is not set, and {path} does not contain a key. Restore this file, or delete it for a new key.")
    return key


def secret_keys(text: str) -> list[str]:
    """Return the keys of a text, which are separated by white space. Raises ValueError."""
    keys = text.split()
    if any(len(key) < _KEY_LENGTH for key in keys):
        raise ValueError(f"cannot be used: one of the keys is shorter than {_KEY_LENGTH} characters.")
    return keys


def _store_new_key(path: Path) -> None:
    """Store a new key, unless another process does so first. A hard link is atomic: no process reads an incomplete key."""
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    temporary.touch(mode=0o600, exist_ok=False)
    try:
        temporary.write_text(secrets.token_urlsafe(48), encoding="ascii")
        path.hardlink_to(temporary)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def public_url(text: str) -> str:
    """Return an origin as browsers send it: in lower case, without the default port. Raises ValueError."""
    match = _ORIGIN.match(text)
    if match is None or not _is_port(match["port"]):
        raise ValueError(f"{_shown(text)} is not an origin. Write only scheme and host, such as https://auth.example.com.")
    scheme, host = match["scheme"].lower(), match["host"].lower()
    port = f":{int(match['port'])}" if match["port"] and int(match["port"]) != _DEFAULT_PORTS[scheme] else ""
    return f"{scheme}://{host}{port}"


def host_of(origin: str) -> str:
    """Return the host of an origin as the Host header has it: an IPv6 address in brackets."""
    match = _ORIGIN.match(origin)
    return match["host"] if match else ""


def server_url(text: str) -> str:
    """Return the address of a server without the final slash, or an empty text. Raises ValueError."""
    match = _SERVER.match(text)
    if text and (match is None or not _is_port(match["port"])):
        raise ValueError(
            f"{_shown(text)} is not the address of a server. Write scheme, host and port, such as http://127.0.0.1:46580."
        )
    return text.rstrip("/")


def url_or_path(text: str, base: Path) -> str:
    """Return an http or https URL as it is, and a path as an absolute one; an empty text stays empty. Raises ValueError."""
    scheme, is_url, rest = text.partition("://")
    if not is_url:
        return str(base / text) if text else ""
    if scheme.lower() not in _DEFAULT_PORTS:
        raise ValueError("it is neither an https URL nor the path of a file. Write one of them.")
    return f"{scheme.lower()}://{rest}"


def separator(text: str) -> str:
    """Return the character that separates groups. Raises ValueError."""
    if text == "space":
        return " "
    if len(text) != 1 or not text.isascii() or not text.isprintable() or text.isalnum():
        raise ValueError("must be one character that is no letter or digit, such as , ; or |. Or write the word space.")
    return text


def allowed_host(text: str) -> str:
    """Return a name for ALLOWED_HOSTS. Raises ValueError for one that no Host header can match."""
    if not _ALLOWED_HOST.match(text):
        raise ValueError(f"{_shown(text)} is not a host name. Write names without scheme and port, separated by commas.")
    return text


def _is_port(text: str | None) -> bool:
    return text is None or 0 < int(text) < 65_536


def _shown(text: str) -> str:
    """Return a value as an error message shows it: never a URL with a password."""
    return "A value with @" if "@" in text else repr(text)


def metrics_token(text: str) -> str:
    """Return the token for /metrics, or "". Raises ValueError, never with the token."""
    if text and (len(text) < _KEY_LENGTH or not text.isascii() or any(char.isspace() for char in text)):
        raise ValueError(f"must have at least {_KEY_LENGTH} ASCII characters and no space. Create one: openssl rand -hex 32")
    return text
