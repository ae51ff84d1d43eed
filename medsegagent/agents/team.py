"""The team: the road's steps as AutoGen agents; who speaks after whom is decided by the type of what was said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from autogen_agentchat.messages import BaseChatMessage, StructuredMessage
from autogen_agentchat.teams import DiGraphBuilder, GraphFlow

from medsegagent.agents.seats import Seat, Table, content_of
from medsegagent.cards.library import Library
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
from medsegagent.road.segmenter import Segmenter
from medsegagent.road.steps import MATCHING, MOST_TURNS, PARSER, USER, Route, Step, route_of, steps
from medsegagent.road.thinking import RulesThinking, Thinking

if TYPE_CHECKING:
    from medsegagent.road.case import Images


def build_team(
    segmenter: Segmenter,
    image: Images,
    out: Path | str | None = None,
    options: Options = Options(),  # noqa: B008  frozen
    *,
    overwrite: bool = False,
    thinking: Thinking | None = None,
) -> GraphFlow:
    """Build the AutoGen team for one case.

    The conversation starts with a `StructuredMessage[Task]`, or with plain text, and ends when an agent says
    `Reported`, `Planned` or `Refused`. Ways back: a matcher with nothing left -> Parser; the Executor with unusable
    cards -> LabelMatcher. Each task is a run of its own; the folder is what `Segmenter.segment` writes.

    Args:
        segmenter: Cards, models, device.
        image: The case, as for `Segmenter.segment`; read now.
        out: The run folder; a later task that finds it taken writes `out-2`, `out-3`, ... and says so. None: no files.
        options: How.
        overwrite: Replace an earlier run in `out`; each task replaces the last one's.
        thinking: How the Parser and the matchers think; default by the rules.

    Raises:
        OutputError: If `out` cannot be written.
        ImageError: If an image cannot be used.
        UsageError: If an option means nothing.
    """
    run = segmenter.prepared(image, out, options, overwrite=overwrite)
    return team_of(run, thinking or RulesThinking(), route_of(options))


def build_matching_team(library: Library, thinking: Thinking | None = None) -> GraphFlow:
    """Build the thinking half of the team: it ends when an agent says `Selected`, `NothingLeft` or `Refused`."""
    return team_of(Run(library), thinking or RulesThinking(), MATCHING)


def message_types() -> list[type[BaseChatMessage]]:
    """What the team says, for the `custom_message_types` of a larger chat that it takes part in."""
    said = (
        Task, Parsed, CardsLeft, NothingLeft, Selected, CardsUnusable, Planned, Executed, Refined, Reported, Refused,
        Consulted, Warned,
    )  # fmt: skip
    return [StructuredMessage[content] for content in said]  # type: ignore[valid-type]


def team_of(run: Run, thinking: Thinking, route: Route, *, own: bool = False) -> GraphFlow:
    """Seat the steps of a route.

    Args:
        run: An unused run.
        thinking: How the Parser and the matchers think.
        route: Who answers what.
        own: The team is for one task, whose run this is; else each task gets a fresh one of it.
    """
    table = Table(run, own=own)
    known: dict[str, Step] = steps(thinking)
    names = dict.fromkeys(route.values())
    seats = {
        name: Seat(known[name], table, frozenset(said for said, listener in route.items() if listener == name))
        for name in names
    }
    graph = DiGraphBuilder()
    for seat in seats.values():
        graph.add_node(seat)
    for (speaker, said), listener in route.items():
        if speaker == USER:
            continue
        # Each edge activates on its own: a node with several incoming edges must not wait for all of them.
        graph.add_edge(
            seats[speaker],
            seats[listener],
            _says(said),
            activation_group=f"{speaker}-{said.__name__}",
            activation_condition="any",
        )
    graph.set_entry_point(seats[PARSER])
    return GraphFlow(
        participants=graph.get_participants(),
        graph=graph.build(),
        max_turns=MOST_TURNS,
        custom_message_types=[StructuredMessage[Task]],  # what the agents say, they register themselves
    )


def _says(content: type[Content]) -> Callable[[BaseChatMessage], bool]:
    return lambda message: isinstance(content_of(message), content)
