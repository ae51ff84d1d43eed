"""What a language model is shown: names only, ranked by the rules, capped, so that a big library costs no more."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from medsegagent.cards.card import DatasetCard
from medsegagent.cards.library import Library
from medsegagent.language.request import Request
from medsegagent.matching import match, modality
from medsegagent.vocabulary import Concept, Sided, Vocabulary

CARDS_BY_MODALITY = 30
CARDS_BY_ANATOMY = 20
CARDS_BY_LABEL = 16
LABELS_BY_ANATOMY = 6
LABELS_BY_LABEL = 20
_LONGEST_LABEL = 80
_NAMES_LENGTH = 1100
"""Characters."""
_ALIKE = 85.0
"""Likeness, of 100, from which a name is taken for what a word may mean."""


def ranked_cards(request: Request, library: Library, fitting: Sequence[str], among: Iterable[str]) -> list[str]:
    """Cards that the rules would choose, then those that pass this stage by the rules, then the others; by name."""
    chosen, passing = set(match(request, library).labels), set(fitting)
    return sorted(among, key=lambda card: (card not in chosen, card not in passing, card))


def ranked_labels(request: Request, card: DatasetCard, chosen: Sequence[str], most: int) -> list[str]:
    """The labels that the rules would choose, all of them, then the ones most like a target, to the cap."""
    from rapidfuzz import fuzz, process

    wanted = [target.name.lower() for target in (*request.targets, *request.exclusions)]
    others = {
        label: label.replace("_", " ").lower()
        for label in card.labels
        if label not in set(chosen) and len(label) <= _LONGEST_LABEL
    }
    likeness = dict.fromkeys(others, 0.0)
    for name in wanted:
        for _, score, label in process.extract(name, others, scorer=fuzz.token_set_ratio, limit=most):
            likeness[label] = max(likeness[label], score)
    near = sorted(others, key=lambda label: (-likeness[label], label))
    return [*chosen, *near[: max(0, most - len(chosen))]]


def available(request: Request, words: Sequence[str], library: Library, vocabulary: Vocabulary) -> list[str]:
    """Names of what the cards of the request's modality can segment, to a length; best guesses first.

    First what looks like one of the words, then what lies where the instruction points, then what most cards have.
    Numbered structures (ribs, vertebrae) are left out: their names say themselves.
    """
    from rapidfuzz import fuzz

    counts = Counter(
        item.id
        for card in modality.by_modality(request, library, library.cards)
        for binding in library.bindings[card]
        for item in (*binding.concepts, *(Sided(lesion) for lesion in binding.lesions))
    )
    asked = " ".join(words).lower()
    regions = {vocabulary.concept(id_).region for id_ in request.context if id_ in vocabulary} | set(request.context)

    def rank(concept: Concept) -> tuple[float, bool, int, str]:
        likeness = fuzz.partial_token_set_ratio(concept.name.lower(), asked) if len(asked) > 2 else 0.0
        return (
            -likeness if likeness >= _ALIKE else 0.0,
            concept.region not in regions,
            -counts[concept.id],
            concept.name,
        )

    concepts = sorted((c for c in map(vocabulary.concept, counts) if c.number is None), key=rank)
    names: list[str] = []
    room = _NAMES_LENGTH
    for name in dict.fromkeys(concept.name for concept in concepts):
        room -= len(name) + 2
        if room < 0:
            break
        names.append(name)
    return names
