"""Write dataset/zoo/ and docs/models_left_out.md from a table of public checkpoints.

A maintainers' script: the table of facts lives outside the repository, the cards it gives are checked in.

    python tools/make_zoo.py FACTS/weights.json
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from medsegagent.cards.card import DatasetCard
from medsegagent.cards.library import Library

REPOSITORY = Path(__file__).resolve().parents[1]
Fact = dict[str, Any]


def main(facts_file: Path) -> None:
    """Write every card and the page of what has none."""
    facts: dict[str, Fact] = {fact["id"]: fact for fact in json.loads(facts_file.read_text())}
    editorial = yaml.safe_load((Path(__file__).parent / "zoo_cards.yaml").read_text())
    zoo = REPOSITORY / "dataset" / "zoo"
    shutil.rmtree(zoo, ignore_errors=True)
    used: set[str] = set()
    for publisher, shelf in editorial["publishers"].items():
        for name, words in shelf["cards"].items():
            models = [ours(facts[model], editorial) for model in words["models"]]
            card = make_card(name, words, models, shelf["website"])
            DatasetCard.model_validate(card)
            file = zoo / publisher / f"{name}.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(compact_json(card))
            used.update(words["models"])
    left_out = {name: why(fact, editorial["left_out"]) for name, fact in facts.items() if name not in used}
    (REPOSITORY / "docs" / "models_left_out.md").write_text(left_out_page(left_out))
    sys.stdout.write(f"{len(used)} models on {len(Library.load('zoo'))} cards, {len(left_out)} left out\n")


def ours(fact: Fact, editorial: dict[str, Any]) -> Fact:
    """The fact with our own note and our wording of the licence."""
    licence = fact["licence"] and editorial["licences"][fact["licence"]]
    return fact | {"licence": licence, "notes": editorial["notes"].get(fact["id"])}


def make_card(name: str, words: dict[str, Any], facts: list[Fact], website: str) -> dict[str, Any]:
    """One card for models that give the same labels."""
    labels = value_to_name(facts[0])
    if any(value_to_name(fact) != labels for fact in facts):
        raise SystemExit(f"{name}: its models have different labels, so they cannot share a card")
    card: dict[str, Any] = {
        "name": name,
        "description": words["description"],
        "body_region": words["region"],
        "channel_names": words.get("channels") or facts[0]["channels"],
        "labels": {"background": 0} | {label: value for value, label in labels.items()},
    }
    if subjects := training_cases(facts[0]):
        card["numTraining"] = subjects
    card["website"] = website
    if "bindings" in words:
        card["bindings"] = words["bindings"]
    voter = words.get("voter") or facts[0]["id"]
    card["models"] = [make_model(fact, words, voter) for fact in facts]
    return card


def make_model(fact: Fact, words: dict[str, Any], voter: str) -> dict[str, Any]:
    """One model entry, with what the facts say about running it."""
    model: dict[str, Any] = {"id": fact["id"], "title": fact["title"], "voter": voter}
    if fact["use_mirroring"] is not None:
        model["use_mirroring"] = fact["use_mirroring"]
    if fact["tile_step_size"] is not None:
        model["tile_step_size"] = fact["tile_step_size"]
    if "RAS" in str((fact["extra"] or {}).get("input_reoriented_to")) or words.get("reorient"):
        model["reorient"] = "RAS"
    if fact["spacing_mm"] and None not in fact["spacing_mm"]:
        model["spacing_mm"] = fact["spacing_mm"]
    if fact["crop"]:
        finder = fact["crop_model"]
        model["crop"] = {
            "model": finder if "/" in finder else f"{fact['id'].split('/')[0]}/{finder}",
            "labels": fact["crop"],
            "margin_mm": max(fact["crop_margin_mm_effective"]),
        }
    if fact["notes"]:
        model["notes"] = fact["notes"]
    model["parts"] = [make_part(part, fact, words) for part in fact["parts"] or [fact]]
    return model


def make_part(part: Fact, fact: Fact, words: dict[str, Any]) -> dict[str, Any]:
    """One trained network, its own label values and where it can be had."""
    made: dict[str, Any] = {"dataset_folder": dataset_folder(part, fact, words)}
    for field in ("trainer", "plans", "configuration", "checkpoint"):
        if fact[field]:
            made[field] = fact[field]
    if fact["folds"]:
        made["folds"] = fact["folds"]
    if part is not fact:
        names = value_to_name(fact)
        made["labels"] = {names[value]: int(local) for local, value in part["local_to_global"].items()}
    source: dict[str, Any] = {"url": part["url"]}
    if part["archive_name"]:
        source["archive"] = part["archive_name"]
    if part["sha256_if_known"]:
        source["sha256"] = part["sha256_if_known"]
    if fact["licence"]:
        source["licence"] = fact["licence"]
    if fact["licence_required"]:
        source["licence_required"] = True
    return made | {"source": source}


def dataset_folder(part: Fact, fact: Fact, words: dict[str, Any]) -> str:
    """The publisher's own folder name, or, where the archive has none or it is not known, one made here."""
    if "folder" in words:
        return str(words["folder"])
    named = part.get("dataset_folder") or (fact["extra"] or {}).get("dataset_folder")
    archive = (part["archive_name"] or "").removesuffix(".zip")
    if not named and re.fullmatch(r"Dataset\d{3}_[\w.-]+", archive):
        named = archive
    return named or f"Dataset{part['nnunet_dataset_id']:03d}_{fact['id'].split('/')[-1]}"


def value_to_name(fact: Fact) -> dict[int, str]:
    """Foreground voxel value -> the publisher's label name."""
    return {int(value): name for value, name in fact["labels"].items() if int(value) > 0}


def training_cases(fact: Fact) -> int | None:
    """TotalSegmentator writes the number into the archive's name; parts that differ have no one number."""
    names = [str(part["archive_name"]) for part in fact["parts"] or [fact]]
    counts = {int(found[1]) for name in names if (found := re.search(r"_(\d+)subj", name))}
    return counts.pop() if len(counts) == 1 else None


def why(fact: Fact, reasons: dict[str, str]) -> str:
    """Why a checkpoint has no zoo card."""
    for card in Library.load("benchmark"):
        if any(model.id == fact["id"] for model in card.models):
            return f"is on the benchmark card {card.name}"
    if fact["id"] in reasons:
        return reasons[fact["id"]]
    if fact["runs_with_plain_nnunetv2"] is False:
        return "needs code beyond nnunetv2"
    if not fact["labels"]:
        return "its label map is not known"
    if fact["runs_with_plain_nnunetv2"] is None:
        return "not confirmed to load with nnunetv2 alone"
    return "not open"


def left_out_page(left_out: dict[str, str]) -> str:
    """The page as Markdown."""
    lines = [
        "# Public checkpoints without a card in the zoo",
        "",
        "Written by `tools/make_zoo.py`. A checkpoint gets a card when it is open or given against a licence number,",
        "its label map is known and consistent, it is of people, and it loads with nnunetv2 alone.",
        "",
        "| checkpoint | why it has none |",
        "| --- | --- |",
    ]
    return "\n".join([*lines, *(f"| {name} | {reason} |" for name, reason in sorted(left_out.items()))]) + "\n"


def compact_json(value: dict[str, Any]) -> str:
    """Two spaces of indentation, lists of numbers on one line."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return re.sub(r"\[\s+([-\d.,\s]+?)\s+\]", lambda m: "[" + ", ".join(re.split(r",\s*", m[1])) + "]", text) + "\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
