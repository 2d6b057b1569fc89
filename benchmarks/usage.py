"""What programs and the machine have used, from /proc: processor time, resident memory, and whether anybody is at work."""

import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_SESSION, _USER_TIME, _SYSTEM_TIME, _RESIDENT = 3, 11, 12, 21  # proc(5), counted from behind the name in brackets
BUSY: Final = 0.05


def _stats(sessions: Sequence[int]) -> Iterator[list[str]]:
    """Yield the fields of every process in these sessions. A program that tests.servers starts leads a session of its own."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2].split()
                if int(fields[_SESSION]) in sessions:
                    yield fields


def cpu_seconds(sessions: Sequence[int]) -> float:
    """Return the processor time that the living processes of these sessions have used."""
    return sum(int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME]) for fields in _stats(sessions)) / _TICK


def resident_bytes(sessions: Sequence[int]) -> int:
    """Return the memory that the processes of these sessions have in RAM."""
    return sum(int(fields[_RESIDENT]) for fields in _stats(sessions)) * _PAGE


def _machine() -> tuple[int, int]:
    """Return the ticks that the processors were idle, and all ticks."""
    ticks = [int(word) for word in Path("/proc/stat").read_text(encoding="ascii").partition("\n")[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def settle(at_most: float = 2.0) -> bool:
    """Wait until the machine has nothing to do: what one subject left is not charged to the next. Return whether it has."""
    deadline = time.monotonic() + at_most
    while time.monotonic() < deadline:
        idle, every = _machine()
        time.sleep(0.1)
        idle_then, every_then = _machine()
        if every_then > every and 1 - (idle_then - idle) / (every_then - every) < BUSY:
            return True
    return False


def machine() -> str:
    """Return the processor, the memory and the Python of this machine in a phrase."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
            if line.startswith("model name")
        ),
        os.uname().machine,
    )
    memory = os.sysconf("SC_PHYS_PAGES") * _PAGE / 2**30
    system = f"Linux {os.uname().release.partition('-')[0]}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores of {model}, {memory:.0f} GiB, {system}"
