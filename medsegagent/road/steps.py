"""The steps of the road, and who answers what: for a plain walk and for an AutoGen team alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from medsegagent.errors import ExitCode, MedSegAgentError
from medsegagent.matching.selection import Selection
from medsegagent.road.messages import (
    CardsLeft,
    CardsUnusable,
    Consulted,
    Content,
    Executed,
    NothingLeft,
    Parsed,
    Planned,
    Refined,
    Refused,
    Reported,
    Selected,
    Task,
    Warned,
)
from medsegagent.road.options import Options
from medsegagent.road.run import Run
from medsegagent.road.thinking import Thinking

USER, PARSER, MODALITY, ANATOMY = "user", "Parser", "ModalityMatcher", "AnatomyMatcher"
LABEL, EXECUTOR, REFINER, REPORTER = "LabelMatcher", "Executor", "Refiner", "Reporter"

Route = Mapping[tuple[str, type[Content]], str]
"""Who, on saying what, is answered by whom. What is not in it ends the conversation."""

MATCHING: Route = {
    (USER, Task): PARSER,
    (PARSER, Parsed): MODALITY,
    (MODALITY, CardsLeft): ANATOMY,
    (ANATOMY, CardsLeft): LABEL,
}
"""From an instruction to a selection."""

SEGMENTING: Route = {
    **MATCHING,
    (LABEL, Selected): EXECUTOR,
    (EXECUTOR, Executed): REPORTER,
    (MODALITY, NothingLeft): PARSER,
    (ANATOMY, NothingLeft): PARSER,
    (LABEL, NothingLeft): PARSER,
    (EXECUTOR, CardsUnusable): LABEL,
}
"""From an instruction to a run folder."""

REFINING: Route = {**SEGMENTING, (EXECUTOR, Executed): REFINER, (REFINER, Executed): REPORTER}
"""The same with a Refiner between Executor and Reporter."""


def route_of(options: Options) -> Route:
    """The route that a run with these options takes."""
    return SEGMENTING if options.refinement.kind == "off" else REFINING


MOST_TURNS = 60
"""Far above the longest honest conversation (two turns per failing model); a guard against a loop of ours."""


@dataclass(frozen=True)
class Step:
    """One agent's work.

    Attributes:
        name: Of the agent.
        description: What it does, in a sentence.
        says: What it may answer.
        answer: One typed message and the run's state in, one typed message out.
    """

    name: str
    description: str
    says: tuple[type[Content], ...]
    answer: Callable[[Any, Run], Awaitable[Content]]


def steps(thinking: Thinking) -> dict[str, Step]:
    """Every step by its name.

    Args:
        thinking: How the Parser and the matchers think.
    """

    async def parse(heard: Task | NothingLeft, run: Run) -> Content:
        if isinstance(heard, NothingLeft):  # no other reading: the run ends
            return Refused(exit_code=ExitCode.NO_MATCH, what=heard.reason, remedy="")
        return await thinking.parse(heard, run)

    async def by_label(heard: CardsLeft | CardsUnusable, run: Run) -> Content:
        if isinstance(heard, CardsUnusable):
            return _without(heard, run)
        return await thinking.by_label(heard, run)

    also = (Consulted, Warned)
    rows = (
        Step(PARSER, "Turns the instruction into a request: targets, modality, exclusions.", (Parsed, *also), parse),
        Step(
            MODALITY,
            "Keeps the cards whose channels fit the modality.",
            (CardsLeft, NothingLeft, *also),
            thinking.by_modality,
        ),
        Step(
            ANATOMY,
            "Keeps the cards whose labels are about the anatomy asked for.",
            (CardsLeft, NothingLeft, *also),
            thinking.by_anatomy,
        ),
        Step(LABEL, "Chooses the labels that answer the request exactly.", (Selected, NothingLeft, *also), by_label),
        Step(
            EXECUTOR,
            "Runs the models of the selected cards and fuses their answers.",
            (Executed, CardsUnusable, Planned),
            _execute,
        ),
        Step(
            REFINER,
            "Corrects masks by prompts to a promptable model, turn by turn.",
            (Executed, Refined),
            _refine,
        ),
        Step(
            REPORTER,
            "Writes masks, figures and pictures, and one honest paragraph.",
            (Reported,),
            _report,
        ),
    )
    return {step.name: step for step in rows}


async def _execute(heard: Selected, run: Run) -> Content:
    from medsegagent.road.execute import execute  # what runs models: only where models run

    return await asyncio.to_thread(execute, heard, run)


async def _refine(heard: Executed, run: Run) -> Content:
    from medsegagent.road.refiner import refine_step

    return await asyncio.to_thread(refine_step, heard, run)


async def _report(heard: Executed, run: Run) -> Content:
    from medsegagent.road.report import report

    return await asyncio.to_thread(report, heard, run)


async def respond(step: Step, heard: Content, run: Run) -> list[Content]:
    """Let a step answer: what it says aside, and last its answer; all of it said.

    An expected error becomes a `Refused`, which whoever called the road raises again.
    """
    try:
        if isinstance(heard, Task):
            run.open_folder()
        answer = await step.answer(heard, run)
    except MedSegAgentError as error:
        answer = Refused.of(error)
    if isinstance(answer, Refused | Planned):
        run.abandon()
    said = [*run.take_asides(), answer]
    for content in said:
        if isinstance(content, CardsLeft | Selected):
            run.dropped |= {item.card: item for item in content.dropped}
        if isinstance(content, Selected):
            run.selected = content
        run.say(step.name, content)
    return said


async def walk(task: Task, run: Run, thinking: Thinking, route: Route = SEGMENTING) -> Content:
    """Follow the route from a task to its end.

    Returns:
        What was said last: `Reported`, `Planned` or `Refused`; of a shorter route what nobody answers.
    """
    known = steps(thinking)
    run.say(USER, task)
    speaker: str = USER
    said: list[Content] = [task]
    for _ in range(MOST_TURNS):
        listener = route.get((speaker, type(said[-1])))
        if listener is None:
            return said[-1]
        speaker, said = listener, await respond(known[listener], said[-1], run)
    raise RuntimeError(f"the conversation goes in circles: {speaker}, {type(said[-1]).__name__}")


def _without(unusable: CardsUnusable, run: Run) -> Selected:
    """The same selection without the cards that turned out unusable."""
    assert run.selected is not None  # the Executor speaks after a selection
    gone = {item.card for item in unusable.skipped if not item.model}
    before = run.selected.selection
    cards = tuple(card for card in before.cards if card.card not in gone)
    note = "going on with the others" if unusable.skipped else ""
    selection = Selection(request=before.request, cards=cards)
    return Selected(selection=selection, dropped=run.selected.dropped, note=note)
