"""What a channel's name says about the images it takes: "MR T2 FLAIR", "non_contrast_CT", "MR or CT"."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from medsegagent.cards.card import DatasetCard
from medsegagent.vocabulary import Vocabulary
from medsegagent.vocabulary.images import image_words


class Accepted(NamedTuple):
    """One kind of image that a channel takes; no subtype means that every subtype will do."""

    family: str
    subtype: str = ""


@lru_cache(maxsize=4096)
def channel_accepts(name: str, vocabulary: Vocabulary) -> frozenset[Accepted]:
    """The kinds of image that one channel takes, any of them; empty if the name does not say."""
    said = image_words(name, vocabulary)
    families, loose = list(said.families), said.loose
    subtypes = [Accepted(*item) for item in said.subtypes]
    if loose and not families:
        families.append("CT")
    subtypes += [
        Accepted(family, _subtype_in(family, value)) for value in loose for family in families if family != "PET"
    ]
    plain = [
        Accepted(family) for family in families if not any(item.family == family and item.subtype for item in subtypes)
    ]
    return frozenset(plain + [item for item in subtypes if item.subtype])


def _subtype_in(family: str, value: str) -> str:
    if family == "MR":
        return "T1ce" if value == "contrast" else ""
    return value


def card_accepts(card: DatasetCard, vocabulary: Vocabulary) -> tuple[frozenset[Accepted], ...]:
    """Per channel, in order, what it takes. Where no name says anything, the card's own text is asked."""
    channels = tuple(channel_accepts(name, vocabulary) for name in card.channel_names.values())
    if any(channels):
        return channels
    said = channel_accepts(f"{card.name} {card.description}"[:2000], vocabulary)
    return tuple(frozenset(Accepted(item.family) for item in said) for _ in channels)
