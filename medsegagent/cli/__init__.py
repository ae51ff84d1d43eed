"""The command line: parse, delegate, print."""

from __future__ import annotations

import sys

from medsegagent.cli.app import app, run_app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line and exit with its code."""
    sys.exit(run_app(sys.argv[1:]))
