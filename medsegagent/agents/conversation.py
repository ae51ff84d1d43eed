"""A request answered by an AutoGen team whose agents ask a language model."""

from __future__ import annotations

from medsegagent.agents.seats import content_of, envelope
from medsegagent.agents.team import team_of
from medsegagent.road.messages import Content, Task
from medsegagent.road.run import Run
from medsegagent.road.steps import USER, Route
from medsegagent.road.thinking import Thinking


async def converse(task: Task, run: Run, thinking: Thinking, route: Route) -> Content:
    """Let the team talk until nobody answers.

    Args:
        task: What the user wants.
        run: Not used before; everything is said on it.
        thinking: How the Parser and the matchers think.
        route: Who answers what.

    Returns:
        What was said last.
    """
    last: Content = task
    async for message in team_of(run, thinking, route, own=True).run_stream(task=envelope(task, USER)):
        last = content_of(message) or last
    return last
