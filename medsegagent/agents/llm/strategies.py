"""Thinking with a language model's help. What it proposes, the rules check."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

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
from medsegagent.agents.llm.consulting import Consultant
from medsegagent.agents.llm.reading import Open, left_open, understand
from medsegagent.cards.library import Library
from medsegagent.errors import AnswerNeededError, ConfigError
from medsegagent.language.intent import may_mislead
from medsegagent.language.request import Request
from medsegagent.matching import anatomy, label, modality
from medsegagent.matching.selection import Dropped, Narrowed, Selection, Stage
from medsegagent.road.messages import CardsLeft, NothingLeft, Parsed, Refused, Selected, Task, Warned
from medsegagent.road.run import Run
from medsegagent.road.steps import ANATOMY, LABEL, MODALITY, PARSER
from medsegagent.road.thinking import RulesThinking, conclude, left, selected, settle_modality

_MOST_COMPLAINTS = 5
_LONGEST_CHANNELS = 200


class HybridThinking(RulesThinking):
    """The rules; the Parser asks about the words that they leave open."""

    def __init__(self, consultant: Consultant) -> None:
        """Ask this language model."""
        self.consultant = consultant

    async def parse(self, task: Task, run: Run) -> Parsed | Refused:
        """Parse by the rules; ask where that is called for; go on with what holds."""
        rules = await asyncio.to_thread(run.parsed, task.instruction)
        open_words = self._left_open(rules, run)
        if not open_words.words:
            return conclude(rules, task, run)
        settled = settle_modality(open_words.base, task, run)
        if isinstance(settled, Refused):  # the wrong image: whatever the words mean, nothing will come of them
            return settled
        if await self._may_ask(run):
            return conclude(await self._read(rules, open_words, settled.request, run), task, run)
        return conclude(rules, task, run)

    def _left_open(self, rules: Request, run: Run) -> Open:
        return left_open(rules, run.library.vocabulary)

    async def _may_ask(self, run: Run) -> bool:
        if await self.consultant.permitted():
            return True
        what, remedy = _MAY_NOT
        run.aside(Warned(text=f"going on with the rules alone: {what}. {remedy}"))
        return False

    async def _read(self, rules: Request, open_words: Open, settled: Request, run: Run) -> Request:
        library = run.library
        names = available(settled, open_words.words, library, library.vocabulary)
        understood = [target.name for target in open_words.base.targets]
        question: dict[str, object] = {
            "unclear": open_words.words,
            "understood": understood,
            "available": ", ".join(names),
        }
        return await self._ask_reading("resolver", question, rules, open_words, run)

    async def _ask_reading(
        self, prompt: str, question: dict[str, object], rules: Request, open_words: Open, run: Run
    ) -> Request:
        vocabulary = run.library.vocabulary

        def check(reading: Reading, last: bool) -> str:
            found = understand(reading, rules, open_words.base, open_words.words, vocabulary)
            complaints = [*found.complaints, *self._overlooked(rules, found.request, last, run)]
            return " ".join(complaints[:_MOST_COMPLAINTS])

        advice = await self.consultant.ask(PARSER, prompt, question, Reading, check, run.aside)
        if advice.error and (self._is_hopeless(advice.error) or not rules.targets):
            raise advice.error
        if advice.answer is None:
            return rules
        return understand(advice.answer, rules, open_words.base, open_words.words, vocabulary).request

    def _overlooked(self, rules: Request, request: Request, last: bool, run: Run) -> list[str]:
        return []

    def _is_hopeless(self, error: Exception) -> bool:
        return False


class LlmThinking(HybridThinking):
    """All four steps ask; what contradicts the rules does not pass."""

    def _left_open(self, rules: Request, run: Run) -> Open:
        nothing = rules.model_copy(update={"targets": (), "exclusions": (), "unresolved": ()})
        is_settled = rules.question is not None
        if may_mislead(rules.instruction):
            run.aside(Warned(text="the instruction gives orders to the system; only the rules read it."))
            is_settled = True
        return Open(() if is_settled else (rules.instruction,), nothing)

    async def _may_ask(self, run: Run) -> bool:
        if await self.consultant.permitted():
            return True
        raise AnswerNeededError(*_MAY_NOT)

    async def _read(self, rules: Request, open_words: Open, settled: Request, run: Run) -> Request:
        return await self._ask_reading("parser", {"instruction": rules.instruction}, rules, open_words, run)

    def _is_hopeless(self, error: Exception) -> bool:
        return isinstance(error, ConfigError)

    def _overlooked(self, rules: Request, request: Request, last: bool, run: Run) -> list[str]:
        """Targets that the rules are sure of and the model does not name; a second reading stands unless empty."""
        sure = left_open(rules, run.library.vocabulary).base
        seen = {target.id for target in (*request.targets, *request.exclusions)}
        missing = [target.name for target in sure.targets if target.id not in seen]
        if not missing or (last and request.targets):
            return []
        return [f"The instruction also seems to ask for: {', '.join(missing)}. Is that so?"]

    async def by_modality(self, heard: Parsed, run: Run) -> CardsLeft | NothingLeft:
        """First stage."""
        request, library = heard.request, run.library
        by_rules = modality.narrow(request, library, library.cards)
        if len(by_rules.kept) < 2:
            return left("modality", request, library, by_rules)
        shown = ranked_cards(request, library, by_rules.kept, tuple(library.cards))[:CARDS_BY_MODALITY]
        wanted = modality.said(request.modality)
        channels = {card: ", ".join(library.get(card).channel_names.values())[:_LONGEST_CHANNELS] for card in shown}

        def check(answer: Cards, last: bool) -> str:
            return _card_complaints(answer.cards, channels, by_rules.kept, f"which is not {wanted}")

        question = {"modality": wanted, "cards": channels}
        advice = await self.consultant.ask(MODALITY, "modality_matcher", question, Cards, check, run.aside)
        return left("modality", request, library, _chosen("modality", by_rules, advice.answer))

    async def by_anatomy(self, heard: CardsLeft, run: Run) -> CardsLeft | NothingLeft:
        """Second stage."""
        request, library = heard.request, run.library
        by_rules = anatomy.narrow(request, library, heard.cards)
        if len(by_rules.kept) < 2:
            return left("anatomy", request, library, by_rules)
        shown = ranked_cards(request, library, by_rules.kept, heard.cards)[:CARDS_BY_ANATOMY]
        labels = _shown_labels(request, library, shown)
        wanted = [target.name for target in request.targets]

        def check(answer: Cards, last: bool) -> str:
            return _card_complaints(answer.cards, labels, by_rules.kept, f"none of which is {' or '.join(wanted)}")

        question = {"targets": wanted, "cards": labels}
        advice = await self.consultant.ask(ANATOMY, "anatomy_matcher", question, Cards, check, run.aside)
        return left("anatomy", request, library, _chosen("anatomy", by_rules, advice.answer))

    async def by_label(self, heard: CardsLeft, run: Run) -> Selected | NothingLeft:
        """Third stage: a card's labels pass when they are what the rules understand by the targets."""
        request, library = heard.request, run.library
        selection, dropped = label.narrow(request, library, heard.cards)
        if not selection.cards:
            return selected(selection, dropped, library)
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
        advice = await self.consultant.ask(LABEL, "label_matcher", question, Labels, check, run.aside)
        if advice.answer is not None:
            kept = {item.card for item in advice.answer.cards if item.labels}
            gone = _left_out("label", (card for card in selection.labels if card not in kept))
            cards = tuple(card for card in selection.cards if card.card in kept)
            selection, dropped = Selection(request=request, cards=cards), (*dropped, *gone)
        return selected(selection, dropped, library)


