"""Which concept a card's label means, derived from the label's name by the same vocabulary that reads instructions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from medsegagent.cards.card import DatasetCard
from medsegagent.vocabulary import Meaning, Sided, Vocabulary
from medsegagent.vocabulary.phrases import longest_term
from medsegagent.vocabulary.text import Token, tokenize

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z]{2})(?=[a-z]{3,})")
_SIDES = {"left": "left", "l": "left", "lt": "left", "right": "right", "r": "right", "rt": "right"}
_LEVELS = {"c": "c", "t": "t", "th": "t", "l": "l", "s": "s"}
_SPARE = frozenset(
    ["of", "the", "and", "muscle", "region", "area", "part", "structure", "in", "gyri", "pediatric", "pediatrics"]
)


@dataclass(frozen=True)
class Binding:
    """What one label of a card means.

    Attributes:
        label: The label's name.
        concepts: Any one of these is meant ("prostate or uterus" has two); empty if the name is not understood.
        lesions: Lesions that the label holds besides the organ ("kidney and masses").
    """

    label: str
    concepts: tuple[Sided, ...]
    lesions: tuple[str, ...] = ()


def bind(card: DatasetCard, vocabulary: Vocabulary) -> tuple[Binding, ...]:
    """What each label of the card means, in the card's order; a phrase in `card.bindings` overrides the name."""
    context = f"{card.body_region}. {card.name}. {card.description}"[:2000]
    return tuple(bind_label(card.bindings.get(label, label), context, vocabulary, label) for label in card.labels)


def bind_label(name: str, context: str, vocabulary: Vocabulary, label: str | None = None) -> Binding:
    """What a label of this name means on a card that says `context` about itself."""
    concepts, lesions, unplaced = _read_name(name, vocabulary)
    if unplaced:
        concepts = tuple(Sided(_at_site(item.id, context, vocabulary), item.side) for item in concepts)
    return Binding(label if label is not None else name, concepts, lesions)


@lru_cache(maxsize=65536)
def _read_name(name: str, vocabulary: Vocabulary) -> tuple[tuple[Sided, ...], tuple[str, ...], bool]:
    """What the name says by itself, and whether only the card can tell where that lesion is."""
    words = _CAMEL.sub(" ", name.replace("_", " ").replace("-", " "))
    concepts, lesions = _read(words.lower(), vocabulary)
    return concepts, lesions, any(_needs_site(item.id, words, vocabulary) for item in concepts)


def _read(words: str, vocabulary: Vocabulary) -> tuple[tuple[Sided, ...], tuple[str, ...]]:
    tokens = [token for token in tokenize(words) if token.kind != "mark"]
    if named := _noun([token.stem for token in tokens], vocabulary):
        return (named,), ()
    side, rest = _take_side(tokens)
    joined = any(token.stem in ("and", "or") for token in rest)
    whole = _noun([token.stem for token in rest], vocabulary) if joined else _resolve(rest, vocabulary)
    if whole:
        return (Sided(whole.id, whole.side or _side_for(whole.id, side, vocabulary)),), ()
    found: list[Sided] = []
    for piece in _pieces(rest):
        own_side, bare = _take_side(piece)
        if (part := _resolve(bare, vocabulary)) is None:
            return (), ()
        found.append(Sided(part.id, part.side or _side_for(part.id, own_side or side, vocabulary)))
    if not found:
        return (), ()
    organs = [item for item in found if vocabulary.concept(item.id).kind != "lesion"]
    families = [item for item in found if vocabulary.concept(item.id).kind == "lesion"]
    if organs and families and len(organs) == 1:
        site = organs[0].id
        return tuple(organs), tuple(item.id if vocabulary.site(item.id) else f"{item.id}.{site}" for item in families)
    return tuple(found), ()


def _take_side(tokens: list[Token]) -> tuple[str, list[Token]]:
    for position, token in enumerate(tokens):
        following = tokens[position + 1] if position + 1 < len(tokens) else None
        is_level = (
            len(token.stem) == 1
            and following is not None
            and following.kind == "number"
            and following.start == token.end
        )
        if token.stem in _SIDES and not is_level and len(tokens) > 1:
            return _SIDES[token.stem], tokens[:position] + tokens[position + 1 :]
    return "", tokens


def _side_for(id_: str, side: str, vocabulary: Vocabulary) -> str:
    return "" if side and vocabulary.concept(id_).side == side else side


def _pieces(tokens: list[Token]) -> Iterator[list[Token]]:
    """The parts of "X or Y", "X and Y"."""
    piece: list[Token] = []
    for token in tokens:
        if token.stem in ("and", "or"):
            yield piece
            piece = []
        else:
            piece.append(token)
    yield piece


def _resolve(tokens: list[Token], vocabulary: Vocabulary) -> Sided | None:
    if not tokens:
        return None
    stems = [token.stem for token in tokens]
    return (
        _level(tokens, vocabulary)
        or _noun(stems, vocabulary)
        or _numbered(stems, vocabulary)
        or _sited_lesion(stems, vocabulary)
        or _bag(stems, vocabulary)
        or (
            _resolve([t for t in tokens if t.kind != "number"], vocabulary)
            if stems[-1].isdecimal() and len(stems) > 1
            else None
        )
    )


def _noun(stems: list[str], vocabulary: Vocabulary) -> Sided | None:
    meanings = vocabulary.meanings(" ".join(stems))
    for flags in ("l", "nb", "m"):
        for meaning in meanings:
            if meaning.flag in flags:
                return Sided(meaning.id, meaning.side)
    return None


