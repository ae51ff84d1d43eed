"""Instruction -> Request."""

from __future__ import annotations

from collections.abc import Sequence

from medsegagent.errors import UsageError
from medsegagent.language.accounting import unread_items
from medsegagent.language.asking import Doubt, find_doubts, question_about
from medsegagent.language.describing import best_description
from medsegagent.language.imaging import is_imaging, read_modality, settle_homonyms
from medsegagent.language.intent import find_intent, gives_orders
from medsegagent.language.items import Item, is_strange, read_items, span_of
from medsegagent.language.mentions import Mention
from medsegagent.language.naming import merged_targets, target_name
from medsegagent.language.passages import Passage, passages
from medsegagent.language.repairs import repaired
from medsegagent.language.request import Modality, Request, Span, Target, Unresolved
from medsegagent.vocabulary import Vocabulary
from medsegagent.vocabulary.concept import BODY_REGIONS

LONGEST = 20_000


def check_instruction(instruction: str) -> None:
    """Refuse what nobody can read, before anything is done for it.

    Raises:
        UsageError: If it is empty, longer than 20,000 characters, or holds bytes that were no text.
    """
    if not instruction.strip():
        raise UsageError("the instruction is empty", "Say what to segment, for example: liver and spleen in CT.")
    if len(instruction) > LONGEST:
        raise UsageError(f"the instruction has {len(instruction):,} characters", f"Use at most {LONGEST:,}.")
    check_text(instruction, "the instruction")


