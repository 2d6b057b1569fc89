"""SkyPilot's own server still answers what tests/skypilot/data/answers.json says that it answered."""

import json

import pytest

from tests import replay
from tests.skypilot_reference import original

MODES = list(dict.fromkeys(scene.mode for scene in replay.scenes()))


@pytest.mark.e2e
@pytest.mark.sqlite
@pytest.mark.xdist_group("skypilot record")
@pytest.mark.parametrize("mode", MODES)
def test_the_record_is_what_the_server_says(mode: str) -> None:
    recorded = replay.recorded()
    with original(mode) as server:
        assert server.version == json.loads((replay.DATA / "answers.json").read_text(encoding="utf-8"))["version"]
        for scene in replay.scenes():
            if scene.mode == mode:
                for step, answer in server.play(scene):
                    assert answer == recorded[step.id], step.id
