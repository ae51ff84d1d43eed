"""The agents that understand, with a language model's help. What it proposes, the rules check."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from medsegagent.agents.llm.answers import Cards, Labels, Reading
from medsegagent.agents.llm.candidates import (
    CARDS_BY_ANATOMY,
    CARDS_BY_LABEL,
    CARDS_BY_MODALITY,
    LABELS_BY_ANATOMY,
    LABELS_BY_LABEL,
    available,
    ranked_cards,
    ranked_labels,
)
from medsegagent.agents.llm.consulting import Consulted, Counsel, Warned
from medsegagent.agents.llm.reading import Open, left_open, understand
from medsegagent.cards.library import Library
from medsegagent.errors import AnswerNeededError, ConfigError
from medsegagent.language import parse
from medsegagent.language.intent import gives_orders
from medsegagent.language.request import Request
from medsegagent.matching import anatomy, label, modality
from medsegagent.matching.selection import Selection
from medsegagent.road.messages import CardsLeft, CardsUnusable, NothingLeft, Parsed, Refused, Selected, Task
from medsegagent.road.understand import (
    AnatomyMatcherAgent,
    LabelMatcherAgent,
    ModalityMatcherAgent,
    ParserAgent,
    narrowed,
)
from medsegagent.vocabulary import Vocabulary

_MOST_COMPLAINTS = 5
_LONGEST_CHANNELS = 200


class AskingParserAgent(ParserAgent):
    """Parser that asks: in `hybrid` about the words that the rules leave open, in `llm` about the whole instruction."""

    says = (Parsed, Consulted, Warned)

    def __init__(
        self,
        vocabulary: Vocabulary,
        library: Library,
        counsel: Counsel,
        *,
        force: bool = False,
        task_of: Callable[[str], Task] | None = None,
    ) -> None:
        super().__init__(vocabulary, force=force, task_of=task_of)
        self._library = library
        self._counsel = counsel

    async def consider(self, heard: Task | NothingLeft) -> Parsed | Refused:  # type: ignore[override]
        """Parse by the rules; ask where that is called for; go on with what holds."""
        if isinstance(heard, NothingLeft):
            return self.answer(heard)
        rules = await asyncio.to_thread(parse, heard.instruction, self._vocabulary)
        left = self._left_open(rules)
        if not left.words:
            return self.conclude(rules, heard)
        settled = self._settle_modality(left.base, heard)
        if isinstance(settled, Refused):  # the wrong image: whatever the words mean, nothing will come of them
            return settled
        if await self._may_ask():
            return self.conclude(await self._read(rules, left, settled.request), heard)
        return self.conclude(rules, heard)

    def _left_open(self, rules: Request) -> Open:
        if self._counsel.kind == "hybrid":
            return left_open(rules, self._vocabulary)
        nothing = rules.model_copy(update={"targets": (), "exclusions": (), "unresolved": ()})
        is_settled = rules.question is not None or self._is_suspect(rules.instruction)
        return Open(() if is_settled else (rules.instruction,), nothing)

    def _is_suspect(self, instruction: str) -> bool:
        suspect = gives_orders(instruction)
        if suspect:
            self.asides.append(Warned(text="the instruction gives orders to the system; only the rules read it."))
        return suspect

    async def _may_ask(self) -> bool:
        if await self._counsel.permitted():
            return True
        what = "the language model is not on this machine or in a private network, and may not be asked"
        remedy = "--allow-remote allows it; --mind rules goes on without it."
        if self._counsel.kind == "llm":
            raise AnswerNeededError(what, remedy)
        self.asides.append(Warned(text=f"going on with the rules alone: {what}. {remedy}"))
        return False

    async def _read(self, rules: Request, left: Open, settled: Request) -> Request:
        question: dict[str, object] = {"instruction": rules.instruction}
        if self._counsel.kind == "hybrid":
            names = available(settled, left.words, self._library, self._vocabulary)
            understood = [target.name for target in left.base.targets]
            question = {"unclear": left.words, "understood": understood, "available": ", ".join(names)}

        def check(reading: Reading, last: bool) -> str:
            found = understand(reading, rules, left.base, left.words, self._vocabulary)
            complaints = list(found.complaints)
            if self._counsel.kind == "llm":
                complaints += _overlooked(left_open(rules, self._vocabulary).base, found.request, last)
            return " ".join(complaints[:_MOST_COMPLAINTS])

        prompt = "resolver" if self._counsel.kind == "hybrid" else "parser"
        advice = await self._counsel.ask(self.name, prompt, question, Reading, check)
        self.asides += advice.said
        hopeless = self._counsel.kind == "llm" and isinstance(advice.error, ConfigError)
        if advice.error and (hopeless or not rules.targets):
            raise advice.error
        if advice.answer is None:
            return rules
        return understand(advice.answer, rules, left.base, left.words, self._vocabulary).request


def _overlooked(rules: Request, request: Request, last: bool) -> list[str]:
    """Targets that the rules are sure of and the model does not name; its second reading stands unless it is empty."""
    seen = {target.id for target in (*request.targets, *request.exclusions)}
    missing = [target.name for target in rules.targets if target.id not in seen]
    if not missing or (last and request.targets):
        return []
    return [f"The instruction also seems to ask for: {', '.join(missing)}. Is that so?"]


class AskingModalityMatcherAgent(ModalityMatcherAgent):
    """Lets the language model choose among the cards; what contradicts the rules does not pass."""

    says = (CardsLeft, NothingLeft, Consulted, Warned)

    def __init__(self, library: Library, counsel: Counsel) -> None:
        super().__init__(library)
        self._counsel = counsel

    async def consider(self, heard: Parsed) -> CardsLeft | NothingLeft:  # type: ignore[override]
        """First stage."""
        request, library = heard.request, self._library
        every = tuple(library.cards)
        fitting = modality.by_modality(request, library, every)
        if len(fitting) < 2:
            return self.answer(heard)
        shown = ranked_cards(request, library, fitting, every)[:CARDS_BY_MODALITY]
        wanted = modality.said(request.modality)
        channels = {card: ", ".join(library.get(card).channel_names.values())[:_LONGEST_CHANNELS] for card in shown}

        def check(answer: Cards, last: bool) -> str:
            return _card_complaints(answer.cards, channels, fitting, f"which is not {wanted}")

        question = {"modality": wanted, "cards": channels}
        advice = await self._counsel.ask(self.name, "modality_matcher", question, Cards, check)
        self.asides += advice.said
        kept = fitting if advice.answer is None else tuple(sorted(set(advice.answer.cards)))
        return narrowed("modality", request, library, every, kept)


class AskingAnatomyMatcherAgent(AnatomyMatcherAgent):
    """Likewise, for anatomy."""

    says = (CardsLeft, NothingLeft, Consulted, Warned)

    def __init__(self, library: Library, counsel: Counsel) -> None:
        super().__init__(library)
        self._counsel = counsel

    async def consider(self, heard: CardsLeft) -> CardsLeft | NothingLeft:  # type: ignore[override]
        """Second stage."""
        request, library = heard.request, self._library
        fitting = anatomy.by_anatomy(request, library, heard.cards)
        if len(fitting) < 2:
            return self.answer(heard)
        shown = ranked_cards(request, library, fitting, heard.cards)[:CARDS_BY_ANATOMY]
        chosen = _chosen_labels(label.by_label(request, library, tuple(shown)))
        labels = {}
        for card in shown:
            first = chosen.get(card, ())[:LABELS_BY_ANATOMY]
            near = ranked_labels(request, library.get(card), first, LABELS_BY_ANATOMY)
            more = len(library.get(card).labels) - len(near)
            labels[card] = ", ".join(near) + (f", {more} more" if more else "")
        wanted = [target.name for target in request.targets]

        def check(answer: Cards, last: bool) -> str:
            return _card_complaints(answer.cards, labels, fitting, f"none of which is {' or '.join(wanted)}")

        question = {"targets": wanted, "cards": labels}
        advice = await self._counsel.ask(self.name, "anatomy_matcher", question, Cards, check)
        self.asides += advice.said
        kept = fitting if advice.answer is None else tuple(sorted(set(advice.answer.cards)))
        return narrowed("anatomy", request, library, heard.cards, kept)


class AskingLabelMatcherAgent(LabelMatcherAgent):
    """Likewise, for labels: a card's labels pass when they are what the rules understand by the targets."""

    says = (Selected, NothingLeft, Consulted, Warned)

    def __init__(self, library: Library, counsel: Counsel) -> None:
        super().__init__(library)
        self._counsel = counsel

    async def consider(self, heard: CardsLeft | CardsUnusable) -> Selected | NothingLeft:  # type: ignore[override]
        """Third stage; or the same selection without the cards that turned out unusable."""
        if isinstance(heard, CardsUnusable):
            return self.answer(heard)
        request, library = heard.request, self._library
        selection = label.by_label(request, library, heard.cards)
        if not selection.cards:
            return self.answer(heard)
        shown = ranked_cards(request, library, tuple(selection.labels), heard.cards)[:CARDS_BY_LABEL]
        chosen = _chosen_labels(selection)
        labels = {
            card: ranked_labels(request, library.get(card), chosen.get(card, ()), LABELS_BY_LABEL) for card in shown
        }

        def check(answer: Labels, last: bool) -> str:
            given = {item.card: item.labels for item in answer.cards}
            return _label_complaints(given, labels, chosen)

        question = {
            "targets": [target.name for target in request.targets],
            "without": [target.name for target in request.exclusions],
            "cards": labels,
        }
        advice = await self._counsel.ask(self.name, "label_matcher", question, Labels, check)
        self.asides += advice.said
        if advice.answer is not None:
            kept = {item.card for item in advice.answer.cards if item.labels}
            cards = tuple(card for card in selection.cards if card.card in kept)
            selection = Selection(request=request, cards=cards)
        return self.select(selection, heard.cards)


