"""From what a language model proposes to a request: every proposal is resolved again by the rules, or sent back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from medsegagent.agents.llm.answers import Named, Reading
from medsegagent.errors import MedSegAgentError
from medsegagent.language import parse, with_modality
from medsegagent.language.intent import may_mislead
from medsegagent.language.items import Item, read_items, span_of
from medsegagent.language.request import Request, Span, Target
from medsegagent.vocabulary import Vocabulary
from medsegagent.vocabulary.text import stem, term_key

_MOST_PER_WORDS = 8
"""Targets that one piece of the instruction may stand for; more is a model that lists what it can."""
_ABOUT_US = frozenset(
    {"assistant", "benchmark", "card", "cards", "database", "dataset", "datasets", "developer", "instruction"}
    | {
        "instructions",
        "json",
        "label",
        "labels",
        "library",
        "model",
        "models",
        "override",
        "prompt",
        "prompts",
        "rules",
    }
    | {"anweisungen", "daten", "datensatz", "datensätze", "regeln"}
    | {"données", "consignes", "règles", "datos", "reglas", "dados", "regras", "dati", "regole", "gegevens", "regels"}
    | {"данных", "данные", "правила", "инструкции", "danych", "dane", "reguły", "zasady", "instrukcje"}
)
"""Words about this system: a quote that holds one asks the system for something, not for a structure."""
_SHORTEST_WORD = 4
_SIDES = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Understood:
    """What came of a reading: a request, and what was wrong with the proposals that are not in it."""

    request: Request
    complaints: tuple[str, ...]


@dataclass(frozen=True)
class Open:
    """What the rules leave open: the words (none: nothing is open), and the request that the answer is added to."""

    words: tuple[str, ...]
    base: Request


def left_open(request: Request, vocabulary: Vocabulary) -> Open:
    """The words that only somebody else could resolve.

    Without any target that is the whole instruction, unless it gives orders to the system or is a question; likewise
    where not one word is in the vocabulary as it stands and the targets are guesses at its spelling. Beside targets it
    is each phrase that the rules did not understand ("the *frobnicator lobe of the liver*"), and what stands in one
    list with them and is in no vocabulary ("the liver and the *frobnicator*").
    """
    text = request.instruction
    if request.question is not None or may_mislead(text):
        return Open((), request)
    items = read_items(text, vocabulary)
    if not request.targets:
        is_about_something = any(item.meanings or not item.known for item in items)
        return Open((text,) if request.intent != "ask" and is_about_something else (), request)
    if _is_guesswork(items):
        return Open((text,), request.model_copy(update={"targets": (), "exclusions": ()}))
    phrases = [item.span for item in request.unresolved]
    ends = [span for span in _loose_ends(request, items) if not any(_overlap(span, phrase) for phrase in phrases)]
    return Open(tuple(span.text for span in (*phrases, *ends)), request)


def _overlap(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end


def _is_guesswork(items: Sequence[Item]) -> bool:
    words = [item for item in items if not item.mark and item.number is None and len(item.word) > 2]
    as_typed = [item for item in words if item.known and stem(item.word) == item.key.partition(" ")[0]]
    return not as_typed and any(not item.known for item in words)


def _loose_ends(request: Request, items: Sequence[Item]) -> Iterator[Span]:
    clauses: list[list[Item]] = [[]]
    joined: list[bool] = []
    for item in items:
        if item.has("and") or item.is_break or item.mark == ",":
            clauses.append([])
            joined.append(item.has("and"))
        else:
            clauses[-1].append(item)
    named = [span for target in (*request.targets, *request.exclusions) for span in target.spans]
    listed = [any(span.start <= item.start < span.end for span in named for item in clause) for clause in clauses]
    for position, clause in enumerate(clauses):
        unknown = [item for item in clause if not item.known and len(item.key) >= _SHORTEST_WORD]
        before = position > 0 and joined[position - 1] and listed[position - 1]
        after = position + 1 < len(clauses) and joined[position] and listed[position + 1]
        if unknown and not listed[position] and (before or after):
            yield span_of(request.instruction, [clause[0], unknown[-1]])


def understand(
    reading: Reading, rules: Request, base: Request, open_words: Sequence[str], vocabulary: Vocabulary
) -> Understood:
    """Resolve a model's reading by the rules.

    Args:
        reading: The proposals.
        rules: What the rules make of the whole instruction.
        base: What the proposals are added to; its targets and exclusions stay, its modality wins over the proposed one.
        open_words: The words that the model was to read; every proposal must quote from them.
        vocabulary: What names resolve to.
    """
    check = _Check(rules, open_words, vocabulary)
    targets, without = check.resolved(reading.targets), check.resolved(reading.without)
    request = base.model_copy(
        update={
            "targets": _distinct((*base.targets, *targets)),
            "exclusions": _distinct((*base.exclusions, *without)),
        }
    )
    if request.targets:
        left = request.unresolved if not targets and not without else ()
        request = request.model_copy(update={"refusal": None, "intent": "segment", "unresolved": left})
    unread = any(not item.known for item in read_items(rules.instruction, vocabulary))
    if reading.modality.strip() and not base.modality.families and unread:  # else the rules know that none is named
        try:
            request = with_modality(request, reading.modality, vocabulary)
        except MedSegAgentError as error:
            check.complain(f"modality {reading.modality[:40]!r}: {error.what}.")
    return Understood(request, tuple(check.complaints))


class _Check:
    """Holds proposals against the instruction and the vocabulary."""

    def __init__(self, rules: Request, open_words: Sequence[str], vocabulary: Vocabulary) -> None:
        self.complaints: list[str] = []
        self._rules = rules
        self._open = [_plain(text) for text in open_words]
        self._vocabulary = vocabulary
        self._per_words: dict[str, int] = {}

    def complain(self, text: str) -> None:
        """Note what is wrong, once."""
        if text not in self.complaints:
            self.complaints.append(text)

    def resolved(self, proposals: Iterable[Named]) -> list[Target]:
        """The targets of the proposals that hold."""
        found: list[Target] = []
        for item in proposals:
            words, name = item.words.strip(), item.name.strip()
            targets = self._targets(words, name)
            key = _plain(words)
            self._per_words[key] = self._per_words.get(key, 0) + len(targets)
            if self._per_words[key] > _MOST_PER_WORDS:
                self.complain(f"{words[:80]!r} cannot stand for more than {_MOST_PER_WORDS} structures.")
                continue
            span = _span(self._rules.instruction, words)
            found += [target.model_copy(update={"spans": (span,) if span else ()}) for target in targets]
        return found

    def _targets(self, words: str, name: str) -> tuple[Target, ...]:
        """What a proposal means; nothing, after a complaint, if it does not hold."""
        if complaint := self._about_words(words):
            self.complain(complaint)
            return ()
        try:
            request = parse(name, self._vocabulary)
        except MedSegAgentError as error:
            self.complain(f"the name {name[:80]!r} cannot be used: {error.what}.")
            return ()
        if complaint := self._about_name(name, request) or self._contradiction(words, name, request.targets):
            self.complain(complaint)
            return ()
        return request.targets

    def _about_words(self, words: str) -> str:
        # Whole words; but Chinese and Japanese are written without gaps.
        quote = rf"(?<![a-z]){re.escape(_plain(words))}(?![a-z])"
        if not _plain(words) or not any(re.search(quote, text) for text in self._open):
            return f"{words[:80]!r} does not stand in the words given; copy them exactly."
        if about := sorted(_ABOUT_US & set(_plain(words).split())):
            return f"{words[:80]!r} is about this system ({', '.join(about)}), not about the body; leave it out."
        return ""

    def _about_name(self, name: str, request: Request) -> str:
        if request.question:
            return f"{name[:80]!r} is ambiguous: {' or '.join(request.question.readings)}."
        if request.unresolved or not request.targets:
            near = ", ".join(self._vocabulary.nearest(name[:80]))
            return f"{name[:80]!r} is no structure that is known here{f'; near: {near}' if near else ''}."
        return ""

    def _contradiction(self, words: str, name: str, targets: Sequence[Target]) -> str:
        """Whether the quoted words plainly mean something else than the name given for them."""
        said, given = set(_plain(words).split()), set(_plain(name).split())
        for side, other in _SIDES.items():
            if side in said and other not in said and other in given and side not in given:
                return f"{words[:80]!r} says {side}, {name[:80]!r} says {other}."
        if {target.id for target in targets} <= {target.id for target in self._rules.targets}:
            return ""
        term = " ".join(word for word in _plain(words).split() if word not in (*_SIDES, "the", "both"))
        own = {meaning.id for meaning in self._vocabulary.meanings(term_key(term)) if meaning.flag == "n"}
        meant = {id_ for target in targets for id_ in (*target.concepts, *target.lesions)}
        if own and not any(self._related(a, b) for a in own for b in meant):
            names = " or ".join(sorted(self._vocabulary.concept(id_).name for id_ in own))
            return f"{words[:80]!r} means {names}, not {name[:80]!r}."
        return ""

    def _related(self, one: str, other: str) -> bool:
        return self._vocabulary.contains(one, other) or self._vocabulary.contains(other, one)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _span(instruction: str, words: str) -> Span | None:
    pattern = r"\W+".join(re.escape(word) for word in re.findall(r"\w+", words))
    found = re.search(pattern, instruction, re.IGNORECASE) if pattern else None
    return Span(start=found.start(), end=found.end(), text=found.group()) if found else None


def _distinct(targets: Iterable[Target]) -> tuple[Target, ...]:
    return tuple({target.id: target for target in reversed(tuple(targets))}.values())[::-1]
