"""From a structure's concept to its SNOMED CT code."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from medsegagent.export.segment import Coding
from medsegagent.fusion.segmentation import Segmentation
from medsegagent.vocabulary import Vocabulary
from medsegagent.vocabulary.text import term_key

_SIDE = re.compile(r"(?<![a-z])(left|right)(?![a-z])", re.IGNORECASE)


def codings_of(segmentation: Segmentation, vocabulary: Vocabulary) -> Mapping[str, Coding]:
    """Code the structures that stand for one concept, by structure id; the others have none."""
    single = {item.id: item for item in segmentation.structures if len(item.concepts) == 1}
    return {
        id_: _coding(item.concepts[0], item.side or _side(id_), vocabulary)
        for id_, item in single.items()
        if item.concepts[0] in vocabulary
    }


def coding_of_name(name: str, vocabulary: Vocabulary) -> Coding | None:
    """Code a label's name, if it is a term for exactly one concept; "left" and "right" may stand anywhere in it."""
    words = _SIDE.sub(" ", name.replace("_", " "))
    found = {meaning.id for meaning in vocabulary.meanings(term_key(words)) if meaning.flag in "nl"}
    return _coding(found.pop(), _side(name), vocabulary) if len(found) == 1 else None


def _coding(concept_id: str, side: Literal["left", "right", ""], vocabulary: Vocabulary) -> Coding:
    concept = vocabulary.concept(concept_id)
    return Coding(concept.code, concept.name, side if concept.paired else "", concept.kind == "lesion")


def _side(name: str) -> Literal["left", "right", ""]:
    sides = {side.lower() for side in _SIDE.findall(name)}
    if len(sides) != 1:
        return ""
    return "left" if "left" in sides else "right"
