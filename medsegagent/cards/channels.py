"""What a channel's name says about the images it takes: "MR T2 FLAIR", "non_contrast_CT", "MR or CT"."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from medsegagent.cards.card import DatasetCard
from medsegagent.vocabulary import Vocabulary
from medsegagent.vocabulary.phrases import longest_term
from medsegagent.vocabulary.text import tokenize


class Accepted(NamedTuple):
    """One kind of image that a channel takes; no subtype means that every subtype will do."""

    family: str
    subtype: str = ""


@lru_cache(maxsize=4096)
def channel_accepts(name: str, vocabulary: Vocabulary) -> frozenset[Accepted]:
    """The kinds of image that one channel takes, any of them; empty if the name does not say."""
    families: list[str] = []
    subtypes: list[Accepted] = []
    loose: list[str] = []
    tokens = tokenize(name.replace("_", " "))
    position = 0
    while position < len(tokens):
        phrase = longest_term(tokens, position, vocabulary)
        position = phrase.last if phrase else position + 1
        for meaning in phrase.meanings if phrase else ():
            category, _, value = meaning.id.partition(":")
            if meaning.flag != "w":
                continue
            if category == "modality":
                family, _, subtype = value.partition("/")
                families += [piece for piece in family.split("+") if piece not in families]
                subtypes += [Accepted(family, subtype)] if subtype else []
            elif category == "subtype":
                loose.append(value)
            elif category == "sequence_or_level":
                families += [] if "MR" in families else ["MR"]
                subtypes.append(Accepted("MR", value))
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
