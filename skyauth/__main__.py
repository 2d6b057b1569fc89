"""The command `skyauth`, which `bin/skyauth` starts."""

import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parent.parent)
if sys.path[0] != ROOT:
    sys.path[0] = ROOT  # in place of the directory of this file, whose modules are not on top of others

from skyauth.command_line import main, print_own_answer  # noqa: E402 - it is found on the path that is set above

if __name__ == "__main__":
    sys.argv[0] = "skyauth"
    if not print_own_answer(sys.argv[1:]):
        main()
