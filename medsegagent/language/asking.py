"""When to ask back: words that can be read in two ways that give different results, where nothing else decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, product

from medsegagent.language.imaging import is_imaging
from medsegagent.language.items import Item
from medsegagent.language.mentions import Mention, open_meanings
from medsegagent.language.naming import target_name
from medsegagent.language.request import Question, Request
from medsegagent.language.sides import is_list
from medsegagent.language.typos import look_alikes, rivals
from medsegagent.vocabulary import Vocabulary
from medsegagent.vocabulary.text import stem

_MOST_READINGS = 8
_MOST_READS = 64
_MOST_TEXT = 40_000
"""Characters that are read in all: wordings of a long text are few."""


@dataclass(frozen=True)
class Doubt:
    """Words that can be read in several ways.

    Attributes:
        start: Where they start in the instruction.
        end: Where they end.
        words: They, normalised: the same words mean the same thing throughout.
        wordings: What could stand in their place, the likeliest first.
    """

    start: int
    end: int
    words: str
    wordings: tuple[str, ...]


def question_about(
    instruction: str, doubts: Sequence[Doubt], read: Callable[[str], tuple[Request, Sequence[Doubt]]]
) -> Question | None:
    """The question to ask; None where the readings come to the same.

    Args:
        instruction: The text.
        doubts: Its doubtful words, in order.
        read: Parses a wording, and says which doubts it leaves.
    """
    readings: dict[object, str] = {}
    unclear_yet = [(instruction, doubts)]
    reads_left = min(_MOST_READS, _MOST_TEXT // len(instruction))
    while unclear_yet and reads_left > 0 and len(readings) < _MOST_READINGS:
        text, open_doubts = unclear_yet.pop(0)
        for wording in islice(_wordings(text, open_doubts), reads_left):
            reads_left -= 1
            request, left = read(wording)
            if left:
                unclear_yet.append((wording, left))
            elif request.targets and len(readings) < _MOST_READINGS:
                readings.setdefault(_result(request), wording)
    if len(readings) < 2:
        return None
    unclear = " and ".join(dict.fromkeys(repr(instruction[doubt.start : doubt.end]) for doubt in doubts))
    return Question(text=f"{unclear} can be read in more than one way.", readings=tuple(readings.values()))


def _wordings(text: str, doubts: Sequence[Doubt]) -> Iterator[str]:
    options = {doubt.words: doubt.wordings for doubt in doubts}
    for choice in islice(product(*options.values()), _MOST_READINGS):
        yield _replaced(text, doubts, dict(zip(options, choice, strict=True)))


def _result(request: Request) -> object:
    wanted = frozenset((target.concepts, target.side, frozenset(target.lesions)) for target in request.targets)
    return wanted, frozenset((target.concepts, target.side) for target in request.exclusions)


def _replaced(instruction: str, doubts: Sequence[Doubt], choice: dict[str, str]) -> str:
    text = instruction
    for doubt in reversed(doubts):
        before, after, wording = text[: doubt.start], text[doubt.end :], choice[doubt.words]
        left = " " if before[-1:].isalnum() and wording[0].isalnum() else ""
        right = " " if after[:1].isalnum() else ""
        text = f"{before}{left}{wording}{right}{after}"
    return text


def find_doubts(
    items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary, regions: frozenset[str]
) -> Iterator[Doubt]:
    """The doubtful words of a passage, in order and without overlap.

    They are: a term that several unrelated concepts share; a misspelling as near to another word; a side given to a
    thing that has none but sounds like one that has; "or" between structures or sides; "and" after an exclusion.
    """
    wanted = [mention for mention in mentions if mention.role == "target"]
    found = [
        *(doubt for mention in wanted for doubt in _shared_terms(items, mention, vocabulary, regions)),
        *(doubt for mention in wanted for doubt in _sounds(items, mention, vocabulary)),
    ] or [  # what the words mean comes first; how they hang together is seen in the wordings
        *(doubt for mention in wanted for doubt in _either_side(items, mention)),
        *_alternatives(items, mentions, vocabulary),
        *_after_exclusions(items, mentions, vocabulary),
    ]
    end = -1
    for doubt in sorted(found, key=lambda doubt: (doubt.start, -doubt.end)):
        if doubt.start >= end:
            yield doubt
            end = doubt.end


def _doubt(items: Sequence[Item], wordings: Sequence[str]) -> Doubt:
    words = " ".join(item.key for item in items)
    return Doubt(items[0].start, items[-1].end, words, tuple(dict.fromkeys(wordings)))


def _shared_terms(
    items: Sequence[Item], mention: Mention, vocabulary: Vocabulary, regions: frozenset[str]
) -> Iterator[Doubt]:
    """As in "PV", the portal or the pulmonary vein; "CCA", a bile duct cancer or a carotid artery."""
    for item in items[mention.first : mention.last]:
        sides = {m.id: m.side for m in open_meanings(item.meanings, vocabulary, regions)}
        ids = _unrelated(list(sides), vocabulary) if len(sides) > 1 else []
        if len(ids) > 1 and not is_imaging(item):
            yield _doubt([item], [target_name((id_,), sides[id_], vocabulary) for id_ in ids])


def _sounds(items: Sequence[Item], mention: Mention, vocabulary: Vocabulary) -> Iterator[Doubt]:
    """As in "ilum", the ileum or the ilium; "left ileum", which has no left."""
    named = [item for item in items[mention.first : mention.last] if item.meanings]
    if len(named) != 1 or " " in named[0].key or not named[0].word.isascii():
        return
    item, concept = named[0], vocabulary.concept(mention.id)
    if stem(item.word) not in vocabulary.stem_set:
        words = (item.key, *rivals(stem(item.word), item.key, vocabulary))
        ids = _unrelated([_noun(word, vocabulary) for word in words], vocabulary)
        if len(ids) > 1:
            yield _doubt([item], [vocabulary.concept(id_).name for id_ in ids])
    elif mention.side in ("left", "right") and not concept.paired and not concept.side and concept.kind == "organ":
        alike = [_noun(word, vocabulary) for word in look_alikes(item.key, vocabulary)]
        sided = [
            f"{mention.side} {vocabulary.concept(id_).name}" for id_ in alike if id_ and vocabulary.concept(id_).paired
        ]
        if sided:
            yield _doubt(items[mention.first : mention.last], [concept.name, *sided])


def _noun(word: str, vocabulary: Vocabulary) -> str:
    return next((meaning.id for meaning in vocabulary.meanings(word) if meaning.flag == "n"), "")


def _unrelated(ids: Sequence[str], vocabulary: Vocabulary) -> list[str]:
    """Without what is the same thing as one before it, a part of it, or its whole."""
    kept: list[str] = []
    for id_ in ids:
        pairs = [pair for other in kept for pair in ((other, id_), (id_, other))]
        if id_ and not any(vocabulary.contains(a, b) or b.startswith(f"{a}.") for a, b in pairs):
            kept.append(id_)
    return kept


def _either_side(items: Sequence[Item], mention: Mention) -> Iterator[Doubt]:
    """As in "left or right kidney": one of them, or both?"""
    for first in range(mention.first, mention.last - 2):
        sides = items[first], items[first + 2]
        if items[first + 1].has("or") and {side.value("side") for side in sides} == {"left", "right"}:
            yield _doubt(items[first : first + 3], ["left and right", *(side.value("side") for side in sides)])


def _alternatives(items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary) -> Iterator[Doubt]:
    """As in "the spleen or the liver", "liver, spleen or kidney": one of them, or all?"""
    for run in _lists(items, mentions):
        gaps = [item for left, right in pairwise(run) for item in items[left.last : right.first]]
        if any(item.has("or") for item in gaps) and _is_choice(run, items, vocabulary):
            names = [target_name(m.ids, m.side.replace("both", ""), vocabulary) for m in run]
            first = min([run[0].first, *(m.first for m in mentions if m.role == "context" and m.last == run[0].first)])
            yield _doubt(items[first : run[-1].last], [" and ".join(names), *names])


def _lists(items: Sequence[Item], mentions: Sequence[Mention]) -> Iterator[list[Mention]]:
    """Runs of targets with nothing but commas and "or" between them."""
    run: list[Mention] = []
    for mention in mentions:
        gap = items[run[-1].last : mention.first] if run else ()
        if run and not (mention.role == "target" and is_list(gap) and not any(item.has("and", "all") for item in gap)):
            yield run
            run = []
        if mention.role == "target":
            run.append(mention)
    if run:
        yield run


def _is_choice(run: Sequence[Mention], items: Sequence[Item], vocabulary: Vocabulary) -> bool:
    """Not so "any cyst or tumour", which asks for all there are, nor "prostate or uterus": no patient has both."""
    if len(run) < 2 or any(m.lesions or vocabulary.concept(m.id).kind == "lesion" for m in run):
        return False
    ids = {id_ for mention in run for id_ in mention.ids}
    each = any(item.has("all") for item in items[max(0, run[0].first - 2) : run[0].first])
    sexes = {vocabulary.concept(id_).sex for id_ in ids}
    return not each and not {"male", "female"} <= sexes


def _after_exclusions(items: Sequence[Item], mentions: Sequence[Mention], vocabulary: Vocabulary) -> Iterator[Doubt]:
    """As in "liver without the tumour and the spleen": the spleen is no part of the liver; is it wanted, or not?"""
    targets = [id_ for mention in mentions if mention.role == "target" for id_ in mention.ids]

    def belongs(mention: Mention) -> bool:
        inner = [id_ for id_ in mention.ids for whole in targets if vocabulary.contains(whole, id_)]
        mates = {mate for whole in targets for mate in vocabulary.concept(whole).set_mates}
        return bool(inner) or not mates.isdisjoint(mention.ids)

    for part, other in pairwise(mentions):
        gap = items[part.last : other.first]
        joined = any(item.has("and") for item in gap) and all(item.has("and", "filler", "side") for item in gap)
        lesion = vocabulary.concept(other.id).kind == "lesion"
        if part.role == other.role == "excluded" and joined and not lesion and belongs(part) and not belongs(other):
            name = target_name(other.ids, other.side.replace("both", ""), vocabulary)
            wordings = (f" and without the {name}", f"; also the {name}")
            start, end = items[part.last - 1].end, items[other.last - 1].end
            yield Doubt(start, end, f"and {name}", wordings)
