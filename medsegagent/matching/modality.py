"""First stage: which cards take the kind of image that the request names."""

from __future__ import annotations

from collections.abc import Iterable

from medsegagent.cards.channels import Accepted
from medsegagent.cards.library import Library
from medsegagent.language.request import Modality, Request
from medsegagent.matching.selection import Dropped, Narrowed

Channels = tuple[frozenset[Accepted], ...]


def by_modality(request: Request, library: Library, cards: Iterable[str]) -> tuple[str, ...]:
    """The cards whose channels fit the request's modality, in the order given.

    A channel that names no sub-type ("CT") takes every one; a channel that names one takes that one and a request
    that names none. A request for several sequences, or for PET/CT, wants a card that has them all.
    """
    channels = library.channels
    decided: dict[Channels, bool] = {}
    kept = []
    for name in cards:
        offered = channels[name]
        if offered not in decided:
            decided[offered] = accepts(offered, request.modality)
        if decided[offered]:
            kept.append(name)
    return tuple(kept)


def narrow(request: Request, library: Library, cards: Iterable[str]) -> Narrowed:
    """`by_modality`, with a reason for each card that goes."""
    before = tuple(cards)
    kept = by_modality(request, library, before)
    gone = set(before) - set(kept)
    dropped = (
        Dropped(card=name, stage="modality", reason=why_not(library.channels[name], request.modality))
        for name in before
        if name in gone
    )
    return Narrowed(kept=kept, dropped=tuple(dropped))


def accepts(channels: Channels, modality: Modality) -> bool:
    """Whether a card with these channels takes images of this modality."""
    if not modality.families:
        return True
    fitting = [_accepts_family(channels, family, modality) for family in modality.families]
    return all(fitting) if modality.combined else any(fitting)


def _accepts_family(channels: Channels, family: str, modality: Modality) -> bool:
    offered = {item.subtype for channel in channels for item in channel if item.family == family}
    if not offered:
        return False
    wanted = [_subtype_in(family, subtype) for subtype in modality.subtypes]
    fits = [not subtype or not offered.isdisjoint(("", subtype)) for subtype in wanted]
    return not fits or (any(fits) if modality.any_subtype else all(fits))


def _subtype_in(family: str, subtype: str) -> str:
    """How a family calls a sub-type; empty where it means nothing there (a sequence in CT, contrast in PET)."""
    ct_only = subtype in ("contrast", "non-contrast")
    if family == "CT":
        return subtype if ct_only else ""
    if family == "MR":
        return {"contrast": "T1ce", "non-contrast": ""}.get(subtype, subtype)
    return ""


def why_not(channels: Channels, modality: Modality) -> str:
    """Why a card with these channels is not taken, in one short sentence."""
    takes = " and ".join(
        " or ".join(sorted({_said(item) for item in channel})) or "an unnamed channel" for channel in channels
    )
    return f"Takes {takes}, not {said(modality)}."


def said(modality: Modality) -> str:
    """The modality in words: "PET/CT", "MR T1"."""
    families = ("/" if modality.combined else " or ").join(modality.families) or "any modality"
    return " ".join([families, (" or " if modality.any_subtype else " + ").join(modality.subtypes)]).strip()


def _said(item: Accepted) -> str:
    return f"{item.family} {item.subtype}".strip()
