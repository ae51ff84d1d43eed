"""Instructions with two readings carry a question; those that context decides do not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsegagent import match
from medsegagent.language import parse
from medsegagent.vocabulary import load

VOCABULARY = load()
WORDS = (
    "PV",
    "RA",
    "CCA",
    "or",
    "and",
    "liver",
    "ilum",
    "left",
    "right",
    ",",
    "CT",
    "ileum",
    "without",
    "spleen",
    "[x",
)
OWN_BENCH = Path(__file__).parents[2] / "model_selection_test_case.jsonl"


def readings(instruction: str) -> tuple[str, ...]:
    question = parse(instruction, VOCABULARY).question
    return question.readings if question else ()


class TestWhatIsAsked:
    @pytest.mark.parametrize(
        ("instruction", "expected"),
        [
            ("segment PV in CT", ("segment portal vein in CT", "segment pulmonary vein in CT")),
            ("对比增强CT上的PV", ("对比增强CT上的 portal vein", "对比增强CT上的 pulmonary vein")),
            ("RA on MRI", ("right heart atrium on MRI", "renal artery on MRI")),
            ("ilum, CT", ("ilium, CT", "ileum, CT")),
            ("left ileum on CT", ("ileum on CT", "left ilium on CT")),
            ("left or right kidney, CT", ("left and right kidney, CT", "left kidney, CT", "right kidney, CT")),
            ("spleen or liver, CT", ("spleen and liver, CT", "spleen, CT", "liver, CT")),
            (
                "liver without the tumour and the spleen",
                ("liver without the tumour and without the spleen", "liver without the tumour; also the spleen"),
            ),
        ],
    )
    def test_two_readings_make_a_question(self, instruction: str, expected: tuple[str, ...]) -> None:
        assert readings(instruction) == expected

    def test_doubts_within_a_choice_are_all_offered(self) -> None:
        found = readings("RA or IMA")
        assert len(found) == 8
        assert {"right heart atrium", "renal artery and internal mammary artery"} <= set(found)

    def test_a_term_said_twice_means_the_same_both_times(self) -> None:
        assert len(readings("the PV, then measure the PV again")) == 2

    def test_the_likeliest_reading_is_answered_meanwhile(self) -> None:
        assert match("PV in CT").labels == match("portal vein in CT").labels != {}

    @pytest.mark.parametrize(
        "instruction",
        [
            "PV in CT", "PV and CCA, CT", "RA or IMA", "left or right ileum", "ilum or liver or PV",
            "kidneys without the cysts and the spleen", "AA, GM and SV",
        ],
    )  # fmt: skip
    def test_each_reading_is_clear_and_gives_something_else(self, instruction: str) -> None:
        found = [parse(reading, VOCABULARY) for reading in readings(instruction)]
        assert len(found) > 1
        assert all(request.question is None and request.refusal is None for request in found)
        results = [(frozenset(r.targets), frozenset(r.exclusions)) for r in found]
        assert len({str(sorted(map(str, (t.id for t in r[0])))) + str(sorted(t.id for t in r[1])) for r in results}) > 1

    @settings(max_examples=60)
    @given(st.lists(st.sampled_from(WORDS)))
    def test_a_reading_never_needs_another_question(self, words: list[str]) -> None:
        for reading in readings(" ".join(words) or "liver"):
            request = parse(reading, VOCABULARY)
            assert request.question is None
            assert request.targets


class TestWhatIsNotAsked:
    @pytest.mark.parametrize(
        "instruction",
        [
            "PV and spleen, CT",  # the company decides
            "PV on chest CT",  # the region does
            "RA and LA, cine MRI",  # the sequence does
            "renal artery (RA), CT",
            "liver in CT or MRI",
            "prostate or uterus, CT",  # no patient has both
            "any cyst or tumour of the kidney",
            "every rib or vertebra",
            "breastbone or sternum",  # two names of one bone
            "abdominal organs except the liver and the spleen",
            "kidneys without cysts and tumours",
            "liver without tumour or spleen",
            "left lung, CT",
            "Who was the PV of Frobnia?",
        ],
    )
    def test_what_context_decides(self, instruction: str) -> None:
        assert readings(instruction) == ()

    def test_no_row_of_the_own_bench(self) -> None:
        rows = [json.loads(line)["query"] for line in OWN_BENCH.read_text(encoding="utf-8").splitlines()]
        assert [query for query in rows if readings(query)] == []
