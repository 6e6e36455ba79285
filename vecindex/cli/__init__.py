"""The command line. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command that `sys.argv` holds, and exit with its code."""
    try:
        from vecindex.cli.app import app

        app(prog_name="vecindex")
    except KeyboardInterrupt:
        sys.exit(130)