def _chosen_labels(selection: Selection) -> dict[str, tuple[str, ...]]:
    """Card -> the labels that the rules add up for its targets."""
    return {
        card.card: tuple(
            dict.fromkeys(name for target in card.targets for name in (*target.whole.plus, *target.whole.also))
        )
        for card in selection.cards
    }


def _card_complaints(given: Sequence[str], shown: dict[str, str], fitting: Sequence[str], why: str) -> str:
    complaints = [f"There is no dataset {card[:80]!r} among those given." for card in given if card not in shown]
    complaints += [f"{card} has {shown[card]}, {why}." for card in given if card in shown and card not in set(fitting)]
    if not given:
        complaints.append("Nothing is chosen, but some of them fit.")
    return " ".join(complaints[:_MOST_COMPLAINTS])


def _label_complaints(
    given: dict[str, list[str]], shown: dict[str, list[str]], chosen: dict[str, tuple[str, ...]]
) -> str:
    complaints = []
    for card, names in given.items():
        if card not in shown:
            complaints.append(f"There is no dataset {card[:80]!r} among those given.")
            continue
        if unknown := [name[:80] for name in names if name not in shown[card]]:
            complaints.append(f"{card} has no label {', '.join(map(repr, unknown))}.")
        right = set(chosen.get(card, ()))
        if wrong := [name for name in names if name in shown[card] and name not in right]:
            complaints.append(f"{card}: {', '.join(map(repr, wrong))} is not what is wanted.")
        if missing := [name for name in chosen.get(card, ()) if names and name not in names]:
            complaints.append(f"{card}: {', '.join(map(repr, missing))} belongs to it, too.")
    if not any(given.values()):
        complaints.append("Nothing is chosen, but some of them fit.")
    return " ".join(complaints[:_MOST_COMPLAINTS])
