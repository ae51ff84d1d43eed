"""The seam to AutoGen: one typed message in, one function, one typed message out."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

from autogen_agentchat.agents import BaseChatAgent
from autogen_agentchat.base import Response
from autogen_agentchat.messages import BaseChatMessage, StructuredMessage
from autogen_core import CancellationToken

from medsegagent.errors import MedSegAgentError
from medsegagent.road.messages import Content, Refused

C = TypeVar("C", bound=Content)


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


class TypedAgent(BaseChatAgent):
    """An agent that answers the newest message it understands.

    A subclass names what it hears and says, and turns one into the other in `answer`, a plain function run in a
    worker thread so that heavy work never blocks the conversation; or in `consider`, if it has to wait for others.
    """

    hears: tuple[type[Content], ...]
    says: tuple[type[Content], ...]

    def __init__(self, name: str, description: str) -> None:
        super().__init__(name, description)
        self.asides: list[Content] = []
        """Said before the next answer, for the record; nobody reacts to them. Their types are among `says`."""

    @property
    def produced_message_types(self) -> Sequence[type[BaseChatMessage]]:
        """What this agent says."""
        return [StructuredMessage[content] for content in (*self.says, Refused)]  # type: ignore[valid-type]

    async def on_messages(self, messages: Sequence[BaseChatMessage], cancellation_token: CancellationToken) -> Response:
        """Answer the newest message of a type that this agent hears."""
        heard = next(content for m in reversed(messages) if isinstance(content := content_of(m), self.hears))
        answer = asyncio.ensure_future(self._consider_or_refuse(heard))
        cancellation_token.link_future(answer)
        said = await answer
        asides, self.asides = self.asides, []
        inner = [envelope(item, self.name) for item in asides]
        return Response(chat_message=envelope(said, self.name), inner_messages=inner)

    async def _consider_or_refuse(self, heard: Content) -> Content:
        # A team turns an exception into a RuntimeError with its text, so expected ones travel as a message.
        try:
            return await self.consider(heard)
        except MedSegAgentError as error:
            return Refused(exit_code=error.exit_code, what=error.what, remedy=error.remedy, where=error.where)

    async def consider(self, heard: Content) -> Content:
        """Turn what was heard into what is said."""
        return await asyncio.to_thread(self.answer, heard)

    async def on_reset(self, cancellation_token: CancellationToken) -> None:
        """Forget nothing: state lives in the messages and the workspace."""

    @abstractmethod
    def answer(self, heard: Any) -> Content:
        """Turn what was heard into what is said."""
