"""One evaluation on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from medsegagent.evaluation.results import Evaluation, summary_lines, verdict

_SHOWN = 20


def show(found: Evaluation, console: Console) -> None:
    """Write the breakdown by kind, the first wrong answers with their reasons, the figures, and where the files are."""
    console.print(_kinds(found))
    for item in found.failures[:_SHOWN]:
        console.print(Text.assemble((_printable(item.row.id), "bold red"), " ", _printable(item.row.query)))
        console.print(Text(_printable(f"    {verdict(item)}")))
        if item.record is not None and item.record.explanation:
            console.print(Text(_printable(f"    {item.record.explanation}"), style="dim"))
    if (more := len(found.failures) - _SHOWN) > 0:
        console.print(f"... and {more} more wrong answers; the page and the results file have them all.")
    for line in summary_lines(found):
        console.print(Text(line), soft_wrap=True)
    for kind, file in found.files.items():
        console.print(Text(f"{kind}: {file}"), soft_wrap=True)


def _kinds(found: Evaluation) -> Table:
    table = Table("kind")
    for name in ("queries", "all found", "hit rate", "any found"):
        table.add_column(name, justify="right")
    for kind, item in found.accuracy.by_kind.items():
        rates = (item.rates.all_found, item.rates.hit_rate, item.rates.any_found)
        table.add_row(Text(kind), str(item.queries), *(f"{rate:.1%}" for rate in rates))
    return table


def _printable(text: str) -> str:
    # Lone surrogates can come out of a bench's or an LLM's JSON, but not into a terminal; nor should escape codes.
    clean = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in clean)
