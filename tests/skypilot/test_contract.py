"""SkyAuth answers as the recorded SkyPilot server, except for the differences that the contract lists and explains."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from rbac.models import Role
from tests import replay
from tests.factories import UserFactory
from tests.replay import CAST, Answered, Asked, Scene

ROOT = Path(__file__).resolve().parent.parent.parent
ORIGINAL = replay.recorded()
SCENES = replay.scenes()


@pytest.fixture
def _cast(db: None, settings: Any) -> None:
    """Alice, Bob and Vera, and the default role under which the server was recorded."""
    settings.RBAC_DEFAULT_ROLE = "user"
    for name, role in CAST.items():
        UserFactory(username=f"{name}@example.com", role=Role.objects.get(name=role), sign_in="password")


def send(request: Asked) -> tuple[int, Mapping[str, str], bytes]:
    headers = {name: value if isinstance(value, str) else value.decode() for name, value in request.headers}
    media_type = headers.pop("Content-Type", "")
    client = Client(raise_request_exception=False, enforce_csrf_checks=True)
    response = client.generic(request.method, request.path, request.body, content_type=media_type, headers=headers)
    return response.status_code, dict(response.headers), response.content


@pytest.mark.usefixtures("_cast")
@pytest.mark.parametrize("prefix", ["", "/internal/dashboard"], ids=["plain", "below the dashboard's prefix"])
@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
def test_the_same_requests_get_the_same_answers(scene: Scene, prefix: str, settings: Any) -> None:
    settings.AUTH_BASIC = scene.mode == "basic"
    for step, ours in replay.play(scene, send, prefix=prefix):
        theirs = ORIGINAL[step.id]
        if step.differs is None:
            assert (ours.status, ours.body) == (theirs.status, theirs.body), step.id
            assert telling(ours) == telling(theirs), step.id
        else:
            expected = replay.expected(step)
            assert (ours.status, ours.body) == (expected.status, expected.body), step.id
            assert expected.headers.items() <= ours.headers.items(), step.id
            assert (ours.status, ours.body, telling(ours)) != (theirs.status, theirs.body, telling(theirs)), "it does not differ"
        assert ours.headers.get("Cache-Control") == "no-store" or ours.status == 307, step.id


def telling(answer: Answered) -> dict[str, str]:
    """Return the headers that must be equal: all except Cache-Control, which SkyAuth always sets to no-store."""
    return {name: value for name, value in answer.headers.items() if name != "Cache-Control"}


def test_every_difference_is_explained_and_every_explanation_has_an_example_or_says_why_not() -> None:
    explained = replay.written()["differences"]
    shown = {step.differs for scene in SCENES for step in scene.steps if step.differs}
    assert shown <= set(explained)
    assert {name for name, difference in explained.items() if not difference.get("unrecorded")} == shown


def test_the_documentation_has_the_same_differences() -> None:
    page = (ROOT / "docs" / "comparison-skypilot.md").read_text(encoding="utf-8")
    rows = [f"| {d['real']} | {d['ours']} | {d['why']} |" for d in replay.written()["differences"].values()]
    section = page.split("\n## Differences in the API\n")[1]
    assert [line for line in section.splitlines() if line.startswith("| ")][1:] == rows


def test_exactly_the_answers_of_the_contract_are_recorded() -> None:
    assert list(ORIGINAL) == [step.id for scene in SCENES for step in scene.steps]
