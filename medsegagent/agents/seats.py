"""A step of the road in an AutoGen team: one typed message in, one out. No policy, no files."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from autogen_agentchat.agents import BaseChatAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import BaseChatMessage, StructuredMessage, TextMessage
from autogen_core import CancellationToken

from medsegagent.road.messages import Content, Refused, Task
from medsegagent.road.run import Run
from medsegagent.road.steps import USER, Step, respond


def content_of(message: Any) -> Content | None:
    """The typed content of an AutoGen message, None for AutoGen's own events."""
    content = getattr(message, "content", None)
    return content if isinstance(content, Content) else None


def envelope(content: Content, source: str) -> StructuredMessage[Any]:
    """Pack content for the team."""
    kind: Any = StructuredMessage[type(content)]  # type: ignore[misc]
    plain = content.summary.replace("{", "{{").replace("}", "}}")  # what other chats, and their models, see of it
    message: StructuredMessage[Any] = kind(content=content, source=source, format_string=plain)
    return message


class Table:
    """What the seats share: the run of the request that is being answered. A new task begins a new run."""

    def __init__(self, run: Run, *, own: bool) -> None:
        """Keep an unused run: the one task's own, or what each task gets a fresh one of."""
        self._own, self._blank, self.run = own, run, run

    def begin(self, task: Task) -> None:
        """Begin the task's own run."""
        if not self._own:
            self.run = self._blank.fresh()
        self.run.say(USER, task)

    def task(self, text: str) -> Task:
        """Plain text, as it comes from other chats, with the images' own evidence beside it."""
        if self.run.case is None:
            return Task(instruction=text)
        return self.run.case.task(text, self.run.options.modality)


class Seat(BaseChatAgent):
    """Answers the newest message that its step hears."""

    def __init__(self, step: Step, table: Table, heard_from: frozenset[tuple[str, type[Content]]]) -> None:
        """Listen.

        Args:
            step: Does the work.
            table: Where the run is.
            heard_from: Who says what that this seat answers.
        """
        super().__init__(step.name, step.description)
        self._step, self._table, self._heard_from = step, table, heard_from

    @property
    def produced_message_types(self) -> Sequence[type[BaseChatMessage]]:
        """What this agent says."""
        return [StructuredMessage[content] for content in (*self._step.says, Refused)]  # type: ignore[valid-type]

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        """Let the step answer; what it computes ends at its next tile if the team is cancelled."""
        heard = next(content for message in reversed(messages) if (content := self._understood(message)))
        if isinstance(heard, Task):
            self._table.begin(heard)
        run = self._table.run
        answer = asyncio.ensure_future(respond(self._step, heard, run))
        cancellation_token.link_future(answer)
        try:
            *asides, said = await answer
        except BaseException:
            run.stop.set()
            run.abandon()
            raise
        return Response(
            chat_message=envelope(said, self.name), inner_messages=[envelope(item, self.name) for item in asides]
        )

    def _understood(self, message: BaseChatMessage) -> Content | None:
        content = content_of(message)
        if content is not None:
            kinds = {kind for _, kind in self._heard_from}
            return content if type(content) in kinds else None
        takes_text = isinstance(message, TextMessage) and any(kind is Task for _, kind in self._heard_from)
        return self._table.task(message.content) if takes_text else None  # type: ignore[attr-defined]

    async def on_reset(self, cancellation_token: CancellationToken) -> None:
        """Forget nothing: state lives in the run, and each task begins one."""
