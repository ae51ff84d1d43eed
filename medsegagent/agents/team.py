"""The team: who speaks after whom, decided by the type of what was said, never by its wording."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING

from autogen_agentchat.messages import BaseChatMessage, StructuredMessage
from autogen_agentchat.teams import DiGraphBuilder, GraphFlow

from medsegagent.agents.seats import TypedAgent, content_of
from medsegagent.cards.library import Library
from medsegagent.road.case import task_for
from medsegagent.road.execute import ExecutorAgent, RefinerAgent, ReporterAgent
from medsegagent.road.messages import (
    CardsLeft,
    CardsUnusable,
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
)
from medsegagent.road.run import Workspace
from medsegagent.road.understand import AnatomyMatcherAgent, LabelMatcherAgent, ModalityMatcherAgent, ParserAgent
from medsegagent.vocabulary import Vocabulary

if TYPE_CHECKING:
    from medsegagent.agents.llm.consulting import Counsel

_MAX_TURNS = 60
"""Far above the longest honest conversation (two turns per failing model); a guard against a loop of ours."""


def build_team(workspace: Workspace, counsel: Counsel | None = None) -> GraphFlow:
    """Build the AutoGen team for one case.

    The conversation starts with a `StructuredMessage[Task]`, or with plain text, and ends when an agent says
    `Reported`, `Planned` or `Refused`. Ways back: a matcher with nothing left -> Parser; the Executor with unusable
    cards -> LabelMatcher.

    Args:
        workspace: The case.
        counsel: The language model to ask; None leaves the thinking to the rules.
    """
    thinkers = _thinkers(
        workspace.library,
        workspace.vocabulary,
        counsel,
        force=workspace.options.force,
        task_of=lambda text: task_for(text, workspace.volumes),
    )
    parser, modality, anatomy, label = thinkers
    executor = ExecutorAgent(workspace)
    reporter = ReporterAgent(workspace)
    acting: list[TypedAgent] = [executor, reporter]
    if workspace.options.refinement.kind != "off":
        acting.insert(1, RefinerAgent(workspace))
    return _flow(
        [*thinkers, *acting],
        (
            *_coarse_to_fine(*thinkers),
            (label, Selected, executor),
            *((speaker, Executed, hearer) for speaker, hearer in pairwise(acting)),
            (modality, NothingLeft, parser),
            (anatomy, NothingLeft, parser),
            (label, NothingLeft, parser),
            (executor, CardsUnusable, label),
        ),
    )


def build_matching_team(library: Library, vocabulary: Vocabulary, counsel: Counsel | None = None) -> GraphFlow:
    """Build the thinking half of the team: it ends when an agent says `Selected`, `NothingLeft` or `Refused`."""
    thinkers = _thinkers(library, vocabulary, counsel)
    return _flow(list(thinkers), _coarse_to_fine(*thinkers))


def message_types() -> list[type[BaseChatMessage]]:
    """What the team says, for the `custom_message_types` of a larger chat that it takes part in."""
    from medsegagent.agents.llm.consulting import Consulted, Warned

    said = (
        Task, Parsed, CardsLeft, NothingLeft, Selected, CardsUnusable, Planned, Executed, Refined, Reported, Refused,
        Consulted, Warned,
    )  # fmt: skip
    return [StructuredMessage[content] for content in said]  # type: ignore[valid-type]


Thinkers = tuple[ParserAgent, ModalityMatcherAgent, AnatomyMatcherAgent, LabelMatcherAgent]
Edge = tuple[TypedAgent, type[Content], TypedAgent]
"""Who, on saying what, is answered by whom."""


def _thinkers(
    library: Library,
    vocabulary: Vocabulary,
    counsel: Counsel | None,
    *,
    force: bool = False,
    task_of: Callable[[str], Task] | None = None,
) -> Thinkers:
    rules = (ModalityMatcherAgent(library), AnatomyMatcherAgent(library), LabelMatcherAgent(library))
    if counsel is None:
        return ParserAgent(vocabulary, force=force, task_of=task_of), *rules
    from medsegagent.agents.llm import understand as thinking

    parser = thinking.AskingParserAgent(vocabulary, library, counsel, force=force, task_of=task_of)
    if counsel.kind == "hybrid":
        return parser, *rules
    return (
        parser,
        thinking.AskingModalityMatcherAgent(library, counsel),
        thinking.AskingAnatomyMatcherAgent(library, counsel),
        thinking.AskingLabelMatcherAgent(library, counsel),
    )


def _coarse_to_fine(
    parser: ParserAgent, modality: ModalityMatcherAgent, anatomy: AnatomyMatcherAgent, label: LabelMatcherAgent
) -> tuple[Edge, ...]:
    return (parser, Parsed, modality), (modality, CardsLeft, anatomy), (anatomy, CardsLeft, label)


def _flow(agents: list[TypedAgent], edges: Iterable[Edge]) -> GraphFlow:
    graph = DiGraphBuilder()
    for agent in agents:
        graph.add_node(agent)
    for source, said, target in edges:
        # Each edge activates on its own: a node with several incoming edges must not wait for all of them.
        graph.add_edge(
            source,
            target,
            _says(said),
            activation_group=f"{source.name}-{said.__name__}",
            activation_condition="any",
        )
    graph.set_entry_point(agents[0])
    return GraphFlow(
        participants=graph.get_participants(),
        graph=graph.build(),
        max_turns=_MAX_TURNS,
        custom_message_types=[StructuredMessage[Task]],  # what the agents say, they register themselves
    )


def _says(content: type[Content]) -> Callable[[BaseChatMessage], bool]:
    return lambda message: isinstance(content_of(message), content)
