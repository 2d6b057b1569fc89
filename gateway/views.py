"""The view of the gateway that Django serves: the metrics, for roles with `metrics:read`."""

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from authn.requests import principal_of
from authn.view_access import belongs_to
from core.problems import problem
from core.responses import respond
from gateway.database_metrics import counted
from gateway.exposition import exposition
from rbac import policy
from rbac.auth_methods import Interface
from rbac.denials import record_denial
from rbac.permissions import Permission


@belongs_to(Interface.METRICS)
@csrf_exempt  # it changes nothing
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the metrics in Prometheus' text format, or in OpenMetrics if the Accept header asks for it."""
    decision = policy.decide(principal_of(request).permissions, Permission.METRICS_READ)
    if not decision:
        record_denial(principal_of(request), f"{request.method} {request.path}", decision.message)
        return respond(problem(403, decision.reason, decision.message))
    if request.method not in {"GET", "HEAD"}:
        response = respond(problem(405, "method-not-allowed", "Use GET to read the metrics."))
        response["Allow"] = "GET, HEAD"
        return response
    text, content_type = exposition(request.headers.get("Accept", ""), counted())
    return HttpResponse(text, content_type=content_type, headers={"Cache-Control": "no-store"})
