"""The field's baselines: one assistant that sees every card and is believed, whatever it says.

Names and behaviour after MedSegAgent (doi 10.1109/JBHI.2026.3677444): `Native` answers directly, `CoT` reasons first,
`ReAct` writes thoughts, actions and observations (there are no tools), `ReAct_SelfVerify` judges its own answer in a
second call with a fresh history.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import TextMessage
from autogen_core import CancellationToken
from pydantic import RootModel

from medsegagent.agents.llm import prompts
from medsegagent.agents.llm.client import AgentClient
from medsegagent.agents.llm.extract import find_answer
from medsegagent.cards.library import Library

Labels = dict[str, list[int]]


class Chosen(RootModel[Labels]):
    """Card name -> values, as the baselines answer; names and values may be made up."""


FIRST_PROMPT = {"Native": "native", "CoT": "cot", "ReAct": "react", "ReAct_SelfVerify": "react"}
"""Baseline -> the prompt of its first call."""


async def ask_baseline(pattern: str, query: str, library: Library, client_of: Callable[[str], AgentClient]) -> Labels:
    """Answer a query by a baseline.

    Args:
        pattern: A key of `FIRST_PROMPT`.
        query: The user's words.
        library: All its cards go into every call.
        client_of: Agent name -> model client.

    Returns:
        Card -> values; empty where the reply holds no answer.

    Raises:
        ConfigError: As the gateway does.
        EndpointError: Likewise.
    """
    cards = all_cards(library)
    answer = await _one_call("Expert", FIRST_PROMPT[pattern], cards, query, client_of)
    if pattern == "ReAct_SelfVerify":
        judged = json.dumps({"request": query, "answer": answer or {}}, ensure_ascii=False)
        corrected = await _one_call("Verifier", "self_verify", cards, judged, client_of)
        answer = answer if corrected is None else corrected
    return answer or {}


def all_cards(library: Library) -> str:
    """Every card, one line of JSON each."""
    return "\n".join(
        json.dumps(
            {"name": card.name, "channels": list(card.channel_names.values()), "labels": card.model_dump()["labels"]},
            ensure_ascii=False,
        )
        for card in sorted(library, key=lambda card: card.name)
    )


async def _one_call(
    name: str, prompt: str, cards: str, turn: str, client_of: Callable[[str], AgentClient]
) -> Labels | None:
    system = f"{prompts.load(prompt).text}\n\n{cards}"
    assistant = AssistantAgent(name, client_of(name), system_message=system)
    response = await assistant.on_messages([TextMessage(content=turn, source="user")], CancellationToken())
    found = find_answer(response.chat_message.to_text(), Chosen)
    return None if found is None else Chosen.model_validate_json(found).root
