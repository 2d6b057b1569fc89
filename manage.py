#!/usr/bin/env python
"""Django's command line, for SkyAuth."""

import os
import sys


def main() -> None:
    """Run a management command. An invalid setting is one message and exit code 2."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "skyauth.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.stderr.write(f"SkyAuth does not start: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