_MAY_NOT = (
    "the language model is not on this machine or in a private network, and may not be asked",
    "--allow-remote allows it; --mind rules goes on without it.",
)


def _chosen(stage: Stage, by_rules: Narrowed, answer: Cards | None) -> Narrowed:
    """What the language model keeps of what the rules keep; without an answer, all of it."""
    if answer is None:
        return by_rules
    kept = tuple(sorted(set(answer.cards)))
    gone = _left_out(stage, (card for card in by_rules.kept if card not in kept))
    return Narrowed(kept=kept, dropped=tuple(sorted((*by_rules.dropped, *gone), key=lambda item: item.card)))


def _left_out(stage: Stage, cards: Iterable[str]) -> tuple[Dropped, ...]:
    return tuple(Dropped(card=card, stage=stage, reason="The language model left it out.") for card in cards)


def _shown_labels(request: Request, library: Library, shown: Sequence[str]) -> dict[str, str]:
    """Per card the labels nearest to what is wanted, and how many more there are."""
    chosen = _chosen_labels(label.by_label(request, library, tuple(shown)))
    labels = {}
    for card in shown:
        first = chosen.get(card, ())[:LABELS_BY_ANATOMY]
        near = ranked_labels(request, library.get(card), first, LABELS_BY_ANATOMY)
        more = len(library.get(card).labels) - len(near)
        labels[card] = ", ".join(near) + (f", {more} more" if more else "")
    return labels


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
