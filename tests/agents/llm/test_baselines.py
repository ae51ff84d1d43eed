"""The field's baselines: what each sends, how often, and what it makes of the reply."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from loopback import Fails, Loopback, Says, always, in_turn

from medsegagent import Library
from medsegagent.agents.llm.config import Endpoint
from medsegagent.agents.llm.mind import Mind
from medsegagent.agents.patterns.answering import llm_answerer
from medsegagent.agents.patterns.baselines import all_cards
from medsegagent.errors import AnswerNeededError, ConfigError, UsageError
from medsegagent.evaluation.patterns import Answer

Serve = Callable[..., Loopback]
QUERY = "Please help me segment the spleen in CT images."
FINAL = 'Thought: spleen.\n**Final Answer:** {"thought": "it\'s there", "answer": {"WORD": [2], "Unicorn": [1]}}'


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load("benchmark")


def ask(pattern: str, server: Loopback, library: Library, **mind: object) -> Answer:
    endpoint = Endpoint.model_validate(server.entry())
    return llm_answerer(pattern, Mind("llm", endpoint, use_cache=False, **mind), library)(QUERY)


@pytest.mark.parametrize(("pattern", "calls"), [("Native", 1), ("CoT", 1), ("ReAct", 1), ("ReAct_SelfVerify", 2)])
def test_each_sends_all_cards_and_believes_the_answer(serve: Serve, library: Library, pattern: str, calls: int) -> None:
    server = serve(always(FINAL))
    answer = ask(pattern, server, library)
    assert answer.labels == {"WORD": [2], "Unicorn": [1]}
    assert answer.calls == len(server.asked) == calls
    assert answer.prompt_tokens == sum(asked.prompt_tokens for asked in server.asked)
    assert answer.completion_tokens == calls * (len(FINAL) // 4)
    for asked in server.asked:
        assert all(f'"{card.name}"' in asked.system for card in library)


def test_the_reasoning_asked_for_tells_them_apart(serve: Serve, library: Library) -> None:
    server = serve(always(FINAL))
    for pattern in ("Native", "CoT", "ReAct"):
        ask(pattern, server, library)
    native, cot, react = (asked.system for asked in server.asked)
    assert "step by step" in cot
    assert "step by step" not in native
    assert "Observation:" in react
    assert "Observation:" not in cot


def test_self_verify_judges_the_quoted_answer_without_the_history(serve: Serve, library: Library) -> None:
    server = serve(in_turn(Says(FINAL), Says('Final Answer: {"thought": "", "answer": {"WORD": [2]}}')))
    assert ask("ReAct_SelfVerify", server, library).labels == {"WORD": [2]}
    second = server.asked[1]
    assert len(second.turns) == 1
    assert json.loads(second.turns[0]) == {"request": QUERY, "answer": {"WORD": [2], "Unicorn": [1]}}


def test_a_verifier_that_rambles_leaves_the_first_answer(serve: Serve, library: Library) -> None:
    server = serve(in_turn(Says(FINAL), Says("Looks fine to me.")))
    assert ask("ReAct_SelfVerify", server, library).labels == {"WORD": [2], "Unicorn": [1]}


@pytest.mark.parametrize(
    "text", ["I cannot help.", "Final Answer: {}", 'Final Answer: {"thought": "", "answer": {}}', "[]"]
)
def test_no_answer_is_an_empty_one(serve: Serve, library: Library, text: str) -> None:
    assert ask("Native", serve(always(text)), library).labels == {}


def test_an_endpoint_error_is_raised_for_the_engine_to_record(serve: Serve, library: Library) -> None:
    with pytest.raises(ConfigError):
        ask("Native", serve(lambda asked: Fails(401)), library)


def test_the_budget_is_for_all_queries_together(serve: Serve, library: Library) -> None:
    server = serve(always(FINAL))
    mind = Mind("llm", Endpoint.model_validate(server.entry()), use_cache=False, max_calls=3)
    answer = llm_answerer("Native", mind, library)
    for _ in range(3):
        answer(QUERY)
    with pytest.raises(Exception, match="budget of 3"):
        answer(QUERY)
    assert len(server.asked) == 3


def test_a_remote_endpoint_needs_permission_before_the_first_query(library: Library) -> None:
    remote = Endpoint(model="m", base_url="https://8.8.8.8/v1")
    with pytest.raises(AnswerNeededError, match="--allow-remote"):
        llm_answerer("Native", Mind("llm", remote), library)


def test_an_unknown_pattern_lists_the_known_ones(library: Library) -> None:
    with pytest.raises(UsageError, match=r"C2F, Hybrid, Native, CoT, ReAct, ReAct_SelfVerify"):
        llm_answerer("Magic", Mind(), library)


def test_all_cards_hold_every_label_and_value(library: Library) -> None:
    cards = {item["name"]: item for item in map(json.loads, all_cards(library).splitlines())}
    assert set(cards) == set(library.cards)
    assert cards["KiTS23"]["labels"] == library.get("KiTS23").model_dump()["labels"]
