"""How the thinking steps think: one strategy for all four. Here the rules; a language model's is in `agents.llm`."""

from __future__ import annotations

from typing import Protocol

from medsegagent.cards.library import Library
from medsegagent.errors import ExitCode
from medsegagent.language import with_modality
from medsegagent.language.request import Request
from medsegagent.matching import anatomy, label, modality, why_nothing
from medsegagent.matching.selection import Dropped, Narrowed, Selection, Stage
from medsegagent.road.messages import CardsLeft, NothingLeft, Parsed, Refused, Selected, Task
from medsegagent.road.run import Run


class Thinking(Protocol):
    """Answers for the Parser and the three matchers."""

    async def parse(self, task: Task, run: Run) -> Parsed | Refused:
        """Instruction -> request; refuses, or asks, where two readings differ in result."""

    async def by_modality(self, heard: Parsed, run: Run) -> CardsLeft | NothingLeft:
        """Keep the cards whose channels fit the modality."""

    async def by_anatomy(self, heard: CardsLeft, run: Run) -> CardsLeft | NothingLeft:
        """Keep the cards whose labels are about the anatomy."""

    async def by_label(self, heard: CardsLeft, run: Run) -> Selected | NothingLeft:
        """Choose the labels that answer exactly."""


class RulesThinking:
    """Deterministic, offline, milliseconds."""

    async def parse(self, task: Task, run: Run) -> Parsed | Refused:
        """As the rules read it."""
        return conclude(run.parsed(task.instruction), task, run)

    async def by_modality(self, heard: Parsed, run: Run) -> CardsLeft | NothingLeft:
        """First stage."""
        library = run.library
        return left("modality", heard.request, library, modality.narrow(heard.request, library, library.cards))

    async def by_anatomy(self, heard: CardsLeft, run: Run) -> CardsLeft | NothingLeft:
        """Second stage."""
        library = run.library
        return left("anatomy", heard.request, library, anatomy.narrow(heard.request, library, heard.cards))

    async def by_label(self, heard: CardsLeft, run: Run) -> Selected | NothingLeft:
        """Third stage."""
        library = run.library
        return selected(*label.narrow(heard.request, library, heard.cards), library)


def conclude(request: Request, task: Task, run: Run) -> Parsed | Refused:
    """Pass a request on with its modality settled; or refuse, or ask, where it says so."""
    if request.refusal:
        return Refused(exit_code=ExitCode.NO_MATCH, what=request.refusal, remedy="")
    if request.question:
        choices = "; ".join(repr(reading) for reading in request.question.readings)
        remedy = f"Say which you mean: {choices}."
        return Refused(
            exit_code=ExitCode.ANSWER_NEEDED, what=request.question.text, remedy=remedy, question=request.question
        )
    return settle_modality(request, task, run)


def settle_modality(request: Request, task: Task, run: Run) -> Parsed | Refused:
    """The user's word counts most, then the instruction's, then the image's; a sure image is not contradicted."""
    vocabulary = run.library.vocabulary
    if task.modality is not None:
        return Parsed(request=with_modality(request, task.modality, vocabulary), note="modality set by the user")
    if task.image_modality is None:
        return Parsed(request=request)
    if not request.modality.families:
        note = f"modality from the image: {task.image_reason}"
        return Parsed(request=with_modality(request, task.image_modality, vocabulary), note=note)
    if task.image_is_sure and not set(request.modality.families) & set(task.image_modality.split("/")):
        said = " or ".join(request.modality.families)
        what = f"The instruction says {said}, but the image is evidently {task.image_modality}: {task.image_reason}."
        if not run.options.force:
            remedy = "Check that this is the right image; --force goes on as the instruction says."
            return Refused(exit_code=ExitCode.BAD_INPUT, what=what, remedy=remedy)
        return Parsed(request=request, note=f"{what} Going on, as forced")
    return Parsed(request=request)


def left(stage: Stage, request: Request, library: Library, after: Narrowed) -> CardsLeft | NothingLeft:
    """Say what a stage leaves."""
    if not after.kept:
        return NothingLeft(request=request, stage=stage, reason=why_nothing(request, library))
    return CardsLeft(request=request, stage=stage, cards=after.kept, dropped=after.dropped)


def selected(selection: Selection, dropped: tuple[Dropped, ...], library: Library) -> Selected | NothingLeft:
    """Say what the last stage selects."""
    if not selection.cards:
        return NothingLeft(request=selection.request, stage="label", reason=why_nothing(selection.request, library))
    return Selected(selection=selection, dropped=dropped)
