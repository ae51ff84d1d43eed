"""A real OpenAI-compatible server on loopback, streaming and not, whose behaviour each test chooses."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-test-Zm9vYmFyYmF6cXV4-do-not-leak"


@dataclass(frozen=True)
class Asked:
    """One request as it came in."""

    body: dict[str, Any]
    authorization: str

    @property
    def system(self) -> str:
        return "\n".join(item["content"] for item in self.body["messages"] if item["role"] == "system")

    @property
    def turns(self) -> list[str]:
        """What the user's side said, in order: the question, then complaints."""
        return [item["content"] for item in self.body["messages"] if item["role"] == "user"]

    @property
    def question(self) -> dict[str, Any]:
        """The question as data."""
        return json.loads(self.turns[0])

    @property
    def complaint(self) -> str:
        """What the last turn says was wrong with the answer before."""
        return json.loads(self.turns[-1].splitlines()[0])["not accepted"]

    @property
    def form(self) -> str:
        kind = self.body.get("response_format", {}).get("type", "text")
        return (
            "tools"
            if self.body.get("tools")
            else {"json_schema": "structured", "json_object": "json"}.get(kind, "text")
        )

    @property
    def prompt_tokens(self) -> int:
        """Characters / 4 of all messages."""
        return sum(len(item["content"] or "") for item in self.body["messages"]) // 4


@dataclass(frozen=True)
class Says:
    """A completion. `tool` gives it as a tool call."""

    text: str
    tool: bool = False
    usage: bool = True


@dataclass(frozen=True)
class Fails:
    """An HTTP error."""

    status: int
    message: str = "no"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hangs:
    """Silence, then a completion that comes too late."""

    seconds: float


@dataclass(frozen=True)
class Raw:
    """Anything with status 200."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


Answer = Says | Fails | Hangs | Raw
Behaviour = Callable[[Asked], Answer]


def in_turn(*answers: Answer) -> Behaviour:
    """These answers one after the other; the last one for ever."""
    left = list(answers)
    return lambda asked: left.pop(0) if len(left) > 1 else left[0]


def always(text: str) -> Behaviour:
    return lambda asked: Says(text)


class Loopback:
    """The server: `with Loopback(behaviour) as server: ... server.url`."""

    def __init__(self, behaviour: Behaviour, refuses: tuple[str, ...] = (), tool_name: str = "answer") -> None:
        self.behaviour = behaviour
        self.tool_name = tool_name
        self.refuses = refuses
        """Forms answered with 400, as by an endpoint that lacks them."""
        self.asked: list[Asked] = []
        self.stop = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def entry(self, **more: Any) -> dict[str, Any]:
        """An entry of OAI_CONFIG_LIST for this server."""
        return {"model": "scripted", "base_url": self.url, "api_key": KEY, "timeout": 10, "max_retries": 1} | more

    def __enter__(self) -> Loopback:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _handler(loopback: Loopback) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - a class that closes over its server
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path != "/v1/chat/completions":
                self._send(404, {"error": {"message": f"no {self.path}"}})
                return
            asked = Asked(body, self.headers.get("Authorization", ""))
            loopback.asked.append(asked)
            if asked.form in loopback.refuses:
                self._send(400, {"error": {"message": f"{asked.form} is not supported", "param": "response_format"}})
                return
            self._answer(asked, loopback.behaviour(asked))

        def _answer(self, asked: Asked, answer: Answer) -> None:
            if isinstance(answer, Hangs):
                loopback.stop.wait(answer.seconds)
                answer = Says("too late")
            if isinstance(answer, Fails):
                self._send(answer.status, {"error": {"message": answer.message}}, answer.headers)
            elif isinstance(answer, Raw):
                self._send_bytes(200, answer.body, "application/json", answer.headers)
            elif asked.body.get("stream"):
                self._stream(asked, answer)
            else:
                self._send(200, _completion(asked, answer, loopback.tool_name))

        def _send(self, status: int, data: Any, headers: dict[str, str] | None = None) -> None:
            self._send_bytes(status, json.dumps(data).encode(), "application/json", headers or {})

        def _send_bytes(self, status: int, data: bytes, kind: str, headers: dict[str, str]) -> None:
            try:
                self.send_response(status)
                for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                self.close_connection = True  # the client has given up

        def _stream(self, asked: Asked, answer: Says) -> None:
            events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in _chunks(asked, answer)) + "data: [DONE]\n\n"
            self._send_bytes(200, events.encode(), "text/event-stream", {})

        def log_message(self, *_: object) -> None:
            """Keep the test output clean."""

    return Handler


def _message(answer: Says, tool_name: str) -> dict[str, Any]:
    if not answer.tool:
        return {"role": "assistant", "content": answer.text}
    call = {"id": "call_1", "type": "function", "function": {"name": tool_name, "arguments": answer.text}}
    return {"role": "assistant", "content": None, "tool_calls": [call]}


def _usage(asked: Asked, answer: Says) -> dict[str, int]:
    prompt, completion = asked.prompt_tokens, len(answer.text) // 4
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _base(asked: Asked, kind: str) -> dict[str, Any]:
    return {"id": "cmpl-1", "object": kind, "created": int(time.time()), "model": asked.body["model"]}


def _completion(asked: Asked, answer: Says, tool_name: str) -> dict[str, Any]:
    finish = "tool_calls" if answer.tool else "stop"
    choice = {"index": 0, "message": _message(answer, tool_name), "finish_reason": finish, "logprobs": None}
    usage = {"usage": _usage(asked, answer)} if answer.usage else {}
    return _base(asked, "chat.completion") | {"choices": [choice]} | usage


def _chunks(asked: Asked, answer: Says) -> Iterator[dict[str, Any]]:
    base = _base(asked, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        return base | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}

    yield chunk({"role": "assistant", "content": None if answer.tool else ""})
    if answer.tool:
        function = {"name": "answer", "arguments": answer.text}
        yield chunk({"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": function}]})
    else:
        for start in range(0, len(answer.text), 7):
            yield chunk({"content": answer.text[start : start + 7]})
    yield chunk({}, "tool_calls" if answer.tool else "stop")
    if answer.usage and asked.body.get("stream_options", {}).get("include_usage"):
        yield base | {"choices": [], "usage": _usage(asked, answer)}
