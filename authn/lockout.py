"""Locks out brute force: counts wrong passwords with django-axes, by the pair of name and client address.

Somebody at another address therefore cannot lock a user out. A session and a token are not affected; a cached password is
(promise 51). A second limit counts the failures of one address over all names, against password spraying. The limits are
settings (`skyauth/configuration.py`, the names that start with AUTH_FAILURE and AUTH_COOL_OFF).
"""

import ipaddress
from typing import Any

from axes.handlers.proxy import AxesProxyHandler
from axes.models import AccessAttempt
from django.conf import settings
from django.db import connection
from django.db.models import Q, Sum
from django.http import HttpRequest
from django.utils import timezone

from authn.proxy_headers import canonical_address
from core.watched import Tag
from revision.triggers import change_revision


def client_address(request: HttpRequest) -> str:
    """Return the address that axes counts by: the one that `_request` sets, never a header's."""
    return str(request.META.get("REMOTE_ADDR", ""))


def is_locked_out(username: str, client: str) -> bool:
    """Return whether this name from this address, or this address with any names, has failed too often in AXES_COOLOFF_TIME."""
    since = timezone.now() - settings.AXES_COOLOFF_TIME
    recent = AccessAttempt.objects.filter(ip_address=_counted_address(client), attempt_time__gte=since)
    failures = recent.aggregate(
        name=Sum("failures_since_start", filter=Q(username=username), default=0), all=Sum("failures_since_start", default=0)
    )
    return bool(failures["name"] >= settings.AXES_FAILURE_LIMIT or failures["all"] >= settings.AUTH_FAILURE_LIMIT_PER_ADDRESS)


def count_failure(username: str, client: str) -> None:
    """Count one wrong password. Call it outside a transaction, whose rollback would undo the count.

    A lockout is logged as a change, because it ends what decision caches have for the address, on every replica.
    """
    AxesProxyHandler.user_login_failed(sender=__name__, credentials={"username": username}, request=_request(client))
    if is_locked_out(username, client):
        change_revision(connection, *tag(client))


def tag(client: str) -> Tag:
    """Return the tag of the failures that are counted for a client, on which a cached password depends."""
    return "failures", _counted_address(client)


def clear_failures(username: str, client: str) -> None:
    """Delete the failures of this name from this address, and of no other."""
    AccessAttempt.objects.filter(username=username, ip_address=_counted_address(client)).delete()


def _counted_address(client: str) -> str:
    """Return what failures are counted under: an IPv4 address, or a /64 network, all of which one holder of IPv6 can use.

    A peer without an address counts as the unspecified address, because NULL equals nothing and would not be counted.
    """
    try:
        address = ipaddress.ip_address(canonical_address(client.partition("%")[0]))
    except ValueError:
        return "::"
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((int(address), 64), strict=False).network_address)


def _request(client: str) -> Any:
    """Return a request with the attributes that axes reads."""
    request = HttpRequest()
    request.META["REMOTE_ADDR"] = _counted_address(client)
    request.path = "/"
    request.method = "POST"
    return request
