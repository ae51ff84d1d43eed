"""The command line: parse, delegate, print."""

from __future__ import annotations

import signal
import sys

from medsegagent.cli.app import app, run_app

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line and exit with its code."""
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", None)):
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:  # `nohup` ignores it, and is right
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
    sys.exit(run_app(sys.argv[1:]))
