"""Which installed models give what an instruction asks for, and which public ones could.

python deployed.py INSTRUCTION [--library LIBRARY]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any


def medsegagent(*arguments: str) -> Any:
    """The JSON that a command prints; its refusal ends this script with the same exit code."""
    command = [sys.executable, "-m", "medsegagent", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
        raise SystemExit(done.returncode)
    return json.loads(done.stdout)


def main() -> None:
    """Print one line per card and target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("instruction")
    parser.add_argument("--library", default="all")
    given = parser.parse_args()
    selection = medsegagent("match", given.instruction, "--library", given.library)
    installed = medsegagent("models", "list", "--library", given.library)["models"]
    public = medsegagent("models", "search", "", "--library", given.library)
    for card, values in sorted(selection["labels"].items()):
        ready = [model["id"] for model in installed if model["card"] == card]
        offered = [f"{m['id']} ({m['access']}, licence: {m['licence']})" for m in public if m["card"] == card]
        state = f"installed: {', '.join(ready)}" if ready else "not installed"
        print(f"{card}, values {values}: {state}")
        if not ready:
            print(f"  could be had: {'; '.join(offered) or 'no public model is known'}")


if __name__ == "__main__":
    main()
