from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from medsegagent.cards.library import Library
from medsegagent.evaluation.bench import Bench, read_bench

KINDS = {
    "upstream", "synonym", "abbreviation", "noisy", "modality", "laterality", "multi", "pathology", "language",
    "implicit", "no_modality", "negative",
}  # fmt: skip


@pytest.fixture(scope="module")
def bench() -> Bench:
    return read_bench(Path(__file__).parents[2] / "model_selection_test_case.jsonl")


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load("benchmark")


def test_it_is_large_and_has_every_kind(bench: Bench) -> None:
    counts = Counter(row.kind for row in bench.rows)
    assert len(bench.rows) >= 640
    assert counts.keys() == KINDS
    assert counts["negative"] >= 100
    assert min(counts.values()) >= 40


def test_only_negatives_expect_nothing(bench: Bench) -> None:
    assert [row.id for row in bench.rows if (row.kind == "negative") != (not row.expected)] == []


def test_no_query_occurs_twice_and_few_share_one_wording(bench: Bench) -> None:
    queries = [row.query.casefold() for row in bench.rows]
    assert len(set(queries)) == len(queries)
    assert sum(query.startswith("please help me segment") for query in queries) <= 60


def test_every_expectation_is_in_the_library(bench: Bench, library: Library) -> None:
    for row in bench.rows:
        for card, values in row.expected.items():
            known = {value for label in library.cards[card].labels.values() for value in label}
            assert values <= known, row.id


def test_every_label_of_every_card_is_expected_somewhere(bench: Bench, library: Library) -> None:
    expected = [(card, values) for row in bench.rows for card, values in row.expected.items()]
    for card in library:
        for name, label in card.labels.items():
            assert any(card.name == other and set(label) <= values for other, values in expected), (card.name, name)


@pytest.mark.parametrize("language", ["German", "French", "Spanish", "Chinese", "Japanese"])
def test_every_language_has_enough_queries(bench: Bench, language: str) -> None:
    assert sum(row.why.startswith(language) for row in bench.rows if row.kind == "language") >= 15


def test_negatives_include_attempts_to_dictate_the_answer_with_medical_words_in_them(bench: Bench) -> None:
    attempts = [row for row in bench.rows if re.search(r"inject|dictate|change the instructions", row.why)]
    assert len(attempts) >= 10
    assert any("liver" in row.query.casefold() for row in attempts)
