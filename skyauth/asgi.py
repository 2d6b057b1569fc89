"""The application: trust gate, then the verify line, the health probes, and Django's handler."""

import gc
import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "skyauth.settings")
_django: Any = get_asgi_application()  # its annotation is narrower than ASGI's

from authn.proxy_header_middleware import ProxyHeaderMiddleware, policy_from_settings  # noqa: E402 - Django must be set up first
from core.request_limits import RequestLimitMiddleware  # noqa: E402
from gateway import metrics  # noqa: E402
from gateway.asgi import ForwardAuthApp  # noqa: E402
from rbac.samples import sample  # noqa: E402
from revision.last_used import collector  # noqa: E402
from skyauth.health import Health  # noqa: E402

collector.start()  # a server writes uses beside the requests
sample.start()
metrics.start()
line = ForwardAuthApp(Health(RequestLimitMiddleware(_django)))
application = ProxyHeaderMiddleware(line, policy_from_settings())

# What is there by now is there to stay: it is not looked at each time that garbage is collected, which is seldom.
gc.collect()
gc.freeze()
gc.set_threshold(20_000, 20, 100)
