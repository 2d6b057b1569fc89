"""What Django's handler serves of this door: the metrics, to whoever may read them."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from core.problems import problem
from core.responses import respond, unauthenticated
from gateway import metrics as counted
from gateway.inventory import Inventory
from rbac import policy
from rbac.denials import record_denial
from rbac.permissions import Permission
from rbac.principals import Principal


@csrf_exempt  # nothing is changed here, so nothing needs proof
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the metrics in Prometheus' text format, or in OpenMetrics where that is asked for."""
    principal: Principal = request.principal  # type: ignore[attr-defined] # the middleware saw to it
    if not principal.is_authenticated:
        return unauthenticated(basic=settings.AUTH_BASIC)
    decision = policy.decide(principal.permissions, Permission.METRICS_READ)
    if not decision:
        record_denial(principal, f"{request.method} {request.path}", decision.message)
        return respond(problem(403, decision.reason, decision.message))
    if request.method not in {"GET", "HEAD"}:
        response = respond(problem(405, "method-not-allowed", "Metrics are read, with GET."))
        response["Allow"] = "GET, HEAD"
        return response
    registry = CollectorRegistry()
    registry.register(counted.collected())
    registry.register(Inventory())
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return HttpResponse(encode(registry), content_type=content_type, headers={"Cache-Control": "no-store"})
