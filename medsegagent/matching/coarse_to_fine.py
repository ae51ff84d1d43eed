"""The three stages on one string: modality, anatomy, labels; and the reasons, when somebody asks."""

from __future__ import annotations

from collections.abc import Iterable

from medsegagent.cards.library import Library
from medsegagent.language.request import Request
from medsegagent.matching.anatomy import by_anatomy, cards_about
from medsegagent.matching.label import by_label
from medsegagent.matching.modality import by_modality, said, why_not
from medsegagent.matching.selection import Dropped, Refusal, Selection


def match(request: Request, library: Library) -> Selection:
    """Every card of the library that answers the request, with its labels; empty with a reason where none does."""
    if request.refusal is not None or not request.targets:
        kind: Refusal = "unknown target" if request.unresolved else "no request"
        return Selection(request=request, refusal=request.refusal or "No target is named.", refusal_kind=kind)
    candidates = sorted(cards_about(request, library))
    selection = by_label(request, library, by_modality(request, library, candidates))
    return selection if selection.cards else _refused(request, library, candidates)


def _refused(request: Request, library: Library, candidates: Iterable[str]) -> Selection:
    wanted = ", ".join(target.name for target in request.targets)
    elsewhere = by_label(request, library, candidates).cards if request.modality.families else ()
    if elsewhere:
        families = sorted(
            {item.family for card in elsewhere for channel in library.channels[card.card] for item in channel}
        )
        text = (
            f"No card has {wanted} in {said(request.modality)}; it exists in {' and '.join(families)} "
            f"({', '.join(card.card for card in elsewhere[:5])}). Name that modality if you have such an image."
        )
        return Selection(request=request, refusal=text, refusal_kind="other modality")
    text = f"I know {wanted}, but no card of this library has a label for it. {_closest(request, library)}"
    return Selection(request=request, refusal=text.strip(), refusal_kind="not covered")


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


def explain(request: Request, library: Library) -> tuple[Dropped, ...]:
    """Why each card that is not selected was dropped, at the first stage that dropped it."""
    names = tuple(library.cards)
    fitting = set(by_modality(request, library, names))
    about = set(by_anatomy(request, library, names))
    selected = {card.card for card in match(request, library).cards}
    wanted = ", ".join(target.name for target in request.targets) or "a target"
    dropped = []
    for name in names:
        if name in selected:
            continue
        if name not in fitting:
            dropped.append(
                Dropped(card=name, stage="modality", reason=why_not(library.channels[name], request.modality))
            )
        elif name not in about:
            dropped.append(Dropped(card=name, stage="anatomy", reason=f"Has no label for {wanted}."))
        else:
            dropped.append(Dropped(card=name, stage="label", reason=_too_coarse(request)))
    return tuple(dropped)


def _too_coarse(request: Request) -> str:
    if any(target.lesions for target in request.targets):
        return "Does not label both the organ and its lesions."
    if any(target.side for target in request.targets):
        return "Does not tell the sides apart, or has only the other side."
    return "Has only a part, or a label broader than what is asked for."
