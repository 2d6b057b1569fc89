"""The OpenAPI document and a page that shows it, for every authenticated caller. The page loads nothing from other hosts."""

from functools import cache
from hashlib import sha256
from threading import Lock
from typing import Any, ClassVar, Final

from csp.constants import SELF, UNSAFE_INLINE
from csp.decorators import csp_update
from django.conf import settings
from django.http import HttpResponse, HttpResponseBase, HttpResponseNotModified
from django.utils.decorators import method_decorator
from django.utils.http import parse_etags
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer, OpenApiJsonRenderer2, OpenApiYamlRenderer, OpenApiYamlRenderer2
from drf_spectacular.utils import extend_schema
from drf_spectacular.views import SpectacularSwaggerSplitView
from rest_framework.request import Request
from rest_framework.views import APIView

from api.etags import etag
from api.permissions import AUTHENTICATED, ActionPermission
from api.strict import refuse_unknown_parameters

_JSON: Final = (OpenApiJsonRenderer, OpenApiJsonRenderer2)
_YAML: Final = (OpenApiYamlRenderer, OpenApiYamlRenderer2)
_GENERATING: Final = Lock()
_RENDERERS: Final[dict[str, Any]] = {renderer.media_type: renderer for renderer in (*_JSON, *_YAML)}


def openapi_document() -> dict[str, Any]:
    """Return the OpenAPI document, which is the same for every caller. A process generates it once for its settings."""
    return _generated(_settings())


def _settings() -> tuple[str, ...]:
    """Return the settings that the document depends on."""
    return settings.SESSION_COOKIE_NAME, settings.ROOT_URLCONF


def _generated(key: tuple[str, ...]) -> dict[str, Any]:
    """Return the document. Concurrent first requests wait for one of them, because each would take a second of CPU time."""
    with _GENERATING:
        return _generated_once(key)


@cache
def _generated_once(_key: tuple[str, ...]) -> dict[str, Any]:
    document: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    return document


def _rendered(media_type: str, key: tuple[str, ...]) -> tuple[bytes, str]:
    """Return the document in this media type, and the entity tag of these bytes; see `_generated`."""
    with _GENERATING:
        return _rendered_once(media_type, key)


@cache
def _rendered_once(media_type: str, key: tuple[str, ...]) -> tuple[bytes, str]:
    body: bytes = _RENDERERS[media_type]().render(_generated_once(key), renderer_context={})
    return body, etag(sha256(media_type.encode() + b"\0" + body).hexdigest()[:32])


class AuthenticatedOnlyMixin:
    """The action and the needs of a view that is no viewset."""

    action = "show"
    needs = {"show": AUTHENTICATED}
    parameters: ClassVar[tuple[str, ...]] = ()  # of the query
    permission_classes: Any = (ActionPermission,)
    http_method_names: Any = ["get", "head"]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check the caller and the names in the query. Raises Invalid."""
        super().initial(request, *args, **kwargs)  # type: ignore[misc]
        refuse_unknown_parameters(request._request, self.parameters, {})

    def finalize_response(self, *args: Any, **kwargs: Any) -> Any:
        """Return the response, for this caller and this origin alone: the page's script holds a CSRF token."""
        response = super().finalize_response(*args, **kwargs)  # type: ignore[misc]
        response.headers["Cache-Control"] = "no-store"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return response


class OpenApiView(AuthenticatedOnlyMixin, APIView):
    """The document in one of the media types of `renderer_classes`. It is rendered once for each of them."""

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponseBase:
        """Return the document, or 304 if the client has this version of it (RFC 9110 section 13.1.2)."""
        renderer = request.accepted_renderer
        body, tag = _rendered(renderer.media_type, _settings())
        if {"*", tag} & {sent.removeprefix("W/") for sent in parse_etags(request.headers.get("If-None-Match", ""))}:
            return HttpResponseNotModified(headers={"ETag": tag})
        return HttpResponse(
            body,
            content_type=f"{renderer.media_type}; charset={renderer.charset}" if renderer.charset else renderer.media_type,
            headers={"ETag": tag, "Content-Disposition": f'inline; filename="SkyAuth.{renderer.format}"'},
        )


class OpenApiJson(OpenApiView):
    """The document as JSON."""

    renderer_classes = _JSON


class OpenApiYaml(OpenApiView):
    """The document as YAML."""

    renderer_classes = _YAML


# Swagger UI sets style attributes and has a <style> element. Only styles are allowed inline, and only here; scripts are not.
@method_decorator(csp_update({"style-src": [SELF, UNSAFE_INLINE]}), name="dispatch")
class SwaggerUi(AuthenticatedOnlyMixin, SpectacularSwaggerSplitView):
    """The document as a page. Its requests use the session of the browser, or a token that the user types in."""

    title = "SkyAuth REST API"
    url_name = "api:openapi-json"
    parameters = ("script",)
    authentication_classes: Any
