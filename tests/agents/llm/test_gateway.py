"""The way to an endpoint, against a real server through the real openai and AutoGen clients."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import sys
import time
import tracemalloc
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_core.models import SystemMessage, UserMessage
from loopback import KEY, Fails, Hangs, Loopback, Raw, Says, always, in_turn
from pydantic import BaseModel, ConfigDict

from medsegagent.agents.llm.bounded import ANSWER_LIMIT
from medsegagent.agents.llm.cache import ReplyCache
from medsegagent.agents.llm.client import Reply
from medsegagent.agents.llm.config import Endpoint
from medsegagent.agents.llm.extract import LONGEST
from medsegagent.agents.llm.gateway import Gateway
from medsegagent.agents.llm.usage_meter import UsageMeter
from medsegagent.errors import ConfigError, EndpointError

Serve = Callable[..., Loopback]


class Cards(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cards: list[str]


def completion(text: str) -> dict[str, Any]:
    """As a whole, or as one event of a stream."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "delta": message, "finish_reason": "stop"}
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "scripted", "choices": [choice]}


GOOD = '{"cards":["LiTS"]}'


def ask(
    entry: dict[str, Any], *, times: int = 1, cache: ReplyCache | None = None, meter: UsageMeter | None = None
) -> list[Reply]:
    """Ask the same question over one gateway, `times` times."""
    messages = [SystemMessage(content="Choose."), UserMessage(content="Which cards?", source="user")]

    async def talk() -> list[Reply]:
        gateway = Gateway(Endpoint.model_validate(entry), meter or UsageMeter(), cache)
        try:
            return [await gateway.ask("Matcher", messages, Cards) for _ in range(times)]
        finally:
            await gateway.close()

    return asyncio.run(talk())


class TestForms:
    def test_a_capable_endpoint_gets_the_schema(self, serve: Serve) -> None:
        server = serve(always(GOOD))
        (reply,) = ask(server.entry())
        assert reply.form == "structured"
        schema = server.asked[0].body["response_format"]["json_schema"]
        assert schema["strict"] is True
        assert schema["schema"]["additionalProperties"] is False

    @pytest.mark.parametrize(
        ("refuses", "form"),
        [
            (("structured",), "tools"),
            (("structured", "tools"), "json"),
            (("structured", "tools", "json"), "text"),
        ],
    )
    def test_what_an_endpoint_lacks_is_found_out_once(
        self, serve: Serve, tmp_path: Path, refuses: tuple[str, ...], form: str
    ) -> None:
        server = serve(lambda asked: Says(GOOD, tool=asked.form == "tools"), refuses=refuses)
        cache = ReplyCache(tmp_path / "llm")
        first = ask(server.entry(), cache=cache)
        assert first[0].form == form
        assert first[0].text == GOOD
        assert len(server.asked) == len(refuses) + 1
        for file in (tmp_path / "llm").glob("*.json"):
            if "messages" in json.loads(file.read_text())["key"]:
                file.unlink()  # forget the answer, keep what the endpoint can do
        ask(server.entry(), cache=cache)
        assert [asked.form for asked in server.asked[len(refuses) + 1 :]] == [form]

    def test_configured_abilities_are_believed(self, serve: Serve) -> None:
        server = serve(always(GOOD))
        ask(server.entry(structured_output=False, tools=False))
        assert [asked.form for asked in server.asked] == ["json"]

    def test_a_refused_temperature_is_left_out(self, serve: Serve) -> None:
        refusal = Fails(400, "Unsupported value: 'temperature' does not support 0.0 with this model.")
        server = serve(lambda asked: refusal if "temperature" in asked.body else Says(GOOD))
        replies = ask(server.entry(), times=2)
        assert [reply.form for reply in replies] == ["structured", "structured"]
        assert len(server.asked) == 3

    def test_a_request_that_is_bad_in_every_form_is_an_error_with_the_reason(self, serve: Serve) -> None:
        server = serve(lambda asked: Fails(400, "context length exceeded"))
        with pytest.raises(EndpointError, match=r"400.*context length exceeded"):
            ask(server.entry())

    @pytest.mark.parametrize("streaming", [False, True])
    @pytest.mark.parametrize("tool", [False, True])
    def test_streaming_or_not_text_or_tool_call_it_is_the_same_answer(
        self, serve: Serve, streaming: bool, tool: bool
    ) -> None:
        server = serve(lambda asked: Says(GOOD, tool=tool))
        meter = UsageMeter()
        (reply,) = ask(server.entry(streaming=streaming), meter=meter)
        assert reply.text == GOOD
        assert bool(server.asked[0].body.get("stream")) is streaming
        assert meter.total.prompt_tokens == server.asked[0].prompt_tokens

    def test_an_autogen_assistant_gets_its_structured_answer_out_of_prose(self, serve: Serve) -> None:
        server = serve(
            always('Let me think. I chose {"cards": ["x"]} at first.\n```json\n{"cards": ["LiTS"]}\n``` Done.')
        )

        async def talk() -> Any:
            gateway = Gateway(Endpoint.model_validate(server.entry()), UsageMeter(), None)
            agent = AssistantAgent("Matcher", gateway.client("Matcher"), output_content_type=Cards)
            result = await agent.run(task="Which?")
            await gateway.close()
            return result.messages[-1]

        assert asyncio.run(talk()).content == Cards(cards=["LiTS"])


