"""`cases.csv`: how each of several cases went."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from medsegagent.errors import OutputError
from medsegagent.untrusted import open_regular

CASES = "cases.csv"
_LONGEST_HEAD = 200
Status = Literal["done", "already done", "failed"]


@dataclass(frozen=True)
class CaseOutcome:
    """How one case went.

    Attributes:
        case: Its name.
        status: "already done" if an earlier run of the same request was found.
        exit_code: What a run of this case alone would answer to the shell.
        seconds: Wall time; of one already done, that of its run.
        warnings: How many.
        message: Why it failed.
        volumes_ml: Structure id -> mL.
    """

    case: str
    status: Status
    exit_code: int = 0
    seconds: float = 0.0
    warnings: int = 0
    message: str = ""
    volumes_ml: Mapping[str, float] = field(default_factory=dict)


_FIRST = ("case", "status", "exit_code", "seconds", "warnings", "message")


def check_case_table(folder: Path) -> None:
    """See that a `cases.csv` which is there is one of ours: it may be the very list of cases.

    Raises:
        OutputError: If it is not.
    """
    file = folder / CASES
    if not os.path.lexists(file):
        return
    try:
        with open_regular(file) as stream:
            ours = stream.read(_LONGEST_HEAD).startswith(",".join(_FIRST).encode())
    except (OSError, ValueError):
        ours = False
    if not ours:
        what = f"it holds a {CASES} that no run has written"
        raise OutputError(what, "Choose another folder with -o, or call that file otherwise.", str(folder))


def write_case_table(folder: Path, names: Sequence[str], outcomes: Sequence[CaseOutcome]) -> None:
    """Write `cases.csv` in one step: whoever reads it, or is killed, finds the last table or this one.

    Columns: case, status ("pending" before it has run), exit_code, seconds, warnings, message, and `ID_ml` for each
    structure of any case.

    Args:
        folder: Where.
        names: All cases, in order.
        outcomes: Of those that have run.

    Raises:
        OutputError: If it cannot be written.
    """
    known = {outcome.case: outcome for outcome in outcomes}
    structures = list(dict.fromkeys(name for outcome in outcomes for name in outcome.volumes_ml))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*_FIRST, *(f"{s}_ml" for s in structures)])
    for name in names:
        table.writerow(_row(known[name], structures) if name in known else [name, "pending"])
    partial = folder / f".{CASES}.partial"
    try:
        partial.write_text(text.getvalue(), "utf-8", errors="backslashreplace")
        os.replace(partial, folder / CASES)
    except OSError as error:
        what = f"the table of cases cannot be written ({error.strerror})"
        raise OutputError(what, "Free some space, or choose another place with -o.", str(folder)) from error


def _row(outcome: CaseOutcome, structures: Sequence[str]) -> list[object]:
    message = " ".join(outcome.message.split())
    # A spreadsheet would take these for formulas, and messages quote what came from outside.
    message = f"'{message}" if message[:1] in ("=", "+", "-", "@") else message
    volumes = (outcome.volumes_ml.get(name) for name in structures)
    return [
        outcome.case,
        outcome.status,
        outcome.exit_code,
        f"{outcome.seconds:.1f}",
        outcome.warnings,
        message,
        *("" if volume is None else f"{volume:.3f}" for volume in volumes),
    ]
