"""The OpenAPI document and a page that shows it, for everybody who is signed in; nothing is loaded from elsewhere."""

from typing import Any

from csp.constants import SELF, UNSAFE_INLINE
from csp.decorators import csp_update
from django.utils.decorators import method_decorator
from drf_spectacular.views import SpectacularJSONAPIView, SpectacularSwaggerSplitView, SpectacularYAMLAPIView

from api.permissions import ANYBODY, Needs


class _ForEverybodySignedIn:
    """DRF views have no actions; these have one."""

    action = "show"
    needs = {"show": ANYBODY}
    permission_classes = (Needs,)
    http_method_names = ["get", "head"]

    def finalize_response(self, *args: Any, **kwargs: Any) -> Any:
        """Return the response, for this caller and this origin alone: the page's script holds a CSRF token."""
        response = super().finalize_response(*args, **kwargs)  # type: ignore[misc]
        response.headers["Cache-Control"] = "no-store"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return response


class OpenApiJson(_ForEverybodySignedIn, SpectacularJSONAPIView):  # type: ignore[misc]
    """The document as JSON."""


class OpenApiYaml(_ForEverybodySignedIn, SpectacularYAMLAPIView):  # type: ignore[misc]
    """The document as YAML."""


# Swagger UI sets style attributes, and its page has one <style>: styles alone are let in here, scripts stay as strict as ever.
@method_decorator(csp_update({"style-src": [SELF, UNSAFE_INLINE]}), name="dispatch")
class SwaggerUi(_ForEverybodySignedIn, SpectacularSwaggerSplitView):  # type: ignore[misc]
    """The document as a page. Trying things out works with the session that one has, or with a token typed in."""

    url_name = "api:openapi-json"
    authentication_classes: Any
