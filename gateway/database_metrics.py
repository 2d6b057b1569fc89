"""Metrics that are counted in the database at each scrape: tokens, those that expire soon, users and service accounts."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

from django.db import Error
from django.db.models import Count, Q
from django.utils import timezone
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from accounts.models import ServiceAccount, Token, User
from core.postgresql.deadline import statements_limited

WITHIN_DAYS: Final = (1, 7, 14)
_QUERY_SECONDS: Final = 2  # a million tokens take half a second

logger = logging.getLogger("skyauth.metrics")


def counted() -> list[Metric]:
    """Return these metrics, with one query for each table. If one fails or takes too long, there are none, and
    `skyauth_database_counted` is 0.
    """
    try:
        with statements_limited(_QUERY_SECONDS):
            families = [
                *_tokens(),
                _by_state("skyauth_users", "Users.", User.objects.all()),
                _by_state("skyauth_service_accounts", "Service accounts.", ServiceAccount.objects.all()),
            ]
    except Error as error:
        logger.warning("Tokens and users could not be counted: %s.", type(error).__name__, extra={"seldom": True})
        return uncounted()
    return [*families, _success(True)]


def uncounted() -> list[Metric]:
    """Return what is said if nothing could be counted."""
    return [_success(False)]


def _success(value: bool) -> Metric:
    return GaugeMetricFamily(
        "skyauth_database_counted",
        "1 if the database counted tokens, users and service accounts for this scrape, else 0, and their metrics are missing.",
        value=value,
    )


def _tokens() -> Iterator[Metric]:
    """Yield how many tokens are accepted, and how many of them expire soon."""
    now = timezone.now()
    expiries: Any = {f"d{days}": Count("pk", filter=Q(expires_at__lte=now + timedelta(days=days))) for days in WITHIN_DAYS}
    counts = Token.objects.active().aggregate(every=Count("pk"), **expiries)
    yield GaugeMetricFamily("skyauth_tokens", "Tokens that are accepted.", value=counts["every"])
    expiring = GaugeMetricFamily(
        "skyauth_tokens_expiring",
        "Tokens that are accepted and expire within this many days. Those that expire within 1 day are included in 7, too.",
        labels=["within_days"],
    )
    for days in WITHIN_DAYS:
        expiring.add_metric([str(days)], counts[f"d{days}"])
    yield expiring


def _by_state(name: str, meaning: str, rows: Any) -> Metric:
    counts = rows.aggregate(active=Count("pk", filter=Q(is_active=True)), disabled=Count("pk", filter=Q(is_active=False)))
    family = GaugeMetricFamily(name, meaning, labels=["state"])
    for state, count in counts.items():
        family.add_metric([state], count)
    return family
