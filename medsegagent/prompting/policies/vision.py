"""One request to an OpenAI-compatible endpoint that sees pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from medsegagent.errors import EndpointError, UsageError
from medsegagent.prompting.adapters.sending import require_consent

_LARGEST = 4 << 20
_TOKENS = 256

Message = dict[str, Any]
"""As the endpoint takes it: role and content; content is text or a list of text and image parts."""


@dataclass(frozen=True)
class Said:
    """What came back: text, and the calls as (name, arguments as JSON text)."""

    text: str
    calls: tuple[tuple[str, str], ...] = ()


class Sees(Protocol):
    """Asks a model that sees."""

    def __call__(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> Said:
        """Send the conversation, take one answer.

        Raises:
            EndpointError: If there is none.
        """


@dataclass(frozen=True)
class VisionEndpoint:
    """An endpoint, and the consent to send it pixels.

    Attributes:
        model: Its name there.
        base_url: `https://host/v1`.
        key: If it wants one; never shown.
        send_images: Pixels may be sent.
        timeout_s: For one answer.
        tries: After 429, 5xx and cut connections.
    """

    model: str
    base_url: str
    key: str = field(default="", repr=False)
    send_images: bool = False
    timeout_s: float = 60.0
    tries: int = 2

    def __call__(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> Said:
        """Ask.

        Raises:
            UsageError: If sending was not agreed to.
            EndpointError: If no usable answer comes.
        """
        import httpx

        self.require_consent()
        body = {
            "model": self.model,
            "messages": list(messages),
            "tools": list(tools),
            "max_tokens": _TOKENS,
            "temperature": 0,
        }
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        reason = ""
        with httpx.Client(timeout=self.timeout_s) as client:
            for _ in range(self.tries):
                try:
                    answer = client.post(f"{self.base_url.rstrip('/')}/chat/completions", json=body, headers=headers)
                except httpx.HTTPError as error:
                    reason = f"no answer ({type(error).__name__})"
                    continue
                if answer.status_code == httpx.codes.OK:
                    return _said(answer.content, self._where)
                reason = f"status {answer.status_code}"
                if answer.status_code != httpx.codes.TOO_MANY_REQUESTS and not answer.is_server_error:
                    break
        remedy = "Does the model take pictures and tools? The masks so far are kept."
        raise EndpointError(f"the vision model gives no answer: {reason}", remedy, self._where)

    def require_consent(self) -> None:
        """Check that pixels may go there.

        Raises:
            UsageError: If it was not agreed to.
        """
        if not self.send_images:
            raise UsageError(
                f"slices of the image would be sent to {self._where}",
                "Give --send-images if that is agreed. Pixels are sent, no header, no name, and corners blacked out.",
            )
        require_consent(self.base_url, agreed=True)

    @property
    def _where(self) -> str:
        from urllib.parse import urlsplit

        return f"{self.model} at {urlsplit(self.base_url).netloc}"


def _said(content: bytes, where: str) -> Said:
    try:
        if len(content) > _LARGEST:
            raise ValueError("too long")
        message = json.loads(content)["choices"][0]["message"]
        calls = tuple(
            (str(call["function"]["name"]), str(call["function"]["arguments"]))
            for call in message.get("tool_calls") or ()
        )
        return Said(str(message.get("content") or ""), calls)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        what = "the vision model's answer is no chat completion"
        raise EndpointError(what, "Is base_url right? It ends in /v1 as a rule.", where) from error
