"""The OpenAPI document and its page: complete, for authenticated callers, and without resources of other hosts."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.test import Client, override_settings
from drf_spectacular.generators import SchemaGenerator

from api import docs
from api.docs import openapi_document
from tests.api.api_client import BASE, Api


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return openapi_document()


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(method, path, spec) for path, methods in document["paths"].items() for method, spec in methods.items()]


def test_the_document_is_valid_and_drf_spectacular_warns_of_nothing(tmp_path: Any) -> None:
    call_command("spectacular", validate=True, fail_on_warn=True, file=str(tmp_path / "openapi.yaml"))
    assert (tmp_path / "openapi.yaml").stat().st_size > 10_000


VERBS = {"Change", "Create", "Delete", "Explain", "Export", "Get", "Import", "List", "Load", "Reorder", "Revoke", "Rotate"}
VERBS |= {"Set", "Update"}


def test_every_operation_has_a_summary_and_a_description(document: dict[str, Any]) -> None:
    summaries = set()
    for method, path, operation in operations(document):
        summary, description = operation.get("summary", "none"), operation.get("description", "")
        assert summary.split()[0] in VERBS, (method, path, summary)
        assert not summary.endswith("."), (method, path, summary)
        assert re.fullmatch(r"[A-Z].+\.", description), (method, path, description)
        summaries.add(summary)
    assert len(summaries) == len(operations(document)) == 50


def test_every_parameter_and_field_has_a_description(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (method, path, parameter["name"])
    for name, schema in document["components"]["schemas"].items():
        assert schema.get("description"), name
        for field, details in schema.get("properties", {}).items():
            assert details.get("description"), (name, field)


# Words that texts for users do not use, and those of tests/docs/test_words.py.
RETIRED = re.compile(
    r"\b(?:doors?|gates?|mark|generation|freshness|remember\w*|recall\w*|told|tells?|hears?|heard|machines?|person|people|newcomers?|"
    r"handover|asker|way back|dies|lives|ends at|whoever|somebody|anybody|everybody|nobody|whom|recognised|may|shall)\b",
    re.IGNORECASE,
)


def texts(value: Any) -> Iterator[str]:
    """Yield every summary and description in a part of the document."""
    if isinstance(value, dict):
        yield from (text for key, text in value.items() if key in {"summary", "description", "title"} and isinstance(text, str))
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(inner)


def test_the_document_has_no_retired_word(document: dict[str, Any]) -> None:
    result = {text for text in texts(document) if RETIRED.search(text)}
    assert result == set()
    assert len(set(texts(document))) > 200


def test_every_operation_documents_its_errors(document: dict[str, Any]) -> None:
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


def test_every_body_is_json_and_required_if_one_of_its_fields_is(document: dict[str, Any]) -> None:
    bodies = [(method, path, spec["requestBody"]) for method, path, spec in operations(document) if "requestBody" in spec]
    assert len(bodies) > 10
    for method, path, body in bodies:
        assert list(body["content"]) == ["application/json"], (method, path)  # generators leave out what they cannot send
        name = body["content"]["application/json"]["schema"]["$ref"].removeprefix("#/components/schemas/")
        required = bool(document["components"]["schemas"][name].get("required"))
        assert body.get("required", False) == required, (method, path)


JSON_TYPES = {"string": str, "integer": int, "boolean": bool}


def test_the_type_of_every_parameter_is_that_of_its_values(document: dict[str, Any]) -> None:
    found = set()
    for method, path, spec in operations(document):
        for parameter in spec.get("parameters", []):
            schema = parameter["schema"]
            found.add(schema["type"])
            assert all(isinstance(value, JSON_TYPES[schema["type"]]) for value in schema.get("enum", [])), (
                method,
                path,
                parameter,
            )
            if parameter["name"] == "id":
                assert schema["type"] == "integer", (method, path)
            if parameter["name"] in {"active", "unowned", "builtin", "dry_run", "update"}:
                assert schema["type"] == "boolean", (method, path, parameter)
    assert found == set(JSON_TYPES)


def test_the_limits_of_parameters_are_documented(document: dict[str, Any]) -> None:
    named = {each["name"]: each["schema"] for each in document["paths"]["/api/v1/users"]["get"]["parameters"]}
    assert named["page"] == {"type": "integer", "minimum": 1}
    assert named["page_size"] == {"type": "integer", "minimum": 1, "maximum": 1_000}
    assert named["role"] == {"type": "string", "minLength": 1}
    assert named["search"] == {"type": "string"}  # an empty search finds everything
    for name in ("RouteCreateRequest", "PatchedRouteUpdateRequest"):
        assert document["components"]["schemas"][name]["properties"]["methods"]["minItems"] == 1


def test_what_can_be_null_has_a_type(document: dict[str, Any]) -> None:
    properties = [
        (component, name, schema)
        for component, each in document["components"]["schemas"].items()
        for name, schema in each.get("properties", {}).items()
        if schema.get("nullable")
    ]
    assert ("PastDenial", "now") in {(component, name) for component, name, _ in properties}
    assert [(component, name) for component, name, schema in properties if "type" not in schema] == []


def test_a_route_is_created_with_or_without_if_match(document: dict[str, Any]) -> None:
    spec = document["paths"]["/api/v1/routes"]["post"]
    named = {parameter["name"]: parameter for parameter in spec["parameters"]}
    assert not named["If-Match"].get("required")
    assert "412" in spec["responses"]
    assert "428" not in spec["responses"]


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
def test_operations_that_need_if_match_document_it(document: dict[str, Any], method: str, path: str) -> None:
    spec = document["paths"][path][method]
    named = {parameter["name"]: parameter for parameter in spec["parameters"]}
    assert named["If-Match"]["required"] is True
    assert {"412", "428"} <= spec["responses"].keys()


def test_every_operation_documents_its_sign_in_methods(document: dict[str, Any]) -> None:
    assert set(document["components"]["securitySchemes"]) == {"bearer", "basic", "session"}
    for method, path, spec in operations(document):
        assert spec["security"] == [{"bearer": []}, {"basic": []}, {"session": []}], (method, path)


def test_no_response_has_a_field_for_a_password(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    sent = {name for name, schema in schemas.items() if "password" in schema.get("properties", {})}
    assert sent == {"OwnPasswordRequest", "PatchedUserUpdateRequest", "UserCreateRequest"}


def test_the_page_loads_nothing_from_other_hosts_and_runs_no_inline_script(as_vera: Api) -> None:
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


def test_no_other_page_allows_inline_styles(as_vera: Api) -> None:
    assert "unsafe-inline" not in as_vera.get("/openapi.json").headers["Content-Security-Policy"]


def test_the_script_of_the_page_is_for_the_same_origin_only(as_vera: Api) -> None:
    response = as_vera.get("/docs", script="")
    assert response.headers["Content-Type"] == "application/javascript"
    assert response.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert b'url: "/api/v1/openapi.json"' in response.content.replace(b"\\u002D", b"-")


MEDIA_TYPES = [
    ("/openapi.json", "application/json", "json"),
    ("/openapi.json", "application/vnd.oai.openapi+json", "json"),
    ("/openapi.yaml", "application/yaml", "yaml"),
    ("/openapi.yaml", "application/vnd.oai.openapi", "yaml"),
]


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One item for each time that the document is generated during a test, which starts with an empty cache."""
    calls = []
    generate = SchemaGenerator.get_schema

    def get_schema(*args: Any, **kwargs: Any) -> Any:
        calls.append("generated")
        return generate(*args, **kwargs)

    monkeypatch.setattr(SchemaGenerator, "get_schema", get_schema)
    docs._generated_once.cache_clear()
    docs._rendered_once.cache_clear()
    return calls


