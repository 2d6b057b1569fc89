"""The sockets on which the server listens: a TCP address, a Unix socket, or sockets that a service manager passes to it."""

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_FIRST_INHERITED: Final = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class ListenError(Exception):
    """The server cannot listen. The message says where and why."""


def inherited() -> list[socket.socket]:
    """Return the listening sockets that a service manager passed to this process, and none if it passed none.

    The protocol is systemd's (sd_listen_fds(3)): LISTEN_PID is the process, LISTEN_FDS the number of sockets, from descriptor 3
    on. The variables are removed, so that no child process reads them. Raises ListenError.
    """
    process, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if process != str(os.getpid()):
        return []
    if not count.isascii() or not count.isdigit() or not 1 <= int(count) <= 64:
        raise ListenError(f"LISTEN_FDS={count!r} is not a number of sockets from 1 to 64.")
    return [_inherited(number) for number in range(_FIRST_INHERITED, _FIRST_INHERITED + int(count))]


def _inherited(number: int) -> socket.socket:
    try:
        inherited = socket.socket(fileno=number)
        listening = inherited.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ListenError(f"Descriptor {number}, which the service manager passed, is not a socket: {error.strerror}.") from None
    if not listening or inherited.family not in _FAMILIES:
        raise ListenError(f"Descriptor {number}, which the service manager passed, is not a listening stream socket.")
    inherited.set_inheritable(False)
    return inherited


def tcp(host: str, port: int) -> list[socket.socket]:
    """Return a socket for each address of a host, bound to the port. `::` includes all IPv4 addresses. Raises ListenError."""
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listener = socket.socket(family, kind, protocol)
            bound.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
            listener.bind(address)
    except OSError as error:
        for listener in bound:
            listener.close()
        raise ListenError(f"{_address(host, port)} cannot be used: {(error.strerror or str(error)).lower()}.") from None
    return bound


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@contextmanager
def unix(path: Path, mode: int) -> Iterator[list[socket.socket]]:
    """Yield a Unix socket at the path, whose file has the mode, for as long as the block lasts. Raises ListenError.

    Who can write to the file can connect. A file that a killed server left is replaced.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        previous = os.umask(0o777 & ~mode)  # so that the file never has another mode
        try:
            listener.bind(str(path))
        finally:
            os.umask(previous)
        path.chmod(mode)
        listener.listen()  # at once, because another server takes a socket on which nobody listens for stale
        own = path.stat()
    except OSError as error:
        listener.close()
        raise ListenError(f"The socket {path} cannot be used: {(error.strerror or str(error)).lower()}.") from None
    try:
        yield [listener]
    finally:
        with suppress(OSError):
            if os.path.samestat(path.lstat(), own):  # not the file of a server that has replaced this one
                path.unlink()


def _remove_stale(path: Path) -> None:
    """Remove the file of a Unix socket on which nobody listens. Raises OSError if somebody does, or if it is another file."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise FileExistsError(errno.EEXIST, "the file exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise OSError(errno.EADDRINUSE, "address already in use")


def describe(listener: socket.socket, *, tls: bool) -> str:
    """Return where a socket listens, for the log."""
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"{'https' if tls else 'http'}://{_address(name[0], name[1])}"
