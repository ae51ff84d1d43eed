"""A card from what a trained model says of itself."""

from __future__ import annotations

import json
import re
from pathlib import Path

from medsegagent.cards.binding import bind
from medsegagent.cards.card import DatasetCard, NnunetEntry, NnunetPart
from medsegagent.cards.library import load_card
from medsegagent.errors import CardError
from medsegagent.vocabulary import Vocabulary

_MANY_REGIONS = 3


def card_from(source: Path, vocabulary: Vocabulary, name: str | None = None) -> DatasetCard:
    """Make a card from a trained model or an existing description.

    Args:
        source: A folder `DatasetNNN_NAME` or `.../TRAINER__PLANS__CONFIGURATION` in nnU-Net's results layout, a
            dataset.json, or an older-style card.
        vocabulary: What the labels are bound with.
        name: The card's name; default the dataset's, without its number.

    Returns:
        A valid card. A model whose folder is not named after the card is named in it.

    Raises:
        CardError: If there is nothing to make a card from.
    """
    file = _description(source)
    card = load_card(file)
    folder = _dataset_folder(file)
    own = name or (re.sub(r"^Dataset\d{3}_", "", folder.name) if folder else card.name)
    changes: dict[str, object] = {"name": own}
    if folder and folder.name[len("DatasetNNN_") :] != own:
        changes["models"] = tuple(_entries(folder, own))
    if not card.body_region:
        changes["body_region"] = _region(card, vocabulary)
    return DatasetCard.model_validate(card.model_dump(by_alias=True) | changes)


def write_card(card: DatasetCard, folder: Path) -> Path:
    """Write `folder/NAME.json`, without the fields that say nothing.

    Raises:
        CardError: If there is one already, or the folder cannot be written.
    """
    file = folder / f"{card.name}.json"
    fields = card.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as stream:
            stream.write(json.dumps(fields, indent=2, ensure_ascii=False) + "\n")
    except FileExistsError as error:
        raise CardError("there is a card of this name already", "Remove it, or choose --name.", str(file)) from error
    except OSError as error:
        raise CardError(f"cannot be written ({error.strerror})", "Choose another folder with -o.", str(file)) from error
    return file


def _description(source: Path) -> Path:
    """The JSON file that describes `source`."""
    if source.is_file():
        return source
    found = sorted((*source.glob("dataset.json"), *source.glob("*__*__*/dataset.json")))
    if not found:
        remedy = "Give a model folder (DatasetNNN_NAME), a dataset.json, or a card."
        raise CardError("holds no dataset.json", remedy, str(source))
    return found[0]


def _dataset_folder(file: Path) -> Path | None:
    """The `DatasetNNN_NAME` that a dataset.json lies in."""
    if file.name != "dataset.json":
        return None
    return next((p for p in file.absolute().parents[:2] if re.match(r"Dataset\d{3}_", p.name)), None)


def _entries(folder: Path, name: str) -> list[NnunetEntry]:
    entries = []
    for trained in sorted(folder.glob("*__*__*")):
        trainer, plans, configuration = trained.name.split("__")
        part = NnunetPart(dataset_folder=folder.name, trainer=trainer, plans=plans, configuration=configuration)
        entries.append(NnunetEntry(id=f"{name}/{trained.name}", parts=(part,), voter=name))
    return entries


def _region(card: DatasetCard, vocabulary: Vocabulary) -> str:
    """Where the labels are: one or two regions by name, more are the whole body."""
    regions = {vocabulary.concept(item.id).region for binding in bind(card, vocabulary) for item in binding.concepts}
    regions -= {"none"}
    return "whole body" if len(regions) >= _MANY_REGIONS else ", ".join(sorted(regions)).replace("_", " ")
