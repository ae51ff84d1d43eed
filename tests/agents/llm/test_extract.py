"""The answer is found wherever a model puts it, and nothing else is taken for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, RootModel

from medsegagent.agents.llm.extract import find_answer


class Cards(BaseModel):
    model_config = ConfigDict(extra="forbid")

    cards: list[str]


class Chosen(RootModel[dict[str, list[int]]]):
    pass


GOOD = '{"cards":["LiTS"]}'


@pytest.mark.parametrize(
    "text",
    [
        '{"cards": ["LiTS"]}',
        '```json\n{"cards": ["LiTS"]}\n```',
        '**Final Answer:** {"cards": ["LiTS"]} — I hope this helps!',
        'The form is {"cards": ["A", "B"]}. Thought: liver. Final answer: {"cards": ["LiTS"]}',
        '<think>maybe {"cards": ["KiTS23"]}</think>{"cards": ["LiTS"]}',
        '["LiTS"]',
        'final answer: ["LiTS"] // done, see http://example.org/[1]',
        '{"name": "answer", "arguments": {"cards": ["LiTS"]}}',
        '<tool_call>{"name": "answer", "arguments": "{\\"cards\\": [\\"LiTS\\"]}"}</tool_call>',
        '{"thought": "the patient\'s liver {sic}", "answer": {"cards": ["LiTS"]}}',
        '{"broken": {"cards": ["LiTS"]}',
        'Sure [see below] {not json} {"cards": ["LiTS"]}',
    ],
)
def test_it_is_found(text: str) -> None:
    assert find_answer(text, Cards) == GOOD


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "{",
        '{"cards": ["LiTS"',
        '{"cards": "LiTS"}',
        '{"cards": [1]}',
        '{"cards": ["A"], "note": 1}',
        "<think>",
    ],
)
def test_what_does_not_fit_is_no_answer(text: str) -> None:
    assert find_answer(text, Cards) is None


@pytest.mark.parametrize("text", ["{" * 100_000, "[" * 100_000, '{"answer":' * 5_000 + "1" + "}" * 5_000])
def test_deep_nesting_is_survived(text: str) -> None:
    assert find_answer(text, Cards) is None


@given(st.text(), st.text())
def test_any_text_around_changes_nothing_or_hides_it_but_never_raises(before: str, after: str) -> None:
    assert find_answer(before + GOOD + after, Cards) in (GOOD, None)
    find_answer(before + after, Cards)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('Final Answer: {"thought": "it\'s the liver", "answer": {"LiTS": [1]}}', '{"LiTS":[1]}'),
        ('**final answer:** ```{"LiTS": [1]}``` (values [1, 2] were close)', '{"LiTS":[1]}'),
        ('Final Answer: {"thought": "nothing fits", "answer": {}}', "{}"),
        ("values [1, 2]", None),
    ],
)
def test_a_mapping_is_found_too(text: str, found: str | None) -> None:
    assert find_answer(text, Chosen) == found
