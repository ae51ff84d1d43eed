"""`medsegagent targets`."""

from __future__ import annotations

from typing import Annotated

import typer

from medsegagent.cli import screen
from medsegagent.cli.options import LibraryOption, VocabularyOption


def targets(
    search: Annotated[str, typer.Option("--search", help="Only what this names, or begins like.")] = "",
    modality: Annotated[str, typer.Option("--modality", help="Only what can be found in CT, MR or PET.")] = "",
    library: LibraryOption = "all",
    vocabulary: VocabularyOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List what can be segmented, in which images, and which cards have it."""
    from medsegagent.cards.library import Library
    from medsegagent.errors import NoMatchError
    from medsegagent.models.targets import search as find
    from medsegagent.models.targets import targets as list_targets

    loaded = Library.load(library, vocabulary or ())
    rows = list_targets(loaded)
    if search:
        rows = find(rows, search, loaded.vocabulary)
    if modality:
        rows = tuple(row for row in rows if modality.upper() in row.cards)
    if not rows:
        near = ", ".join(loaded.vocabulary.nearest(search)) if search else ""
        hint = f"Did you mean {near}?" if near else "Ask without --modality and --search."
        raise NoMatchError("no card has a label for this", hint, search or modality)
    if as_json:
        fields = ("id", "name", "region", "sides", "cards")
        screen.as_json([{field: getattr(row, field) for field in fields} for row in rows])
        return
    told = [
        (row.name, ", ".join(row.sides), *(", ".join(row.cards.get(family, ())) for family in ("CT", "MR", "PET")))
        for row in rows
    ]
    screen.table(("target", "sides", "CT", "MR", "PET"), told)
