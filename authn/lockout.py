"""Locks out brute force: counts wrong passwords with django-axes, by the pair of name and client address.

Somebody at another address therefore cannot lock a user out. A cached password, a session and a token are not affected. A
second limit counts the failures of one address over all names, against password spraying. The limits are settings
(`skyauth/configuration.py`, the names that start with AUTH_FAILURE and AUTH_COOL_OFF).
"""

import ipaddress
from typing import Any

from axes.handlers.proxy import AxesProxyHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.db.models import Sum
from django.http import HttpRequest
from django.utils import timezone


def client_address(request: HttpRequest) -> str:
    """Return the address that axes counts by: the one that `_request` sets, never a header's."""
    return str(request.META.get("REMOTE_ADDR", ""))


def is_locked_out(username: str, client: str) -> bool:
    """Return whether this name from this address, or this address with any names, has failed too often in AXES_COOLOFF_TIME."""
    if not AxesProxyHandler.is_allowed(_request(client), {"username": username}):
        return True
    since = timezone.now() - settings.AXES_COOLOFF_TIME
    recent = AccessAttempt.objects.filter(ip_address=_counted_address(client), attempt_time__gte=since)
    failures = recent.aggregate(failures=Sum("failures_since_start"))["failures"] or 0
    return bool(failures >= settings.AUTH_FAILURE_LIMIT_PER_ADDRESS)


def count_failure(username: str, client: str) -> None:
    """Count one wrong password."""
    AxesProxyHandler.user_login_failed(sender=__name__, credentials={"username": username}, request=_request(client))


def clear_failures(username: str, client: str) -> None:
    """Delete the failures of this name from this address, and of no other."""
    AccessAttempt.objects.filter(username=username, ip_address=_counted_address(client)).delete()


def _counted_address(client: str) -> str:
    """Return what failures are counted under: an IPv4 address, or a /64 network, all of which one holder of IPv6 can use.

    A peer without an address counts as the unspecified address, because NULL equals nothing and would not be counted.
    """
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return "::"
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((int(address), 64), strict=False).network_address)


def _request(client: str) -> Any:
    """Return a request with the attributes that axes reads."""
    request = HttpRequest()
    request.META["REMOTE_ADDR"] = _counted_address(client)
    request.path = "/"
    request.method = "POST"
    return request
