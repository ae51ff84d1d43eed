"""What the terminal shows: one console for results, one for everything about them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from medsegagent.wording import plain


class _Console(Console):
    """A console that is steered by this program alone: strings, cells of tables too, lose what steers terminals."""

    def render_str(self, text: str, **how: Any) -> Text:
        return super().render_str(plain(text), **how)


out = _Console(highlight=False)
"""Results: goes down a pipe."""
err = _Console(stderr=True, highlight=False)
"""Progress, conversation, warnings, errors."""


_WIDEST = 26


def problem(text: str) -> None:
    """Show an error."""
    err.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)


def warn(text: str) -> None:
    """Show a warning."""
    err.print(f"[yellow]warning:[/] {escape(text)}", soft_wrap=True)


def table(columns: Iterable[str], rows: Iterable[Iterable[object]], title: str | None = None) -> None:
    """Print a table; wide on a pipe, so that no cell is cut."""
    view = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        view.add_column(column, overflow="fold")
    for row in rows:
        view.add_row(*(escape(str(cell)) for cell in row))
    out.print(view)


def lines(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> None:
    """Print a table without rules, one line a row: where it does not fit, its last column is cut."""
    titles, texts = list(columns), [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(titles, *texts, strict=True)]
    view = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for title, width in zip(titles, widths, strict=True):
        least = None if title == titles[-1] else min(width, _WIDEST)
        view.add_column(title, overflow="ellipsis", no_wrap=True, min_width=least)
    for row in texts:
        view.add_row(*map(escape, row))
    out.print(view)


def as_json(data: Any) -> None:
    """Print machine-readable output and nothing else; what would steer a terminal is escaped, so nothing is lost."""
    text = json.dumps(data, indent=2, ensure_ascii=False)
    out.file.write("".join(c if plain(c) == c else f"\\u{ord(c):04x}" for c in text) + "\n")
