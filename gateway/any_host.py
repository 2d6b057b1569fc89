"""Lets `/metrics` be read under any host, as the probes are: Prometheus finds a pod by its address, which no setting can name."""

from typing import Final

from django.http import HttpRequest, HttpResponseBase
from django.middleware.common import CommonMiddleware

METRICS_PATH: Final = "/metrics"


class HostCheck(CommonMiddleware):
    """Django's middleware, which refuses a Host that is not in ALLOWED_HOSTS, except where no response depends on it."""

    def process_request(self, request: HttpRequest) -> HttpResponseBase | None:  # type: ignore[override]
        """Return Django's answer to a request before its view, or None. Raises DisallowedHost as Django does."""
        return None if request.path_info == METRICS_PATH else super().process_request(request)
