"""Several runs side by side: accuracy, calls, tokens, seconds, as a table and as a page with bars."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from medsegagent.errors import OutputError
from medsegagent.evaluation.results import Evaluation, as_json
from medsegagent.untrusted import open_regular, read_json_object

_LARGEST = 256 * 2**20
_TITLE = "Patterns side by side"
_HEAD = 4096
"""Bytes of a page in which its title stands."""


@dataclass(frozen=True)
class Run:
    """One run's figures; rates in [0, 1], costs per query."""

    pattern: str
    model: str
    bench: str
    queries: int
    failed: int
    all_found: float
    hit_rate: float
    f1: float
    refused: float | None
    """Correct refusals among the negatives; None without negatives."""
    calls: float
    prompt_tokens: float
    completion_tokens: float
    seconds: float | None
    """Median; None if not timed."""

    @property
    def name(self) -> str:
        """Pattern and model."""
        return f"{self.pattern}, {self.model}"


COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("All found", "all_found", ".1%"),
    ("Hit rate", "hit_rate", ".1%"),
    ("Label F1", "f1", ".3f"),
    ("Refusals", "refused", ".1%"),
    ("Calls", "calls", ".2f"),
    ("Prompt tokens", "prompt_tokens", ",.0f"),
    ("Completion tokens", "completion_tokens", ",.0f"),
    ("Seconds", "seconds", ".3f"),
    ("Errors", "failed", "d"),
)
"""Title, field, format; costs are per query, seconds the median."""

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2733;--soft:#5b6b7b;--line:#d9e0e7;--back:#fff;--bar:#2f6fb2}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa9b8;--line:#33404d;--back:#12181f;--bar:#6aa9e9}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);max-width:1080px;margin:2rem auto;
padding:0 1.2rem}h1{font-size:1.5rem}h2{font-size:1.1rem;margin:1.6rem 0 .4rem}.soft{color:var(--soft)}
.row{display:grid;grid-template-columns:minmax(8rem,16rem) 1fr 6.5rem;gap:.7rem;align-items:center;margin:.2rem 0}
.row span{overflow-wrap:anywhere}.row b{text-align:right;font-variant-numeric:tabular-nums;font-weight:600}
.bar{background:var(--line);border-radius:4px;height:.8rem}.bar i{display:block;height:100%;border-radius:4px;
background:var(--bar)}
"""


def run_of(data: dict[str, Any]) -> Run:
    """The figures of one results file (`as_json`).

    Raises:
        KeyError: If it is none.
        TypeError: Likewise.
    """
    figures, cost, head = data["accuracy"], data["cost"], data["header"] or {}
    queries = figures["queries"]
    return Run(
        pattern=head.get("pattern", "?"),
        model=head.get("model", "?"),
        bench=data["bench"],
        queries=queries,
        failed=figures["failed"],
        all_found=figures["rates"]["all_found"],
        hit_rate=figures["rates"]["hit_rate"],
        f1=figures["micro"]["f1"],
        refused=figures["refusals"]["rate"],
        calls=cost["calls"] / queries,
        prompt_tokens=cost["prompt_tokens"] / queries,
        completion_tokens=cost["completion_tokens"] / queries,
        seconds=cost["p50_s"],
    )


def read_runs(files: Sequence[Path]) -> tuple[Run, ...]:
    """Read results files.

    Raises:
        OutputError: If one is no results file of ours.
    """
    runs = []
    for file in files:
        try:
            runs.append(run_of(read_json_object(file, _LARGEST)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"is no results file ({type(error).__name__})"
            raise OutputError(what, "Give the .json files that evaluations have written.", str(file)) from error
    return tuple(runs)


def runs_of(evaluations: Sequence[Evaluation]) -> tuple[Run, ...]:
    """The figures of runs that were just made."""
    return tuple(run_of(as_json(item)) for item in evaluations)


def show_comparison(runs: Sequence[Run], console: Console) -> None:
    """Print the table: a column per run."""
    table = Table("")
    for run in runs:
        table.add_column(Text(f"{run.pattern}\n{run.model}"), justify="right", overflow="fold")
    table.add_row("Bench", *(Text(f"{run.bench}, {run.queries}") for run in runs))
    for column in COLUMNS:
        table.add_row(column[0], *(_cell(run, column) for run in runs))
    console.print(table)


def comparison_page(runs: Sequence[Run]) -> str:
    """The same as one self-contained HTML page: a bar per run and figure. All text from outside is escaped."""
    benches = ", ".join(sorted({f"{run.bench} ({run.queries} queries)" for run in runs}))
    charts = "".join(_chart(runs, column) for column in COLUMNS)
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<title>{_TITLE}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>{_TITLE}</h1><p class=soft>{escape(benches)}. Calls and tokens are means per query, "
        f"seconds the median.</p>{charts}</body></html>\n"
    )


def _head(file: Path) -> bytes:
    try:
        with open_regular(file) as stream:
            return stream.read(_HEAD)
    except ValueError:
        return b""


def write_comparison(runs: Sequence[Run], file: Path) -> None:
    """Write the page.

    Raises:
        OutputError: If it cannot be written, or something else is there: a results file given twice, for one.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(file) and _TITLE.encode() not in _head(file):
            raise OutputError("this file is no comparison, and stays", "Choose another with -o.", str(file))
        file.write_text(comparison_page(runs), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"cannot be written ({error})", "Choose another file.", str(file)) from error


def _chart(runs: Sequence[Run], column: tuple[str, str, str]) -> str:
    title, field, form = column
    top = 1.0 if "%" in form or field == "f1" else max([getattr(run, field) or 0.0 for run in runs] + [0.0])
    rows = "".join(
        f"<div class=row><span>{escape(run.name)}</span>"
        f'<div class=bar><i style="width:{100 * (getattr(run, field) or 0.0) / (top or 1.0):.1f}%"></i></div>'
        f"<b>{_cell(run, column)}</b></div>"
        for run in runs
    )
    return f"<h2>{title}</h2>{rows}"


def _cell(run: Run, column: tuple[str, str, str]) -> str:
    value = getattr(run, column[1])
    return "-" if value is None else format(value, column[2])
