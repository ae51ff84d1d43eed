"""The team as a part of other AutoGen programs, as docs/llm.md shows it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import StructuredMessage
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_agentchat.tools import TeamTool
from autogen_core.models import ModelInfo
from autogen_ext.models.openai import OpenAIChatCompletionClient
from loopback import KEY, Asked, Loopback, Says

from medsegagent import Options, Segmenter
from medsegagent.agents import build_team, message_types
from medsegagent.phantom import CARDS, MODELS
from medsegagent.road.messages import Reported, Selected

ROOT = Path(__file__).resolve().parents[3]
Serve = Callable[..., Loopback]
INFO = ModelInfo(vision=False, function_calling=True, json_output=True, structured_output=True, family="unknown")


def client(server: Loopback) -> OpenAIChatCompletionClient:
    return OpenAIChatCompletionClient(model="scripted", base_url=server.url, api_key=KEY, model_info=INFO)


def test_it_streams_its_messages_and_takes_plain_text(ct_file: Path, tmp_path: Path) -> None:
    async def talk() -> list[object]:
        team = build_team(Segmenter(CARDS, models_dir=MODELS), ct_file, tmp_path)
        return [message async for message in team.run_stream(task="segment the spleen")]

    messages = asyncio.run(talk())
    contents = [message.content for message in messages if isinstance(message, StructuredMessage)]
    selected = next(content for content in contents if isinstance(content, Selected))
    assert all("CT" in card for card in selected.selection.labels)  # the image says so, the text does not
    assert isinstance(contents[-1], Reported)
    assert (tmp_path / "segmentation.nii.gz").exists()


def test_it_takes_part_in_a_larger_chat(serve: Serve, ct_file: Path, tmp_path: Path) -> None:
    server = serve(lambda asked: Says("Segment the spleen in this CT, please."))

    async def talk() -> list[str]:
        surgeon = AssistantAgent("Surgeon", client(server))
        options = Options(dry_run=True)
        team = build_team(Segmenter(CARDS, models_dir=MODELS), ct_file, tmp_path, options)
        chat = RoundRobinGroupChat([surgeon, team], max_turns=2, custom_message_types=message_types())
        result = await chat.run(task="We plan a splenectomy.")
        return [message.to_text() for message in result.messages]

    said = asyncio.run(talk())
    assert "Segment the spleen in this CT, please." in said
    assert any(text.startswith("wanted: spleen") for text in said)
    assert any(text.startswith("would run") for text in said)


def test_it_is_a_tool_for_an_assistant(serve: Serve, ct_file: Path, tmp_path: Path) -> None:
    def call_then_report(asked: Asked) -> Says:
        if asked.body["messages"][-1]["role"] == "tool":
            return Says("Done.")
        return Says(json.dumps({"task": "segment the spleen in this CT"}), tool=True)

    server = serve(call_then_report, tool_name="segmentation")

    async def talk() -> str:
        options = Options(dry_run=True)
        team = build_team(Segmenter(CARDS, models_dir=MODELS), ct_file, tmp_path, options)
        tool = TeamTool(team, "segmentation", "Segments structures in the open case.")
        assistant = AssistantAgent("Assistant", client(server), tools=[tool], reflect_on_tool_use=True)
        result = await assistant.run(task="Is the spleen all right?")
        return result.messages[-1].to_text()

    assert asyncio.run(talk()) == "Done."
    answer = server.asked[-1].body["messages"][-1]["content"]
    assert "would run" in answer
    assert len(answer) < 3000


@pytest.mark.parametrize("number", [0, 1])
def test_the_programs_in_the_documentation_run_as_they_stand(
    serve: Serve, ct_file: Path, tmp_path: Path, number: int
) -> None:
    page = (ROOT / "docs" / "llm.md").read_text(encoding="utf-8")
    programs = [block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "asyncio.run" in block]
    server = serve(lambda asked: Says("Segment the spleen in this CT, please."))
    (tmp_path / "out").mkdir()
    shutil.copy(ct_file, tmp_path / "ct.nii.gz")
    surroundings = {
        "OPENAI_BASE_URL": server.url,
        "OPENAI_API_KEY": KEY,
        "OAI_CONFIG_LIST": json.dumps([server.entry()]),
        "MEDSEGAGENT_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", programs[number]]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **surroundings}, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert ("wanted: spleen" if number else "Parser wanted: liver, spleen") in done.stdout
    assert len(server.asked) == number  # the surgeon's question; what the team is asked, its rules resolve
    assert KEY not in done.stdout + done.stderr
