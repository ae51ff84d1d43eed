"""The ways to answer a query that an evaluation can test, by the names that `--test_pattern` takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from medsegagent.cards.library import Library
from medsegagent.errors import UsageError
from medsegagent.matching.instruction import match_instruction
from medsegagent.matching.selection import Selection


@dataclass(frozen=True)
class Answer:
    """What a pattern makes of one query, and what that cost."""

    labels: Mapping[str, list[int]] = field(default_factory=dict)
    """Card name -> stored voxel values; empty if the query is refused."""
    calls: int = 0
    """Requests to an LLM."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    explanation: str = ""


Answerer = Callable[[str], Answer]


def answerer(pattern: str, model: str, library: Library) -> Answerer:
    """Return the function that answers a query by a pattern.

    Raises:
        UsageError: If there is no such pattern, or it does not work with this model.
    """
    if pattern not in PATTERNS:
        raise UsageError(f"unknown pattern {pattern!r}", f"Known: {', '.join(PATTERNS)}.", "pattern")
    return PATTERNS[pattern](model, library)


def _coarse_to_fine(model: str, library: Library) -> Answerer:
    if model != "rules":
        raise UsageError(f"pattern C2F does not know the model {model!r}", "Known: rules.", "model")

    def answer(query: str) -> Answer:
        try:
            selection = match_instruction(query, library)
        except UsageError as refused:  # an oversized instruction is refused, which is an answer
            return Answer(explanation=str(refused))
        return Answer(labels=selection.labels, explanation=explained(selection))

    return answer


PATTERNS: Mapping[str, Callable[[str, Library], Answerer]] = {"C2F": _coarse_to_fine}


def explained(selection: Selection) -> str:
    """How the query was understood, in one line."""
    request = selection.request
    understood = [target.name for target in request.targets]
    parts = [
        f"understood: {', '.join(understood) or 'no target'}",
        f"modality: {'/'.join(request.modality.families) or 'any'} {' '.join(request.modality.subtypes)}".strip(),
    ]
    if request.exclusions:
        parts.append(f"left out: {', '.join(target.name for target in request.exclusions)}")
    if request.unresolved:
        parts.append(f"not known: {', '.join(item.span.text for item in request.unresolved)}")
    if refusal := selection.refusal or request.refusal:
        parts.append(f"refused: {refusal}")
    return "; ".join(parts)
