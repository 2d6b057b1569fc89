"""Ask SkyPilot's own API server everything in tests/skypilot/data/contract.yaml, and write down what it answers.

    .venv/bin/python scripts/record_skypilot.py

It needs .venv-skypilot (make .venv-skypilot/installed), starts the server on loopback with a home of its own, and takes a
minute. `git diff` then shows what a new release answers differently.
"""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "skyauth.settings")

import django

django.setup()

from tests.original import originals  # noqa: E402 - Django must be set up first
from tests.replay import DATA, play, scenes  # noqa: E402


def main() -> None:
    """Write answers.json."""
    answers = {}
    with originals() as original:
        for scene in scenes():
            print(scene.name)
            for step, answer in play(scene, original.sender(scene.mode)):
                answers[step.id] = asdict(answer)
            original.tidy(scene.mode)
    text = json.dumps({"version": original.version, "answers": answers}, indent=1, ensure_ascii=False)
    (DATA / "answers.json").write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
