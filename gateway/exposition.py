"""The text of a scrape: the metrics of all workers, and those that are counted in the database if it answers in time."""

import platform
from collections.abc import Iterable, Iterator

import django
from django.conf import settings
from django.db import connection
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from gateway import metrics


def exposition(accept: str, counted: Iterable[Metric]) -> tuple[bytes, str]:
    """Return the text and its media type: Prometheus' format, or OpenMetrics if `accept`, an Accept header, asks for it.

    `counted` are the metrics of `gateway.database_metrics`. Nothing else here uses the database.
    """
    registry = CollectorRegistry()
    registry.register(metrics.collected())
    registry.register(_Families(list(counted)))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Families(Collector):
    """Families that exist already, and the versions."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families
        build = GaugeMetricFamily(
            "skyauth_build_info",
            "The versions of SkyAuth, Python and Django, and the kind of database.",
            labels=["version", "python", "django", "database"],
        )
        build.add_metric([settings.VERSION, platform.python_version(), django.get_version(), connection.vendor], 1)
        yield build
