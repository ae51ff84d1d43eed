"""Just enough HTML: everything that is not markup is escaped here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from medsegagent.wording import plain

Cell = str | float | int | None
"""What goes into a page; a `Raw` is markup, any other string is text."""


class Raw(str):
    """Markup, already escaped."""

    __slots__ = ()


class Figure(Raw):
    """A number that is already spelt out, such as `0.92` or `44 ± 20`."""

    __slots__ = ()


def text(value: Cell) -> Raw:
    """Return a value as markup: numbers to three significant digits or whole, None as a dash."""
    match value:
        case Raw():
            return value
        case None:
            return Raw("–")
        case bool():
            return Raw("yes" if value else "no")
        case float():
            return Raw(f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}")
        case int():
            return Raw(f"{value:,}")
        case _:
            return Raw(escape(plain(str(value))))


def tag(name: str, *content: Cell, **attributes: str) -> Raw:
    """Return an element; `class_` and the like lose their underscore, others become `data-x` style hyphens."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(plain(value))}"' for key, value in attributes.items()
    )
    return Raw(f"<{name}{given}>{''.join(text(part) for part in content)}</{name}>")


def join(parts: Iterable[Cell], between: str = "") -> Raw:
    """Concatenate."""
    return Raw(escape(between).join(text(part) for part in parts))


def table(head: Sequence[Cell], rows: Iterable[Sequence[Cell]], caption: str = "") -> Raw:
    """Return a table in a box that scrolls on narrow screens; the first column names its row.

    Columns of numbers are set to the right.
    """
    body = [list(row) for row in rows]
    kinds = [_kind([row[column] for row in body]) for column in range(len(head))]
    header = tag("tr", *(tag("th", cell, scope="col", **kind) for cell, kind in zip(head, kinds, strict=True)))
    lines = [
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *(tag("td", cell, **kind) for cell, kind in zip(row[1:], kinds[1:], strict=True)),
        )
        for row in body
    ]
    title = tag("caption", caption) if caption else Raw()
    return tag("div", tag("table", title, tag("thead", header), tag("tbody", *lines)), class_="scroll", tabindex="0")


def _kind(cells: Sequence[Cell]) -> dict[str, str]:
    known = [cell for cell in cells if cell is not None]
    numeric = known and all(isinstance(cell, Figure | int | float) and not isinstance(cell, bool) for cell in known)
    return {"class_": "number"} if numeric else {}
