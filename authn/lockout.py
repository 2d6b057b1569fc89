"""Brute force: who must wait. Failures are counted by django-axes, for the pair of name and client address.

A stranger elsewhere therefore cannot lock an owner out, and a credential that is remembered, a session or a token is not
asked about at all. A second limit, over all names from one address, stops spraying.
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
    """Return the address that axes counts by. What asks axes has put it there; a header never does."""
    return str(request.META.get("REMOTE_ADDR", ""))


def must_wait(username: str, client: str) -> bool:
    """Return whether this name from this address, or this address at all, has failed too often lately."""
    if not AxesProxyHandler.is_allowed(_request(client), {"username": username}):
        return True
    since = timezone.now() - settings.AXES_COOLOFF_TIME
    recent = AccessAttempt.objects.filter(ip_address=_address(client), attempt_time__gte=since)
    failures = recent.aggregate(failures=Sum("failures_since_start"))["failures"] or 0
    return bool(failures >= settings.AUTH_FAILURE_LIMIT_PER_ADDRESS)


def count_failure(username: str, client: str) -> None:
    """Count one wrong password."""
    AxesProxyHandler.user_login_failed(sender=__name__, credentials={"username": username}, request=_request(client))


def forgive(username: str, client: str) -> None:
    """Forget the failures of this name from this address, and of no other, after a good password."""
    AccessAttempt.objects.filter(username=username, ip_address=_address(client)).delete()


def _address(client: str) -> str:
    """Return what failures are counted under: an IPv4 address, or the /64 network that one holder of IPv6 has to choose from.

    A peer without an address counts as the unspecified one: NULL would equal nothing, and so count nothing.
    """
    try:
        address = ipaddress.ip_address(client.partition("%")[0])
    except ValueError:
        return "::"
    if address.version == 4:
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((int(address), 64), strict=False).network_address)


def _request(client: str) -> Any:
    """Return the little of a request that axes looks at."""
    request = HttpRequest()
    request.META["REMOTE_ADDR"] = _address(client)
    request.path = "/"
    request.method = "POST"
    return request