class TestTrouble:
    def test_a_wrong_key_is_said_at_once_and_never_shown(self, serve: Serve) -> None:
        server = serve(lambda asked: Fails(401, f"Incorrect API key provided: {KEY}"))
        with pytest.raises(ConfigError, match="refuses the key") as caught:
            ask(server.entry())
        assert len(server.asked) == 1
        assert KEY not in str(caught.value)
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize("status", [402, 409, 413])
    def test_other_client_errors_are_not_retried_and_an_echoed_key_is_masked(self, serve: Serve, status: int) -> None:
        server = serve(lambda asked: Fails(status, f"because {KEY}"))
        with pytest.raises(EndpointError, match=rf"{status}: .*because \*\*\*"):
            ask(server.entry())
        assert len(server.asked) == 1

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_a_busy_server_is_asked_again(self, serve: Serve, status: int) -> None:
        server = serve(in_turn(Fails(status), Says(GOOD)))
        meter = UsageMeter()
        (reply,) = ask(server.entry(), meter=meter)
        assert reply.text == GOOD
        assert meter.total.calls == 2

    def test_retry_after_is_respected(self, serve: Serve) -> None:
        server = serve(in_turn(Fails(429, headers={"Retry-After": "1"}), Says(GOOD)))
        started = time.monotonic()
        ask(server.entry())
        assert time.monotonic() - started >= 1

    def test_a_server_that_stays_broken_ends_in_an_error(self, serve: Serve) -> None:
        server = serve(lambda asked: Fails(500, "boom"))
        with pytest.raises(EndpointError, match=r"500: .*boom"):
            ask(server.entry(max_retries=2))
        assert len(server.asked) == 3

    def test_a_hanging_server_costs_no_more_than_its_timeouts(self, serve: Serve) -> None:
        server = serve(lambda asked: Hangs(30))
        started = time.monotonic()
        with pytest.raises(EndpointError, match=r"no answer within 0\.3 s"):
            ask(server.entry(timeout=0.3))
        assert time.monotonic() - started < 5
        assert len(server.asked) == 2

    def test_a_refused_connection_is_said_at_once(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        with pytest.raises(EndpointError, match="cannot be reached"):
            ask({"model": "m", "base_url": url})

    @pytest.mark.parametrize("body", [b"<html>hello</html>", b"{}", b'{"choices": []}', b'{"choices": null}', b""])
    def test_what_is_no_completion_is_an_error(self, serve: Serve, body: bytes) -> None:
        server = serve(lambda asked: Raw(body))
        with pytest.raises(EndpointError, match="no chat completion"):
            ask(server.entry())

    def test_a_compressed_answer_is_read_though_a_plain_one_is_asked_for(self, serve: Serve) -> None:
        plain = json.dumps(completion(GOOD)).encode()
        for encoding, body in (("gzip", gzip.compress(plain)), ("deflate", zlib.compress(plain))):
            server = serve(lambda asked, body=body, named=encoding: Raw(body, {"Content-Encoding": named}))
            assert ask(server.entry())[0].text == GOOD

    @pytest.mark.parametrize("streaming", [False, True])
    @pytest.mark.parametrize("encoding", ["identity", "gzip", "deflate"])
    def test_an_answer_without_end_is_cut_off_before_it_is_held(
        self, serve: Serve, encoding: str, streaming: bool
    ) -> None:
        endless = json.dumps(completion("a" * 64 * 2**20)).encode()
        pack = {"identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[encoding]
        body = pack(b"data: " + endless if streaming else endless)
        server = serve(lambda asked: Raw(body, {"Content-Encoding": encoding}))
        tracemalloc.start()
        try:
            with pytest.raises(EndpointError, match="more than 16 MiB"):
                ask(server.entry(streaming=streaming))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 3 * ANSWER_LIMIT
        assert len(server.asked) == 1, "it is not asked for again"

    @pytest.mark.parametrize(
        ("encoding", "said"), [("br", "nobody asked"), ("gzip, gzip", "nobody asked"), ("gzip", "not compressed")]
    )
    def test_what_is_compressed_otherwise_than_it_says_is_an_error(
        self, serve: Serve, encoding: str, said: str
    ) -> None:
        server = serve(lambda asked: Raw(b"{}", {"Content-Encoding": encoding}))
        with pytest.raises(EndpointError, match=said):
            ask(server.entry())

    def test_a_long_text_is_cut(self, serve: Serve) -> None:
        (reply,) = ask(serve(always("a" * 10**6)).entry())
        assert len(reply.text) == LONGEST

    def test_a_redirect_is_not_followed(self, serve: Serve) -> None:
        elsewhere = serve(always(GOOD))
        moved = Fails(307, headers={"Location": f"{elsewhere.url}/chat/completions"})
        server = serve(lambda asked: moved)
        with pytest.raises(EndpointError):
            ask(server.entry())
        assert elsewhere.asked == []

    def test_what_no_file_or_terminal_can_take_is_replaced(self, serve: Serve, tmp_path: Path) -> None:
        server = serve(always(f"{GOOD} \ud800 \x1b]0;title\x07 \x00 é"))
        (reply,) = ask(server.entry(), cache=ReplyCache(tmp_path / "llm"))
        reply.text.encode()
        assert not {"\x1b", "\x07", "\x00"} & set(reply.text)
        assert reply.text.endswith("é")
        with pytest.raises(EndpointError) as caught:
            ask(serve(lambda asked: Fails(500, "\x1b[31mboom \ud800")).entry(max_retries=0))
        str(caught.value).encode()
        assert "\x1b" not in str(caught.value)

    def test_a_key_in_a_reply_is_masked(self, serve: Serve) -> None:
        (reply,) = ask(serve(always(f"your key is {KEY}")).entry())
        assert reply.text == "your key is ***"


class TestMoney:
    def test_the_call_budget_stops_before_the_next_request(self, serve: Serve) -> None:
        server = serve(always(GOOD))
        with pytest.raises(EndpointError, match=r"budget of 2 LLM calls.*--max-calls"):
            ask(server.entry(), times=3, meter=UsageMeter(max_calls=2))
        assert len(server.asked) == 2

    def test_the_call_budget_holds_for_queries_in_many_threads(self) -> None:
        total = UsageMeter(max_calls=50, max_tokens=10**9)

        def spend(_: int) -> int:
            meter, spent = UsageMeter(parent=total), 0
            with contextlib.suppress(EndpointError):
                while True:
                    meter.charge("Expert")
                    spent += 1
            assert meter.total.calls == spent
            return spent

        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            with ThreadPoolExecutor(8) as pool:
                assert sum(pool.map(spend, range(8))) == total.total.calls == 50
        finally:
            sys.setswitchinterval(before)

    def test_the_token_budget_stops_before_the_next_request(self, serve: Serve) -> None:
        server = serve(always(GOOD))
        with pytest.raises(EndpointError, match=r"budget of 5 LLM tokens.*--max-tokens"):
            ask(server.entry(), times=2, meter=UsageMeter(max_tokens=5))
        assert len(server.asked) == 1

    def test_without_usage_figures_characters_are_counted(self, serve: Serve) -> None:
        server = serve(lambda asked: Says(GOOD, usage=False))
        meter = UsageMeter()
        ask(server.entry(), meter=meter)
        assert meter.total.prompt_tokens == server.asked[0].prompt_tokens
        assert meter.total.completion_tokens == len(GOOD) // 4

    def test_an_identical_call_is_answered_from_the_disk(self, serve: Serve, tmp_path: Path) -> None:
        server = serve(always(GOOD))
        meter = UsageMeter()
        ask(server.entry(), cache=ReplyCache(tmp_path / "llm"))
        (again,) = ask(server.entry(), cache=ReplyCache(tmp_path / "llm"), meter=meter)
        assert again.cached
        assert again.text == GOOD
        assert len(server.asked) == 1
        assert meter.record()["agents"]["Matcher"] | {"seconds": 0} == {
            "calls": 0, "cached": 1, "prompt_tokens": 0, "completion_tokens": 0, "seconds": 0,
        }  # fmt: skip

    def test_a_bad_answer_is_not_kept(self, serve: Serve, tmp_path: Path) -> None:
        server = serve(in_turn(Says("I would rather not."), Says(GOOD)))
        cache = ReplyCache(tmp_path / "llm")
        assert [reply.text for reply in ask(server.entry(), times=2, cache=cache)] == ["I would rather not.", GOOD]

    def test_the_cache_is_private_json_without_the_key(self, serve: Serve, tmp_path: Path) -> None:
        ask(serve(always(GOOD)).entry(), cache=ReplyCache(tmp_path / "llm"))
        files = list((tmp_path / "llm").iterdir())
        assert files
        for file in files:
            assert file.stat().st_mode & 0o077 == 0
            assert KEY not in json.dumps(json.loads(file.read_text()))

    def test_an_edited_cache_file_is_ignored(self, serve: Serve, tmp_path: Path) -> None:
        server = serve(always(GOOD))
        cache = ReplyCache(tmp_path / "llm")
        ask(server.entry(), cache=cache)
        for file in (tmp_path / "llm").iterdir():
            file.write_text("{")
        assert not ask(server.entry(), cache=cache)[0].cached
