"""What a body may be: JSON, and CSV for the import. Nothing that a form of another site could send."""

import codecs
from collections.abc import Mapping
from typing import Any

from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import BaseParser, JSONParser

from accounts.services.user_csv import MAX_BYTES


class TooLarge(APIException):
    """The body is larger than is accepted (HTTP 413)."""

    status_code = 413
    default_detail = "The body is too large."
    default_code = "too-large"


class Json(JSONParser):
    """JSON (RFC 8259). Its size is bounded by Django's DATA_UPLOAD_MAX_MEMORY_SIZE."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        """Return the parsed body. Raises ParseError, also for nesting that is deeper than Python can follow."""
        try:
            return super().parse(stream, media_type, dict(parser_context or {}))
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None


class Csv(BaseParser):
    """CSV (RFC 4180) in UTF-8, as text."""

    media_type = "text/csv"

    def parse(
        self,
        stream: Any,
        media_type: str | None = None,  # noqa: ARG002 - DRF's signature
        parser_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> dict[str, str]:
        """Return {"csv": text}, which is what the JSON form of the import has. Raises TooLarge, ParseError."""
        raw = stream.read(MAX_BYTES + len(codecs.BOM_UTF8) + 1)
        if len(raw) > MAX_BYTES + len(codecs.BOM_UTF8):
            raise TooLarge(f"The file is larger than {MAX_BYTES // 1_000_000} MB. Split it.")
        try:
            return {"csv": raw.decode("utf-8")}
        except UnicodeDecodeError:
            raise ParseError("The file is not UTF-8.") from None
