"""Sends the requests of tests/skypilot/data/contract.yaml to SkyPilot's own API server, and records the responses.

    .venv/bin/python scripts/record_skypilot.py

It needs .venv-skypilot (make .venv-skypilot/installed), starts the server on loopback with a home directory of its own, and
takes a minute. `git diff` then shows what a new release changes.
"""

import json
import os
import sys
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "skyauth.settings")

import django

django.setup()

from tests.replay import DATA, scenes  # noqa: E402
from tests.skypilot_reference import original  # noqa: E402 - Django must be set up first


def main() -> None:
    """Write answers.json."""
    answers, version = {}, ""
    for mode, played in groupby(scenes(), lambda scene: scene.mode):
        with original(mode) as server:
            version = server.version
            for scene in played:
                print(scene.name)
                answers |= {step.id: asdict(answer) for step, answer in server.play(scene)}
    text = json.dumps({"version": version, "answers": answers}, indent=1, ensure_ascii=False)
    (DATA / "answers.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
