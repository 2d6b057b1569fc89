"""The Accept header of API requests (RFC 9110 section 12.5.1)."""

from typing import Any

from rest_framework.exceptions import NotAcceptable
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.request import Request
from rest_framework.utils.mediatypes import media_type_matches

from core.problems import CONTENT_TYPE


class ContentNegotiation(DefaultContentNegotiation):
    """Accepts the media type of errors, which every operation can return, for every operation.

    Generated clients send `Accept: application/problem+json` alone where a success has no body, or none of JSON.
    """

    def get_accept_list(self, request: Request) -> list[str]:
        """Return the media ranges that the client accepts. An empty or absent header accepts everything."""
        return [media_range for media_range in super().get_accept_list(request) if media_range] or ["*/*"]

    def select_renderer(self, request: Request, renderers: Any, format_suffix: str | None = None) -> tuple[Any, str]:
        """Return the renderer and its media type. Raises NotAcceptable."""
        try:
            renderer, media_type = super().select_renderer(request, renderers, format_suffix)
        except NotAcceptable:
            if not any(media_type_matches(CONTENT_TYPE, accepted) for accepted in self.get_accept_list(request)):
                raise NotAcceptable(
                    f"Accept excludes every media type of this operation. Send Accept: {renderers[0].media_type}."
                ) from None
            renderer, media_type = renderers[0], renderers[0].media_type
        return renderer, media_type
