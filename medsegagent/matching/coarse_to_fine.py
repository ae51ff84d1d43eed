"""The three stages on one string: modality, anatomy, labels; and the reasons, when somebody asks."""

from __future__ import annotations

from medsegagent.cards.library import Library
from medsegagent.language.request import Request
from medsegagent.matching import anatomy, label, modality
from medsegagent.matching.anatomy import cards_about
from medsegagent.matching.label import by_label
from medsegagent.matching.modality import by_modality, said
from medsegagent.matching.selection import Dropped, Selection


def match(request: Request, library: Library) -> Selection:
    """Every card of the library that answers the request, with its labels; empty with a reason where none does."""
    if request.refusal is not None or not request.targets:
        return Selection(request=request, refusal=why_nothing(request, library))
    # Anatomy first, through the index: the same cards in the end, and most are never looked at.
    candidates = sorted(cards_about(request, library))
    selection = by_label(request, library, by_modality(request, library, candidates))
    return selection if selection.cards else Selection(request=request, refusal=why_nothing(request, library))


def match_with_reasons(request: Request, library: Library) -> tuple[Selection, tuple[Dropped, ...]]:
    """The same, stage by stage, with the reason for each card that is not selected."""
    by_kind = modality.narrow(request, library, library.cards)
    by_region = anatomy.narrow(request, library, by_kind.kept)
    selection, by_labels = label.narrow(request, library, by_region.kept)
    if not selection.cards:
        selection = Selection(request=request, refusal=why_nothing(request, library))
    return selection, tuple(
        sorted((*by_kind.dropped, *by_region.dropped, *by_labels), key=lambda dropped: dropped.card)
    )


def why_nothing(request: Request, library: Library) -> str:
    """Why no card answers a request, and what to do about it."""
    if request.refusal is not None or not request.targets:
        return request.refusal or "No target is named."
    wanted = ", ".join(target.name for target in request.targets)
    candidates = sorted(cards_about(request, library)) if request.modality.families else ()
    elsewhere = by_label(request, library, candidates).cards
    if elsewhere:
        families = sorted(
            {item.family for card in elsewhere for channel in library.channels[card.card] for item in channel}
        )
        return (
            f"No card has {wanted} in {said(request.modality)}; it exists in {' and '.join(families)} "
            f"({', '.join(card.card for card in elsewhere[:5])}). Name that modality if you have such an image."
        )
    return f"I know {wanted}, but no card of this library has a label for it. {_closest(request, library)}".strip()


def _closest(request: Request, library: Library) -> str:
    """The nearest thing that can be had: a whole that the target is part of, or the unsided structure."""
    vocabulary = library.vocabulary
    bound = {item.id for item in library.cards_with}
    near = [
        vocabulary.concept(whole).name
        for target in request.targets
        for id_ in target.concepts
        for whole in sorted(vocabulary.wholes(id_) & bound)
        if vocabulary.concept(whole).kind not in ("region", "lesion")
    ]
    return f"The nearest it has: {', '.join(dict.fromkeys(near))}." if near else "Add a card for a model that has it."
