"""Properties of any good reader, on generated cases; `benchmarks/matching.py` draws thousands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from families import FAMILIES, World, rate

from medsegagent import Library, match

DRAWS = 120
LEAST = 0.99
CERTAIN = {"refusals"}


@pytest.fixture(scope="module")
def library() -> Library:
    return Library.load("all")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_property_holds(name: str, library: Library) -> None:
    found = rate(FAMILIES[name], World(library, seed=7), DRAWS)
    assert found.share >= (1.0 if name in CERTAIN else LEAST), [text for text, _ in found.failed]


ROWS = [
    line.split(" => ")
    for line in (Path(__file__).parent / "wordings.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize(("text", "meaning"), ROWS, ids=[row[0] for row in ROWS])
def test_a_wording_means_what_its_plain_names_mean(text: str, meaning: str, library: Library) -> None:
    got = match(json.loads(f'"{text}"') if "\\" in text else text, library).labels
    expected: dict[str, set[int]] = {}
    for name in meaning.split("; ") if meaning != "-" else ():
        plain, _, modality = name.partition(" on ")
        for card, values in match(plain, library, modality or None).labels.items():
            expected.setdefault(card, set()).update(values)
    assert got == {card: sorted(values) for card, values in expected.items()}
