"""Metrics that are counted in the database at each scrape: tokens, those that expire soon, users and service accounts."""

import platform
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Final

import django
from django.db import connection
from django.db.models import Count, Q
from django.utils import timezone
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from accounts.models import ServiceAccount, Token, User

WITHIN_DAYS: Final = (1, 7, 14)


class DatabaseMetrics(Collector):
    """Runs one query for each table. Raises a database error."""

    def collect(self) -> Iterator[Metric]:
        yield from _tokens()
        yield _by_state("skyauth_users", "Users.", User.objects.all())
        yield _by_state("skyauth_service_accounts", "Service accounts.", ServiceAccount.objects.all())
        build = GaugeMetricFamily(
            "skyauth_build_info",
            "The versions of Python and Django, and the kind of database.",
            labels=["python", "django", "database"],
        )
        build.add_metric([platform.python_version(), django.get_version(), connection.vendor], 1)
        yield build


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
