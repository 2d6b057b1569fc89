"""The OpenAPI document and its page: complete, for who is signed in, and from this server alone."""

import re
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.core.management import call_command
from drf_spectacular.generators import SchemaGenerator

from tests.api.api_client import Api


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = SchemaGenerator().get_schema(request=None, public=True)
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, spec) for path, methods in document["paths"].items() for method, spec in methods.items()]


def test_the_document_is_valid_and_drf_spectacular_has_nothing_to_complain_of(tmp_path: Any) -> None:
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(tmp_path / "openapi.yaml"))
    assert (tmp_path / "openapi.yaml").stat().st_size > 10_000


def test_every_operation_tells_its_refusals(document: dict[str, Any]) -> None:
    for method, path, spec in operations(document):
        answers = spec["responses"]
        assert {"401", "503"} <= answers.keys(), (method, path)
        if method != "get":
            assert {"400", "403"} <= answers.keys(), (method, path)
        if "{" in path:
            assert "404" in answers, (method, path)
        for status, answer in answers.items():
            if int(status) >= 400:
                content = answer["content"]
                assert list(content) == ["application/problem+json"], (method, path, status)
                assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/Problem"}
        assert "WWW-Authenticate" in answers["401"]["headers"]
        assert "Retry-After" in answers["503"]["headers"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("patch", "/api/v1/roles/{name}"),
        ("delete", "/api/v1/roles/{name}"),
        ("patch", "/api/v1/routes/{id}"),
        ("delete", "/api/v1/routes/{id}"),
        ("post", "/api/v1/routes/reorder"),
        ("post", "/api/v1/policy/packs/{name}/load"),
    ],
)
def test_what_needs_if_match_says_so(document: dict[str, Any], method: str, path: str) -> None:
    spec = document["paths"][path][method]
    named = {parameter["name"]: parameter for parameter in spec["parameters"]}
    assert named["If-Match"]["required"] is True
    assert {"412", "428"} <= spec["responses"].keys()


def test_every_way_to_sign_in_is_named(document: dict[str, Any]) -> None:
    assert set(document["components"]["securitySchemes"]) == {"bearer", "basic", "session"}
    for method, path, spec in operations(document):
        assert spec["security"] == [{"bearer": []}, {"basic": []}, {"session": []}], (method, path)


def test_no_answer_has_a_field_for_a_password(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    sent = {name for name, schema in schemas.items() if "password" in schema.get("properties", {})}
    assert sent == {"OwnPasswordRequest", "PatchedUserChangeRequest", "UserNewRequest"}


def test_the_page_loads_nothing_from_elsewhere_and_runs_no_inline_script(as_vera: Api) -> None:
    response = as_vera.get("/docs")
    page = response.content.decode()
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(sources) == 5
    assert all(source.startswith("/") and not source.startswith("//") for source in sources)
    assert all(finders.find(source.removeprefix("/static/")) for source in sources if source.startswith("/static/"))
    assert re.findall(r"<script(?![^>]*\bsrc=)", page) == []
    policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
    assert policy["script-src"] == "'self'"
    assert policy["style-src"] == "'self' 'unsafe-inline'"
    assert policy["default-src"] == "'none'"


def test_no_other_page_lets_inline_styles_in(as_vera: Api) -> None:
    assert "unsafe-inline" not in as_vera.get("/openapi.json").headers["Content-Security-Policy"]


def test_the_pages_script_is_for_this_origin_alone(as_vera: Api) -> None:
    response = as_vera.get("/docs", script="")
    assert response.headers["Content-Type"] == "application/javascript"
    assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert b'url: "/api/v1/openapi.json"' in response.content.replace(b"\\u002D", b"-")


def test_the_document_is_served_as_json_and_as_yaml(as_vera: Api, document: dict[str, Any]) -> None:
    assert set(as_vera.get("/openapi.json").json()["paths"]) == set(document["paths"])
    assert as_vera.get("/openapi.yaml").content.startswith(b"openapi: 3.0.3")


def test_the_index_leads_to_places_that_exist(as_alice: Api) -> None:
    links = as_alice.get("/").json()
    assert len(links) == 12
    for name, path in links.items():
        expected = 400 if name == "explain" else 200
        assert as_alice.client.get(path).status_code == expected, name
