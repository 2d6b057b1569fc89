"""Whether other users of the machine can read or change a file: the one rule, for keys, the database and everything beside it."""

import os
import stat
from pathlib import Path


def open_to_others(status: os.stat_result) -> bool:
    """Return whether the mode of a file lets other users read or change it.

    The group can read a file of another owner: Kubernetes mounts secrets so, and SkyAuth reads them as a member of the group.
    """
    group = stat.S_IRWXG if status.st_uid == os.geteuid() else stat.S_IRWXG & ~stat.S_IRGRP
    return bool(status.st_mode & (group | stat.S_IRWXO))


def reachable_by_others(path: Path) -> bool:
    """Return whether other users can read or change a file: its mode lets them, and so does every directory above it."""
    return open_to_others(path.stat()) and all(
        folder.stat().st_mode & (stat.S_IXGRP | stat.S_IXOTH) for folder in path.resolve().parents
    )
