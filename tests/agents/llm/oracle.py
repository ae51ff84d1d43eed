"""A scripted model that is always right: it knows what the rules make of the instruction, or is told."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from loopback import Asked, Says

from medsegagent.cards.library import Library
from medsegagent.language import parse
from medsegagent.matching import anatomy, label, modality
from medsegagent.vocabulary import load

Meant = Sequence[tuple[str, str]]
"""Everything that an instruction asks for: its words, plain name."""


class Oracle:
    """Answers every agent's question rightly.

    Args:
        library: The cards.
        meant: Instruction -> what it means, where the rules don't know.
    """

    def __init__(self, library: Library, meant: Mapping[str, Meant] | None = None) -> None:
        self._library = library
        self._meant = meant or {}
        self._instruction = ""

    def about(self, instruction: str) -> Oracle:
        """The instruction that the next questions are about."""
        self._instruction = instruction
        return self

    def __call__(self, asked: Asked) -> Says:
        return Says(json.dumps(self.answer(asked.question)))

    def answer(self, question: dict[str, Any]) -> Any:
        self._instruction = question.get("instruction", self._instruction)
        if "instruction" in question or "unclear" in question:
            return self._reading(question)
        if "modality" in question:
            return {"cards": self._fitting(question["cards"])}
        if all(isinstance(value, str) for value in question["cards"].values()):
            request = self._request()
            return {"cards": list(anatomy.by_anatomy(request, self._library, question["cards"]))}
        return {"cards": self._labels(question["cards"])}

    def _request(self) -> Any:
        if self._instruction not in self._meant:
            return parse(self._instruction, load())
        own = parse(self._instruction, load())
        names = " and ".join(name for _, name in self._meant[self._instruction])
        return parse(names, load()).model_copy(update={"modality": own.modality})

    def _reading(self, question: dict[str, Any]) -> Any:
        if self._instruction in self._meant:
            open_words = " ".join(question.get("unclear", [self._instruction]))
            meant = self._meant[self._instruction]
            targets = [{"words": words, "name": name} for words, name in meant if words in open_words]
            return {"targets": targets, "without": [], "modality": ""}
        request = parse(self._instruction, load())

        def named(targets: Any) -> list[dict[str, str]]:
            return [{"words": t.spans[0].text if t.spans else t.name, "name": t.name} for t in targets]

        said = modality.said(request.modality) if request.modality.families else ""
        return {"targets": named(request.targets), "without": named(request.exclusions), "modality": said}

    def _fitting(self, shown: Any) -> list[str]:
        return list(modality.by_modality(self._request(), self._library, shown))

    def _labels(self, shown: dict[str, list[str]]) -> list[dict[str, Any]]:
        selection = label.by_label(self._request(), self._library, shown)
        return [
            {"card": card.card, "labels": sorted({n for t in card.targets for n in (*t.whole.plus, *t.whole.also)})}
            for card in selection.cards
        ]
