"""What a name says about an image, by the words for modalities: "MR T2 FLAIR", "non_contrast_CT", "SWI"."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from medsegagent.vocabulary.phrases import longest_term
from medsegagent.vocabulary.text import tokenize
from medsegagent.vocabulary.vocabulary import Vocabulary


@dataclass(frozen=True)
class ImageWords:
    """What was said, each in the order of the words.

    Attributes:
        families: "CT", "MR", "PET", and those that no card has ("US", "XR", ...).
        subtypes: Family and sub-type named together: ("MR", "T2").
        loose: Sub-types that fit whichever family is named: "contrast", "non-contrast".
    """

    families: tuple[str, ...]
    subtypes: tuple[tuple[str, str], ...]
    loose: tuple[str, ...]


@lru_cache(maxsize=4096)
def image_words(name: str, vocabulary: Vocabulary) -> ImageWords:
    """The modality words in the name of an image, a channel or a card."""
    families: list[str] = []
    subtypes: list[tuple[str, str]] = []
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
                subtypes += [(family, subtype)] if subtype else []
            elif category == "subtype":
                loose.append(value)
            elif category == "sequence_or_level":
                families += [] if "MR" in families else ["MR"]
                subtypes.append(("MR", value))
    return ImageWords(tuple(families), tuple(subtypes), tuple(loose))


def marks_in_name(name: str, vocabulary: Vocabulary) -> frozenset[str]:
    """Sub-types by the short marks that only names of series and files use: "t1_mprage_km", "ep2d_diff"."""
    pieces = {token.stem for token in tokenize(name.replace("_", " "))}
    found = (meaning.id for piece in pieces for meaning in vocabulary.meanings(piece) if meaning.flag == "w")
    return frozenset(id_.partition(":")[2] for id_ in found if id_.startswith("image_name:"))
