"""What tests start can be stopped, and starts as it would on an empty machine."""

import signal
from pathlib import Path

from tests.servers import environment, start


def test_ctrl_c_stops_what_a_test_starts_also_when_the_tests_run_in_the_background(tmp_path: Path) -> None:
    """`make test &` ignores SIGINT, and so does every child of a process that ignores it."""
    program = start(["sleep", "60"], tmp_path / "log", environment())
    assert program.end(signal.SIGINT) == -signal.SIGINT