def read(client: Client, path: str, media_type: str, **headers: str) -> Any:
    return client.get(BASE + path, headers={"accept": media_type, **headers})


def test_the_document_is_generated_once_for_all_media_types_and_callers(
    as_vera: Api, as_alice: Api, generated: list[str], document: dict[str, Any]
) -> None:
    contents = set()
    for _ in range(2):
        for caller in (as_vera, as_alice):
            for path, media_type, kind in MEDIA_TYPES:
                response = read(caller.client, path, media_type)
                assert response.status_code == 200
                assert response.headers["Content-Type"].split(";")[0] == media_type
                assert response.headers["Cache-Control"] == "no-store"
                assert "Accept" in response.headers["Vary"]
                contents.add((kind, response.content))
    assert generated == ["generated"]
    assert {kind for kind, _ in contents} == {"json", "yaml"}
    for kind, content in contents:
        read_back = json.loads(content) if kind == "json" else yaml.load(content, yaml.CSafeLoader)
        assert read_back == json.loads(json.dumps(document))


def test_concurrent_first_requests_generate_the_document_once(generated: list[str]) -> None:
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: docs._rendered("application/json", docs._settings()), range(8)))
    assert len(set(results)) == 1
    assert generated == ["generated"]


def test_the_document_is_generated_again_for_another_cookie_name(as_vera: Api, generated: list[str]) -> None:
    before = openapi_document()
    with override_settings(SESSION_COOKIE_NAME="other"):
        after = openapi_document()
    assert openapi_document() is before
    assert after["components"]["securitySchemes"]["session"]["name"] == "other"
    assert len(generated) == 2


@pytest.mark.parametrize(("path", "media_type"), [case[:2] for case in MEDIA_TYPES])
def test_the_document_has_an_entity_tag_for_each_media_type(as_vera: Api, path: str, media_type: str) -> None:
    tag = read(as_vera.client, path, media_type).headers["ETag"]
    assert re.fullmatch(r'"[0-9a-f]{32}"', tag)
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        response = read(as_vera.client, path, media_type, **{"if-none-match": known})
        assert (response.status_code, response.content, response.headers["ETag"]) == (304, b"", tag)
        assert response.headers["Cache-Control"] == "no-store"
    assert read(as_vera.client, path, media_type, **{"if-none-match": '"other"'}).status_code == 200
    others = {read(as_vera.client, other, accept).headers["ETag"] for other, accept, _ in MEDIA_TYPES if accept != media_type}
    assert tag not in others


def test_the_index_links_to_paths_that_exist(as_alice: Api) -> None:
    links = as_alice.get("/").json()
    assert len(links) == 12
    for name, path in links.items():
        expected = 400 if name == "explain" else 200
        assert as_alice.client.get(path).status_code == expected, name
