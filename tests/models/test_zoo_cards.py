from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from medsegagent.cards.library import Library
from medsegagent.models.catalogue import Offer, offers

REPOSITORY = Path(__file__).resolve().parents[2]
FACTS = REPOSITORY.parent / "shared" / "facts" / "weights.json"


@pytest.fixture(scope="module")
def everything() -> Library:
    return Library.load("all")


@pytest.fixture(scope="module")
def models(everything: Library) -> dict[str, Offer]:
    return {offer.entry.id: offer for offer in offers(everything)}


def test_the_zoo_loads_beside_the_benchmark_without_a_clash(everything: Library) -> None:
    assert everything.problems == ()
    assert len(everything) == len(Library.load("benchmark")) + len(Library.load("zoo"))
    assert sum(len(card.models) for card in Library.load("zoo")) >= 90


def test_every_label_of_every_shipped_card_is_bound(everything: Library) -> None:
    unbound = [
        (card, binding.label)
        for card, bindings in everything.bindings.items()
        for binding in bindings
        if not binding.concepts
    ]
    assert unbound == []


def test_no_two_labels_of_a_zoo_card_mean_the_same() -> None:
    for card, bindings in Library.load("zoo").bindings.items():
        meanings = Counter((binding.concepts, binding.lesions) for binding in bindings)
        assert [meaning for meaning, count in meanings.items() if count > 1] == [], card


def test_model_ids_are_unique_and_a_checkpoint_belongs_to_one_card(everything: Library) -> None:
    entries = [offer.entry for offer in offers(everything)]
    assert [name for name, count in Counter(entry.id for entry in entries).items() if count > 1] == []
    cards_of: dict[str, set[str]] = {}
    for offer in offers(everything):
        for part in offer.entry.parts:
            if part.source and part.source.archive:
                cards_of.setdefault(part.source.url, set()).add(offer.card.name)
    assert {url: cards for url, cards in cards_of.items() if len(cards) > 1} == {}


def test_no_archive_comes_over_an_unprotected_line(models: dict[str, Offer]) -> None:
    sources = [part.source for offer in models.values() for part in offer.entry.parts]
    assert [source.url for source in sources if source and not source.url.startswith("https://")] == []


def test_licence_bound_models_are_marked_and_never_fetched(models: dict[str, Offer]) -> None:
    bound = {name for name, offer in models.items() if offer.access == "licence"}
    assert {"totalsegmentator/heartchambers_highres", "totalsegmentator/brain_structures"} <= bound
    assert len(bound) == 16
    assert all(offer.licence != "unknown" for name, offer in models.items() if name in bound)


def test_speeds_and_versions_of_a_task_are_one_voter(models: dict[str, Offer]) -> None:
    def voter(name: str) -> str:
        return models[name].entry.voter

    assert voter("cads/open/553") == voter("cads/reference/553") == voter("cads/research/553")
    assert voter("totalsegmentator/total_v3:fast") == voter("totalsegmentator/total")
    assert voter("totalsegmentator/total_mr") == voter("totalsegmentator/total_mr_56class:fastest")
    assert voter("cads/open/553") != voter("cads/open/554")


def test_the_parts_of_a_task_give_each_label_once(models: dict[str, Offer]) -> None:
    for name in ("totalsegmentator/total", "totalsegmentator/total_mr", "totalsegmentator/headneck_muscles"):
        offer = models[name]
        given = Counter(label for part in offer.entry.parts for label in part.labels or ())
        assert set(given) == set(offer.card.labels)
        assert set(given.values()) == {1}


def test_a_crop_names_a_model_and_labels_that_exist(models: dict[str, Offer]) -> None:
    crops = [offer.entry.crop for offer in models.values() if offer.entry.crop]
    assert len(crops) > 20
    for crop in crops:
        assert set(crop.labels) <= set(models[crop.model].card.labels), crop


@pytest.mark.skipif(not FACTS.exists(), reason="the table of facts is not at hand")
def test_the_cards_are_what_the_script_makes_of_the_facts(tmp_path: Path) -> None:
    for name in ("tools", "docs", "dataset"):
        (tmp_path / name).mkdir()
    for file in (REPOSITORY / "tools").glob("*zoo*"):
        (tmp_path / "tools" / file.name).write_bytes(file.read_bytes())
    command = [sys.executable, str(tmp_path / "tools" / "make_zoo.py"), str(FACTS)]
    subprocess.run(command, check=True, capture_output=True, env={"PYTHONPATH": str(REPOSITORY)})
    made = {path.relative_to(tmp_path): json.loads(path.read_text()) for path in tmp_path.glob("dataset/zoo/*/*.json")}
    shipped = REPOSITORY.glob("dataset/zoo/*/*.json")
    assert made == {path.relative_to(REPOSITORY): json.loads(path.read_text()) for path in shipped}
    page = "docs/models_left_out.md"
    assert (tmp_path / page).read_text() == (REPOSITORY / page).read_text()
