"""Write docs/models.md from the shipped cards: what can be segmented, by which models, in which images.

python tools/make_models_page.py [FILE]
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from medsegagent.cards.library import Library
from medsegagent.models.catalogue import Offer, offers
from medsegagent.models.targets import Target, image_families, targets

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
FAMILIES = ("CT", "MR", "PET")
ACCESS = {"download": "by command", "page": "by hand, from a page", "licence": "with a licence number", "local": "-"}


INTRODUCTION = """\
# What can be segmented, and by which public models

Written by `tools/make_models_page.py` from the cards; `medsegagent targets` and `medsegagent models search` show the
same in the terminal. Licences are as their publishers state them, as far as that is known.

{targets} targets, {models} public models on {cards} cards. `medsegagent models install MODEL` installs one,
`medsegagent models install --for INSTRUCTION` what an instruction needs.

## Models
"""
REST = """
These cards have no public nnU-Net v2 model; train one or bring your own (see `add_a_card.md`):
{without}.

Public checkpoints without a card, and why, are listed in `models_left_out.md`.

## Targets

A target with sides can be had left and right apart."""


def page() -> str:
    """The page as Markdown."""
    shipped = Library.load("all")
    public = Library({name: card for name, card in shipped.cards.items() if card.models})
    models = list(offers(public))
    rows = targets(public)
    lines = [
        INTRODUCTION.format(targets=len(rows), models=len(models), cards=len(public)),
        *models_table(public, models),
    ]
    lines.append(REST.format(without=", ".join(name for name, card in shipped.cards.items() if not card.models)))
    for region, group in groupby(rows, key=lambda row: row.region):
        lines += region_table(region, group)
    return "\n".join(lines) + "\n"


def models_table(library: Library, models: Iterable[Offer]) -> list[str]:
    """One row per model."""
    lines = ["| model | card | images | labels | grid, mm | licence | to be had |", "| --- " * 7 + "|"]
    for offer in models:
        card, entry = offer.card, offer.entry
        grid = " x ".join(f"{edge:.3g}" for edge in entry.spacing_mm) if entry.spacing_mm else "-"
        images = ", ".join(image_families(library, card.name))
        cells = (f"`{entry.id}`", card.name, images, len(card.labels), grid, offer.licence, ACCESS[offer.access])
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def region_table(region: str, rows: Iterable[Target]) -> list[str]:
    """One row per target of a body region."""
    title = region.replace("_", " ").capitalize()
    lines = [
        "",
        f"### {title}",
        "",
        f"| target | sides | {' | '.join(FAMILIES)} |",
        "| --- " * (2 + len(FAMILIES)) + "|",
    ]
    for row in rows:
        cells = [row.name, ", ".join(row.sides), *(", ".join(row.cards.get(family, ())) for family in FAMILIES)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE).write_text(page(), encoding="utf-8")
