"""The addresses of PostgreSQL's host, with a deadline: getaddrinfo has none, and a silent name server would stop all connecting.

A thread asks. While the name server is silent, the addresses of its last answer are used.
"""

import ipaddress
import socket
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Final

import psycopg
from django.conf import settings

_PATIENCE_SECONDS: Final = 1.0  # until the last answer is used; name servers answer in milliseconds

Parameters = dict[str, Any]


class _Query:
    """A question to the name server that is not answered yet. Everybody who asks the same waits for the same answer."""

    def __init__(self, host: str) -> None:
        self.began = time.monotonic()
        self.answer: Future[list[str]] = Future()
        threading.Thread(target=self._ask, args=(host,), name="resolver", daemon=True).start()

    def _ask(self, host: str) -> None:
        try:
            found = socket.getaddrinfo(host, None, proto=socket.IPPROTO_TCP, type=socket.SOCK_STREAM)
            self.answer.set_result([str(entry[4][0]) for entry in found])
        except Exception as error:  # noqa: BLE001 - the waiting threads raise it
            self.answer.set_exception(error)


class Resolver:
    """Returns the addresses of hosts. Any thread can call it; there is at most one thread of its own for each host."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queries: dict[str, _Query] = {}
        self._last: dict[str, list[str]] = {}

    def addresses(self, host: str) -> list[str]:
        """Return the addresses of a host, those of the last answer while there is no new one. Raises OperationalError."""
        last = self._last.get(host)
        with self._lock:
            query = self._queries.get(host)
            if query is None or query.answer.done():
                query = self._queries[host] = _Query(host)
        seconds = _PATIENCE_SECONDS if last else float(settings.DATABASE_TIMEOUT)
        try:
            found = query.answer.result(max(0.0, query.began + seconds - time.monotonic()))
        except FutureTimeoutError:
            if last:
                return last
            raise psycopg.OperationalError(f"the name server did not answer for {host!r} within {seconds:g} seconds") from None
        except OSError as error:
            if last and error.errno == socket.EAI_AGAIN:  # it did not answer
                return last
            raise psycopg.OperationalError(f"failed to resolve host {host!r}: {error}") from None
        self._last[host] = found
        return found


_resolver: Final = Resolver()


def with_addresses(params: Parameters) -> Parameters:
    """Return parameters of a connection in which every host name has its addresses (`hostaddr`), in the same order.

    A host that cannot be resolved is left out if there is another one. Raises OperationalError.
    """
    if not params.get("host") or params.get("hostaddr"):
        return params
    hosts = str(params["host"]).split(",")
    ports = str(params.get("port") or "").split(",")
    ports = ports * len(hosts) if len(ports) == 1 else ports
    found: list[tuple[str, str, str]] = []
    fault: psycopg.Error | None = None
    for host, port in zip(hosts, ports, strict=False):
        try:
            found += [(host, address, port) for address in _addresses(host)]
        except psycopg.OperationalError as error:
            fault = error
    if not found and fault is not None:
        raise fault
    names, addresses, numbers = (",".join(column) for column in zip(*found, strict=True))
    return {**params, "host": names, "hostaddr": addresses, **({"port": numbers} if params.get("port") else {})}


def _addresses(host: str) -> list[str]:
    if not host or host.startswith(("/", "@")):
        return [""]  # a Unix socket
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        return _resolver.addresses(host)
