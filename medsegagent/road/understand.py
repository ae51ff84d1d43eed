"""The agents that understand: Parser, and the three matchers, coarse to fine. Their mind is the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from autogen_agentchat.base import Response
from autogen_agentchat.messages import BaseChatMessage, TextMessage
from autogen_core import CancellationToken

from medsegagent.agents.seats import TypedAgent, envelope
from medsegagent.cards.library import Library
from medsegagent.errors import ExitCode
from medsegagent.language import parse, with_modality
from medsegagent.language.request import Request
from medsegagent.matching import anatomy, explain, label, match, modality
from medsegagent.matching.selection import Dropped, Selection, Stage
from medsegagent.road.messages import (
    CardsLeft,
    CardsUnusable,
    Content,
    NothingLeft,
    Parsed,
    Refused,
    Selected,
    Task,
)
from medsegagent.vocabulary import Vocabulary


class ParserAgent(TypedAgent):
    """Instruction -> Request. Asks the user where two readings differ in result."""

    hears = (Task, NothingLeft)
    says: tuple[type[Content], ...] = (Parsed,)

    def __init__(
        self, vocabulary: Vocabulary, *, force: bool = False, task_of: Callable[[str], Task] | None = None
    ) -> None:
        """Listen.

        Args:
            vocabulary: What words mean.
            force: Go on where the instruction's modality contradicts the image.
            task_of: Makes a task of plain text, as it comes from other chats; default the text alone.
        """
        super().__init__("Parser", "Turns the instruction into a request: targets, modality, exclusions.")
        self._vocabulary = vocabulary
        self._force = force
        self._task_of = task_of or (lambda text: Task(instruction=text))

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        """Answer the newest task or way back; plain text is a task."""
        heard = [envelope(self._task_of(m.content), m.source) if isinstance(m, TextMessage) else m for m in messages]
        return await super().on_messages(heard, cancellation_token)

    def answer(self, heard: Task | NothingLeft) -> Parsed | Refused:
        """Parse the task; or end the run, when no card survived and there is no other reading."""
        if isinstance(heard, NothingLeft):
            return Refused(exit_code=ExitCode.NO_MATCH, what=heard.reason, remedy="")
        return self.conclude(parse(heard.instruction, self._vocabulary), heard)

    def conclude(self, request: Request, task: Task) -> Parsed | Refused:
        """Pass the request on with its modality settled; or refuse, or ask, where it says so."""
        if request.refusal:
            return Refused(exit_code=ExitCode.NO_MATCH, what=request.refusal, remedy="")
        if request.question:
            choices = "; ".join(repr(reading) for reading in request.question.readings)
            remedy = f"Say which you mean: {choices}."
            return Refused(
                exit_code=ExitCode.ANSWER_NEEDED, what=request.question.text, remedy=remedy, question=request.question
            )
        return self._settle_modality(request, task)

    def _settle_modality(self, request: Request, task: Task) -> Parsed | Refused:
        if task.modality is not None:
            return Parsed(request=with_modality(request, task.modality), note="modality set by the user")
        if task.image_modality is None:
            return Parsed(request=request)
        if not request.modality.families:
            note = f"modality from the image: {task.image_reason}"
            return Parsed(request=with_modality(request, task.image_modality), note=note)
        if task.image_is_sure and not set(request.modality.families) & set(task.image_modality.split("/")):
            said = " or ".join(request.modality.families)
            what = (
                f"The instruction says {said}, but the image is evidently {task.image_modality}: {task.image_reason}."
            )
            if not self._force:
                remedy = "Check that this is the right image; --force goes on as the instruction says."
                return Refused(exit_code=ExitCode.BAD_INPUT, what=what, remedy=remedy)
            return Parsed(request=request, note=f"{what} Going on, as forced")
        return Parsed(request=request)


class ModalityMatcherAgent(TypedAgent):
    """Keeps the cards whose channels fit the modality asked for."""

    hears = (Parsed,)
    says: tuple[type[Content], ...] = (CardsLeft, NothingLeft)

    def __init__(self, library: Library) -> None:
        super().__init__("ModalityMatcher", "Keeps the cards whose channels fit the modality.")
        self._library = library

    def answer(self, heard: Parsed) -> CardsLeft | NothingLeft:
        """First stage."""
        cards = modality.by_modality(heard.request, self._library, tuple(self._library.cards))
        return narrowed("modality", heard.request, self._library, tuple(self._library.cards), cards)


class AnatomyMatcherAgent(TypedAgent):
    """Keeps the cards that know the anatomy asked for."""

    hears = (CardsLeft,)
    says: tuple[type[Content], ...] = (CardsLeft, NothingLeft)

    def __init__(self, library: Library) -> None:
        super().__init__("AnatomyMatcher", "Keeps the cards whose labels are about the anatomy asked for.")
        self._library = library

    def answer(self, heard: CardsLeft) -> CardsLeft | NothingLeft:
        """Second stage."""
        cards = anatomy.by_anatomy(heard.request, self._library, heard.cards)
        return narrowed("anatomy", heard.request, self._library, heard.cards, cards)


class LabelMatcherAgent(TypedAgent):
    """Chooses the labels; takes cards out again when the Executor cannot use them."""

    hears = (CardsLeft, CardsUnusable)
    says: tuple[type[Content], ...] = (Selected, NothingLeft)

    def __init__(self, library: Library) -> None:
        super().__init__("LabelMatcher", "Chooses the labels that answer the request exactly.")
        self._library = library
        self._selected: Selected | None = None

    def answer(self, heard: CardsLeft | CardsUnusable) -> Selected | NothingLeft:
        """Third stage; or the same selection without the cards that turned out unusable."""
        if isinstance(heard, CardsUnusable):
            return self._without(heard)
        selection = label.by_label(heard.request, self._library, heard.cards)
        return self.select(selection, heard.cards)

    def select(self, selection: Selection, before: tuple[str, ...]) -> Selected | NothingLeft:
        """Say the selection, with reasons for the cards that are not in it; keep it for later."""
        kept = tuple(card.card for card in selection.cards)
        if not kept:
            return _nothing("label", selection.request, self._library)
        dropped = _reasons("label", selection.request, self._library, before, kept)
        self._selected = Selected(selection=selection, dropped=dropped)
        return self._selected

    def _without(self, unusable: CardsUnusable) -> Selected:
        assert self._selected is not None  # the Executor speaks after a selection
        gone = {item.card for item in unusable.skipped if not item.model}
        cards = tuple(card for card in self._selected.selection.cards if card.card not in gone)
        selection = Selection(request=self._selected.selection.request, cards=cards)
        note = "going on with the others" if unusable.skipped else ""
        self._selected = Selected(selection=selection, dropped=self._selected.dropped, note=note)
        return self._selected


def narrowed(
    stage: Stage, request: Request, library: Library, before: tuple[str, ...], after: tuple[str, ...]
) -> CardsLeft | NothingLeft:
    """Say which of the cards `before` a stage are left `after` it, with a reason for each that is not."""
    if not after:
        return _nothing(stage, request, library)
    dropped = _reasons(stage, request, library, before, after)
    return CardsLeft(request=request, stage=stage, cards=after, dropped=dropped)


def _nothing(stage: Stage, request: Request, library: Library) -> NothingLeft:
    reason = match(request, library).refusal
    return NothingLeft(request=request, stage=stage, reason=reason or f"No card is left after {stage}.")


def _reasons(
    stage: Stage, request: Request, library: Library, before: tuple[str, ...], after: tuple[str, ...]
) -> tuple[Dropped, ...]:
    gone = set(before) - set(after)
    known = {item.card: item for item in explain(request, library)}
    # A card that the rules keep can only have been left out by a language model.
    own = {card: Dropped(card=card, stage=stage, reason="The language model left it out.") for card in gone}
    return tuple(known.get(card, own[card]) for card in sorted(gone))
