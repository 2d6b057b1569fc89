"""A small Debian with Python in a directory, for the tests of the image and of the systemd units."""

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from tests.requirements import need_program
from tests.servers import ROOT, environment

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def run(command: list[str], values: dict[str, str] | None = None, seconds: int = 900) -> str:
    """Run a program and return its standard output; fail with everything that it wrote."""
    done = subprocess.run(
        command, cwd=ROOT, env=values or environment(), capture_output=True, text=True, timeout=seconds, check=False
    )
    assert done.returncode == 0, (shlex.join(command), done.stdout[-2_000:], done.stderr[-4_000:])
    return done.stdout


def debian(home: Path, *packages: str) -> Path:
    """Return a new directory with Debian, Python and these packages; TEST_IMAGE_CACHE names a directory that keeps them."""
    cache = Path(os.environ.get("TEST_IMAGE_CACHE", home))
    kept = cache / "-".join(["debian", *packages])
    if not kept.exists():
        debootstrap = need_program("debootstrap", hint="install Debian's debootstrap package")
        included = ",".join(["python3", "python3-venv", "ca-certificates", *packages])
        run([debootstrap, "--variant=minbase", f"--include={included}", "bookworm", str(kept)])
        shutil.copy(CERTIFICATES, kept / CERTIFICATES.relative_to("/"))  # an index can have a certificate of its own authority
        for package in (kept / "var/cache/apt/archives").glob("*.deb"):
            package.unlink()
    return kept
