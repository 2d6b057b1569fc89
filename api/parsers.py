"""Request bodies: JSON, and CSV for the import. Neither is a media type that an HTML form of another site can send."""

import codecs
import json
from collections.abc import Mapping
from typing import Any

from rest_framework.exceptions import APIException, ParseError, UnsupportedMediaType
from rest_framework.parsers import BaseParser, JSONParser
from rest_framework.request import Request

from accounts.services.user_csv import MAX_BYTES, decode
from api.strict import present_fields
from core.errors import Invalid


class TooLarge(APIException):
    """The body is larger than is accepted (HTTP 413)."""

    status_code = 413
    default_detail = "The body is too large."
    default_code = "too-large"


class SafeJSONParser(JSONParser):
    """JSON (RFC 8259) in UTF-8, of any depth. Django's DATA_UPLOAD_MAX_MEMORY_SIZE limits its size."""

    def parse(
        self,
        stream: Any,
        media_type: str | None = None,  # noqa: ARG002 - DRF's signature
        parser_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> Any:
        """Return the parsed body. Raises ParseError, also when it is nested too deeply, and Invalid for a repeated name."""
        try:
            text = stream.read().decode("utf-8")
            return json.loads(text, object_pairs_hook=present_fields, parse_constant=_not_json)
        except ValueError as error:
            raise ParseError(f"JSON parse error - {error}") from None
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None


def refuse_coding(request: Request) -> None:
    """Raise UnsupportedMediaType for a compressed body (RFC 9110 section 8.4): its limit would be that of the packed bytes."""
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding != "identity":
        raise UnsupportedMediaType(coding, "Compressed bodies are not read. Send the body without Content-Encoding.")


def _not_json(constant: str) -> Any:
    raise ValueError(f"{constant} is not a number of JSON")


class CSVParser(BaseParser):
    """CSV (RFC 4180) in UTF-8, or in UTF-16 with a byte order mark."""

    media_type = "text/csv"

    def parse(
        self,
        stream: Any,
        media_type: str | None = None,  # noqa: ARG002 - DRF's signature
        parser_context: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> dict[str, str]:
        """Return `{"csv": text}`, the shape of the import's JSON body. Raises TooLarge, ParseError."""
        raw = stream.read(MAX_BYTES + len(codecs.BOM_UTF8) + 1)
        if len(raw) > MAX_BYTES + len(codecs.BOM_UTF8):
            raise TooLarge(f"The file is larger than {MAX_BYTES // 1_000_000} MB. Split it into several files.")
        try:
            return {"csv": decode(raw)}
        except Invalid as error:
            raise ParseError(error.message) from None
