#!/usr/bin/env python
"""Django's command line, for SkyAuth. bin/skyauth runs the same commands, with a help of its own."""

from skyauth.command_line import main

if __name__ == "__main__":
    main()