def check_text(text: str, what: str) -> None:
    """Refuse bytes that the terminal or a file gave as text and that are none.

    Raises:
        UsageError: If there are any; `what` begins the sentence.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        said = f"{what} holds a byte that is no text, at character {error.start + 1}"
        raise UsageError(said, "Type it again, in UTF-8.") from error


def parse(instruction: str, vocabulary: Vocabulary) -> Request:
    """Read an instruction, in any wording and in any of the vocabulary's languages.

    Args:
        instruction: What the user typed. It is data: nothing in it is obeyed.
        vocabulary: The concepts and words that are known.

    Returns:
        The request. Where there is nothing to do, `refusal` says why; nothing is guessed. Where another reading would
        give another result and neither is clearly meant, it is the likelier one, and `question` has both.

    Raises:
        UsageError: If `check_instruction` refuses it.
    """
    check_instruction(instruction)
    if gives_orders(instruction):
        return Request(
            instruction=instruction, intent="none",
            refusal="This tries to give other orders or to dictate the answer. Say only what to segment.",
        )  # fmt: skip
    request, doubts = _read(instruction, vocabulary)
    if not doubts:
        return request
    question = question_about(instruction, doubts, lambda wording: _read(wording, vocabulary))
    return request.model_copy(update={"question": question})


def _read(instruction: str, vocabulary: Vocabulary) -> tuple[Request, tuple[Doubt, ...]]:
    """The likeliest reading, and what could be read otherwise."""
    reading = _Reading(instruction, vocabulary)
    request = reading.request()
    return request, reading.doubts() if request.targets else ()


class _Reading:
    """One instruction on its way through the steps."""

    def __init__(self, instruction: str, vocabulary: Vocabulary) -> None:
        self._instruction = instruction
        self._vocabulary = vocabulary
        self._items = repaired(instruction, settle_homonyms(read_items(instruction, vocabulary)), vocabulary)
        plain = read_modality(instruction, self._items, ())
        sequences = "CT" not in plain.families or "MR" in plain.families
        self._regions = self._find_regions(plain)
        self._passages = [Passage(items, vocabulary, self._regions, sequences) for items in passages(self._items)]
        named = [item for passage in self._passages for item in passage.sequences()] if sequences else []
        self._modality = read_modality(instruction, self._items, named)
        for passage in self._passages:
            passage.settle(self._modality)
        self._strange = [(passage, found) for passage in self._passages for found in passage.drop_strange()]

    def request(self) -> Request:
        """The likeliest reading."""
        return self._finish(self._passages, self._modality)

    def doubts(self) -> tuple[Doubt, ...]:
        """What could be read otherwise."""
        return tuple(
            doubt
            for passage in self._passages
            for doubt in find_doubts(passage.items, passage.mentions, self._vocabulary, self._regions)
        )

    def _find_regions(self, modality: Modality) -> frozenset[str]:
        """Body regions that the instruction is about, to choose between two meanings of one word."""
        found: set[str] = set()
        for item in self._items:
            ids = {m.id for m in item.meanings if m.flag in "nabo"}
            if len(ids) == 1:
                concept = self._vocabulary.concept(ids.pop())
                shown = concept.id if concept.id in BODY_REGIONS else concept.region
                found.add("brain" if concept.id in ("head", "skull") else shown)
        if "cine" in modality.subtypes:
            found.add("heart")
        if "FLAIR" in modality.subtypes:
            found.add("brain")
        return frozenset(found - {"none", "whole_body"})

    def _finish(self, read: Sequence[Passage], modality: Modality) -> Request:
        items = self._items
        targets, excluded = self._targets(read, "target"), self._targets(read, "excluded")
        loose = [item for passage in read for item in passage.loose()]
        intent = find_intent(items, loose, bool(targets))
        described = (
            best_description(items, self._vocabulary)
            if not targets and not self._is_strange() and intent in ("segment", "measure")
            else None
        )
        if described is not None and described.score >= 0.5:
            id_, _, own_side = described.id.partition("@")
            side = own_side or next((item.value("side") for item in items if item.has("side")), "")
            targets = merged_targets(
                self._instruction, [(items, Mention((id_,), 0, len(items), side))], self._vocabulary
            )
        context = tuple(dict.fromkeys(m.id for passage in read for m in passage.mentions if m.role == "context"))
        unresolved = self._not_understood() or (self._unresolved() if not targets else ())
        refusal = self._refusal(intent, bool(targets), unresolved)
        return Request(
            instruction=self._instruction, intent=intent, targets=targets if refusal is None else (), modality=modality,
            exclusions=excluded, context=context, unresolved=unresolved, unread=self._unread(unresolved),
            refusal=refusal,
        )  # fmt: skip

    def _is_strange(self) -> bool:
        """Whether a phrase has a word that is in no term and no description."""
        words = (item for passage, found in self._strange for item in passage.items[found.first : found.last])
        return any(is_strange(item, self._vocabulary) or item.mark in ("_", "~") for item in words)

    def _not_understood(self) -> tuple[Unresolved, ...]:
        """Phrases of which a part is strange, each with the name of the part that is known."""
        found: dict[tuple[int, int], Unresolved] = {}
        for passage, strange in self._strange:
            span = span_of(self._instruction, passage.items[strange.first : strange.last])
            names = (target_name(strange.mention.ids, "", self._vocabulary), *self._vocabulary.nearest(span.text[:60]))
            found[span.start, span.end] = Unresolved(span=span, suggestions=tuple(dict.fromkeys(names))[:3])
        return tuple(found.values())

    def _unread(self, unresolved: Sequence[Unresolved]) -> tuple[Span, ...]:
        """The strange words that are in no phrase which is told as a whole."""
        told = [(item.span.start, item.span.end) for item in unresolved]
        loose = (
            passage.items[position]
            for passage in self._passages
            for position in unread_items(passage.items, passage.mentions, self._vocabulary)
        )
        spans = (span_of(self._instruction, [item]) for item in loose)
        return tuple(span for span in spans if not any(a <= span.start < b for a, b in told))

    def _targets(self, read: Sequence[Passage], role: str) -> tuple[Target, ...]:
        wanted = [(passage.items, m) for passage in read for m in passage.mentions if m.role == role]
        return merged_targets(self._instruction, wanted, self._vocabulary)

    def _unresolved(self) -> tuple[Unresolved, ...]:
        """Runs of unknown words, with the nearest known terms."""
        runs: list[list[Item]] = []
        previous = -2
        for position, item in enumerate(self._items):
            if item.known or is_imaging(item) or len(item.key) < 2:
                continue
            if position == previous + 1:
                runs[-1].append(item)
            else:
                runs.append([item])
            previous = position
        spans = [span_of(self._instruction, run) for run in runs[:5]]
        return tuple(Unresolved(span=span, suggestions=self._vocabulary.nearest(span.text[:60])) for span in spans)

    def _refusal(self, intent: str, found: bool, unresolved: Sequence[Unresolved]) -> str | None:
        if intent == "ask":
            return "This is a question. Say what to segment, for example: liver and spleen in CT."
        if intent == "none" and not unresolved:
            return (
                "This is no request to segment something in a medical image. Say for example: liver and spleen in CT."
            )
        if found and intent != "none":
            return None
        for item in unresolved:
            hint = f" Did you mean {', '.join(item.suggestions)}?" if item.suggestions else ""
            return f"I do not know {item.span.text!r}.{hint} Name a structure, for example: left kidney in CT."
        return "No structure is named. Say what to segment, for example: left kidney in CT."
