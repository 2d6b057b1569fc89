"""The words that SkyAuth no longer uses do not come back in texts that users read.

That is: pages, docs, help, errors, the OpenAPI document.

Each had a meaning of its own here. The field's term stands behind it.
"""

import ast
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from api.docs import openapi_document
from skyauth.configuration import env
from tests.test_house_rules import PACKAGES

ROOT = Path(__file__).resolve().parents[2]

RETIRED = {
    r"doors?": "endpoint, interface",
    r"gate(?!way)\w*": "trusted-proxy header filter",
    r"ungated": "without the header filter",
    r"the mark": "policy revision",
    r"freshness": "policy revision",
    r"(short|long) way": "fast path, slow path",
    r"straight line": "decision pipeline",
    r"way back": "return URL",
    r"hand(s|ed|ing)? (it |them )?over": "authorize, redeem",
    r"handovers?": "CLI login",
    r"askers?": "client that polls",
    r"(is|are|was|were|be|being) told": "receives",
    r"hears?|heard": "receives",
    r"newcomers?": "first-time user",
    r"recogni[sz]ed by": "authenticated by",
    r"(who|whoever) may": "roles with this permission",
    r"whoever": "a user who, anyone who",
    r"dies|die|died": "expires, ends, exits",
    r"(comes?|came) to (its|an|their) end": "expires",
    r"nobody is like that": "No users match these filters.",
    r"go there": "say what opens",
    r"i have it": "Done",
    r"what it is told": "the headers that the upstream receives",
    r"let(s)? through": "allowed",
}
PATTERN = re.compile(rf"(?<![\w`/.-])(?:{'|'.join(RETIRED)})(?![\w`/-])", re.IGNORECASE)
# What stays as it was: former names that scripts use.
ALLOWED = re.compile(r"handovers and askers are the former names")


def retired(text: str) -> list[str]:
    """Return the retired words in a text, with what stands around them."""
    text = ALLOWED.sub("", " ".join(text.split()))
    return [text[max(0, found.start() - 30) : found.end() + 30] for found in PATTERN.finditer(text)]


def test_the_search_finds_a_retired_word_and_no_other() -> None:
    assert retired("Every door asks.") == ["Every door asks."]
    assert retired("It is told who calls, by whoever may know.") != []
    assert retired("The gateway asks `door.py` and /door/.") == []


PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md")
    for path in ROOT.glob(pattern)
    if not {"node_modules", ".venv"} & set(path.parts)
)


@pytest.mark.parametrize("page", PAGES)
def test_no_page_of_the_docs_has_a_retired_word(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    prose = re.sub(r"<!--.*?-->|```.*?```|`[^`]*`|\]\([^)]*\)", " ", text, flags=re.DOTALL)
    assert retired(prose) == []


class Words(HTMLParser):
    """Collects what a browser shows of a template, and the attributes that are read aloud."""

    def __init__(self, template: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self._silent = False
        self.feed(re.sub(r"\{%.*?%\}|\{#.*?#\}|\{\{.*?\}\}", " ", template, flags=re.DOTALL))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent = tag in {"script", "style", "code"}
        self.words += [value for name, value in attrs if value and name in {"title", "aria-label", "alt", "placeholder"}]

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.words.append(data)


TEMPLATES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "templates").rglob("*.html"))


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_template_has_a_retired_word(template: str) -> None:
    assert retired(" ".join(Words((ROOT / template).read_text(encoding="utf-8")).words)) == []


def sentences(tree: ast.Module) -> Iterator[str]:
    """Yield each text in the code that has more than one word, other than docstrings; f-strings without their values."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings and " " in node.value:
            yield node.value


@pytest.mark.parametrize("package", PACKAGES)
def test_no_message_in_the_code_has_a_retired_word(package: str) -> None:
    """Labels, errors, help, flash messages, log lines."""
    found = {
        f"{path.relative_to(ROOT)}: {words}"
        for path in sorted((ROOT / package).rglob("*.py"))
        if "migrations" not in path.parts
        for text in sentences(ast.parse(path.read_text(encoding="utf-8")))
        for words in retired(text)
    }
    assert found == set()


def test_no_setting_is_explained_with_a_retired_word() -> None:
    found = {setting.name: retired(setting.meaning) for setting in env.settings}
    assert {name: words for name, words in found.items() if words} == {}


def test_no_command_is_explained_with_a_retired_word() -> None:
    found = {}
    for name, app in get_commands().items():
        if app in PACKAGES:
            command = load_command_class(app, name)
            found[name] = retired(command.create_parser("manage.py", name).format_help())
    assert len(found) > 15
    assert {name: words for name, words in found.items() if words} == {}


def test_the_openapi_document_has_no_retired_word() -> None:
    assert retired(json.dumps(openapi_document(), default=str).replace("\\n", " ")) == []