def _level(tokens: list[Token], vocabulary: Vocabulary) -> Sided | None:
    """`vertebrae_L5`, `Vertebra T12`, `C3`: a level letter and its number without a gap."""
    letter, number = tokens[-2:] if len(tokens) > 1 else (None, None)
    if letter is None or number is None or number.kind != "number" or letter.end != number.start:
        return None
    id_ = f"vertebra_{_LEVELS.get(letter.stem, '?')}{int(number.stem)}"
    before = [token.stem for token in tokens[:-2]]
    if id_ not in vocabulary or (before and (spine := _noun(before, vocabulary)) and spine.id != "spine"):
        return None
    return Sided(id_) if not before or _noun(before, vocabulary) else None


def _numbered(stems: list[str], vocabulary: Vocabulary) -> Sided | None:
    """`rib 4`, `liver segment 2`."""
    numbers = [stem for stem in stems if stem.isdecimal()]
    if len(numbers) != 1 or len(stems) < 2:
        return None
    group = _noun([stem for stem in stems if not stem.isdecimal()], vocabulary)
    for member in vocabulary.concept(group.id).members if group else ():
        if vocabulary.concept(member.partition(":")[0]).number == int(numbers[0]):
            return Sided(member.partition(":")[0])
    return None


def _sited_lesion(stems: list[str], vocabulary: Vocabulary) -> Sided | None:
    """`liver_tumor`, `hepatic lesions`, `tumor of the kidney`, `wall stomach`."""
    words = [stem for stem in stems if stem not in ("of", "the", "in")]
    for cut in range(1, len(words)):
        for site_words, family_words in ((words[:cut], words[cut:]), (words[cut:], words[:cut])):
            family = _noun(family_words, vocabulary)
            site = _site(site_words, vocabulary)
            if family and site and _is_family(family.id, vocabulary):
                return Sided(f"{family.id}.{site.id}", site.side)
    return None


def _is_family(id_: str, vocabulary: Vocabulary) -> bool:
    """A lesion, or a part that every structure has; no part of one structure alone (a lung's lobe)."""
    concept = vocabulary.concept(id_)
    anywhere = concept.kind == "lesion" or (concept.kind == "part" and not concept.part_of)
    return anywhere and "." not in id_


def _site(stems: list[str], vocabulary: Vocabulary) -> Meaning | None:
    for meaning in vocabulary.meanings(" ".join(stems)):
        if meaning.flag in "nab" and vocabulary.concept(meaning.id).kind not in ("lesion", "device"):
            return meaning
    return None


def _bag(stems: list[str], vocabulary: Vocabulary) -> Sided | None:
    """The same words in another order (`heart_atrium`, `lung_middle_lobe`, `cava inferior vena`)."""
    return _bags(vocabulary).get(frozenset(stem for stem in stems if stem not in _SPARE))


@lru_cache(maxsize=4)
def _bags(vocabulary: Vocabulary) -> dict[frozenset[str], Sided]:
    bags: dict[frozenset[str], Sided] = {}
    for key in vocabulary.keys:
        words = frozenset(piece for piece in key.split(" ") if piece not in _SPARE)
        noun = next((m for m in vocabulary.meanings(key) if m.flag == "n"), None)
        if noun and key.isascii() and len(words) > 1:
            bags.setdefault(words, Sided(noun.id, noun.side))
    return bags


def _needs_site(id_: str, words: str, vocabulary: Vocabulary) -> bool:
    """A lesion whose label does not say where it is: "tumor", "whole tumor", "GTVp"."""
    if vocabulary.concept(id_).kind != "lesion":
        return False
    site = vocabulary.site(id_)
    if not site or site == "head_and_neck":
        return True
    stems = [token.stem for token in tokenize(words) if token.kind != "mark"]
    spoken = (" ".join(stems[i:j]) for i in range(len(stems)) for j in range(i + 1, len(stems) + 1))
    places = {meaning.id for key in spoken for meaning in vocabulary.meanings(key) if meaning.flag in "nab"}
    return not places & vocabulary.wholes(site)


def _at_site(id_: str, context: str, vocabulary: Vocabulary) -> str:
    """The lesion where the card says it is, narrowed to the one named tumour that the card is about."""
    mentions = _mentions(context, vocabulary)
    family = id_.partition(".")[0]
    site = vocabulary.site(id_)
    named = {m for m in mentions if vocabulary.concept(m).kind == "lesion" and id_ in vocabulary.ancestors(m) - {m}}
    tops = {m for m in named if not named & (vocabulary.ancestors(m) - {m})}
    if site and site != "head_and_neck":
        return tops.pop() if len(tops) == 1 else id_
    places = [m for m in mentions if vocabulary.concept(m).kind not in ("lesion", "part", "device", "tissue")]
    places += [vocabulary.site(m) for m in mentions if vocabulary.concept(m).kind == "lesion" and vocabulary.site(m)]
    inside = [m for m in places if site and m != site and vocabulary.contains(site, m)]
    if inside:
        return f"{family}.{inside[0]}"
    if site or "whole_body" in mentions:
        return id_
    return f"{family}.{places[0]}" if places else id_


@lru_cache(maxsize=8192)
def _mentions(text: str, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Every concept that a text names, nouns and adjectives, in order."""
    tokens = tokenize(text.replace("_", " "))
    found: list[str] = []
    position = 0
    while position < len(tokens):
        phrase = longest_term(tokens, position, vocabulary)
        position = phrase.last if phrase else position + 1
        for meaning in phrase.meanings if phrase else ():
            if meaning.flag in "nab" and meaning.id not in found:
                found.append(meaning.id)
    return tuple(found)
