"""The ASGI application: lifespan, header filter, verify endpoints, probes, metrics, request limits, and Django's handler."""

import gc
import os
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "skyauth.settings")
_django: Any = get_asgi_application()  # its annotation is narrower than ASGI's

from accounts.services.job_worker import worker  # noqa: E402 - Django must be set up first
from authn.proxy_header_middleware import policy_from_settings  # noqa: E402
from core.postgresql.process_name import this_process_serves  # noqa: E402
from core.request_limits import RequestLimitMiddleware  # noqa: E402
from gateway import metrics  # noqa: E402
from gateway.asgi import ForwardAuthApp  # noqa: E402
from gateway.metrics_endpoint import MetricsEndpoint  # noqa: E402
from gateway.requests import CountedRequests  # noqa: E402
from gateway.threads import VerifyThreads  # noqa: E402
from rbac.samples import sample  # noqa: E402
from revision.last_used import writer  # noqa: E402
from skyauth.health import Health  # noqa: E402
from skyauth.lifespan import LifespanMiddleware  # noqa: E402

this_process_serves()
writer.start()
sample.start()
metrics.start()
flushes: list[Callable[[], Any]] = [worker.stop, writer.flush, sample.flush, metrics.flush]
threads = VerifyThreads()
forward_auth_app: type[ForwardAuthApp] = ForwardAuthApp
if settings.TRACING:
    from skyauth import tracing  # its packages are not installed by default

    threads, forward_auth_app = tracing.ContextThreads(), tracing.TracedForwardAuthApp
    flushes.append(tracing.flush)
inner = Health(MetricsEndpoint(CountedRequests(RequestLimitMiddleware(_django))), threads)
application = LifespanMiddleware(forward_auth_app(inner, threads=threads), policy_from_settings(), flushes)

# The objects made so far stay for ever: the garbage collector need not traverse them, and runs seldom.
gc.collect()
gc.freeze()
gc.set_threshold(20_000, 20, 100)
