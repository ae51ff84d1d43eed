"""Which trained nnU-Nets lie in nnU-Net's results folders, and what they give in their cards' words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from medsegagent.cards.card import DatasetCard, NnunetEntry, NnunetPart
from medsegagent.cards.library import Library
from medsegagent.engines.base import Found
from medsegagent.errors import ModelError
from medsegagent.models.folder import TrainedFolder, installed_folds, match_names, read_trained_folder
from medsegagent.models.installed import NnunetFolder, NnunetModel
from medsegagent.models.store import Problem
from medsegagent.wording import some

_FINAL, _BEST = "checkpoint_final.pth", "checkpoint_best.pth"


def find_nnunets(library: Library, roots: Sequence[Path], own: Mapping[str, Path]) -> Found:
    """Find the installed nnU-Nets of a library's cards.

    A card's models are its entries (exact folders), and every `DatasetNNN_<card name>` that no entry claims.

    Args:
        library: The cards in use.
        roots: Folders in nnU-Net's results layout; where two hold the same folder, the first counts.
        own: Model id -> a results folder that is looked into for that model alone, and first.
    """
    search = _Search(library, roots, own)
    models = [model for card in library for model in search.models_of(card)]
    used = {part.folder for model in models for part in model.parts}
    broken = {problem.folder for problem in search.problems}
    rest = tuple(
        folder
        for root in roots
        for folder in _trained_folders(root)
        if folder not in used | broken and installed_folds(folder, _FINAL) + installed_folds(folder, _BEST)
    )
    return Found(tuple(models), rest, tuple(search.problems))


class _Search:
    """One pass over the results roots; collects problems on the way."""

    def __init__(self, library: Library, roots: Sequence[Path], own: Mapping[str, Path]) -> None:
        self.problems: list[Problem] = []
        self._roots = roots
        self._own = own
        self._claimed = {part.folder for card in library for entry in _entries(card) for part in entry.parts}

    def models_of(self, card: DatasetCard) -> Iterator[NnunetModel]:
        for entry in _entries(card):
            if model := self._entry(card, entry):
                yield model
        for root in self._roots:
            for folder in _trained_folders(root):
                if re.sub(r"^Dataset\d{3}_", "", folder.parent.name) != card.name:
                    continue
                if f"{folder.parent.name}/{folder.name}" in self._claimed:
                    continue
                if model := self._unlisted(card, folder):
                    yield model

    def _entry(self, card: DatasetCard, entry: NnunetEntry) -> NnunetModel | None:
        found = [item for part in entry.parts if (item := self._entry_part(card, entry, part))]
        if not found:
            return None
        parts, folders = zip(*found, strict=True)
        return NnunetModel(
            id=entry.id,
            card=card.name,
            parts=parts,
            channels=entry.channels or tuple(card.channel_names),
            voter=entry.voter or entry.id,
            use_mirroring=entry.use_mirroring,
            tile_step_size=entry.tile_step_size,
            reorient=entry.reorient,
            spacing_mm=entry.spacing_mm or folders[0].spacing_mm,
            num_training=card.num_training,
            crop=entry.crop,
        )

    def _entry_part(
        self, card: DatasetCard, entry: NnunetEntry, part: NnunetPart
    ) -> tuple[NnunetFolder, TrainedFolder] | None:
        roots = [*([self._own[entry.id]] if entry.id in self._own else []), *self._roots]
        folder = next((root / part.folder for root in roots if os.path.isdir(root / part.folder)), None)
        if folder is None:
            return None
        trained = self._read(card, folder)
        if trained is None:
            return None
        folds = installed_folds(folder, part.checkpoint)
        wanted = part.folds or folds
        if missing := [fold for fold in wanted if fold not in folds]:
            self._report(card, folder, f"fold {', '.join(map(str, missing))} is not installed")
        if not (usable := tuple(fold for fold in wanted if fold in folds)):
            if not part.folds:
                self._report(card, folder, f"no fold holds {part.checkpoint}")
            return None
        channels = entry.channels or tuple(card.channel_names)
        if len(channels) != len(trained.channels):
            self._report(card, folder, f"takes {len(trained.channels)} channels, its card says {len(channels)}")
            return None
        labels = self._checked_labels(card, folder, part.labels or card.labels, trained)
        return NnunetFolder(folder=folder, folds=usable, checkpoint=part.checkpoint, labels=labels), trained

    def _checked_labels(
        self, card: DatasetCard, folder: Path, stated: Mapping[str, tuple[int, ...]], trained: TrainedFolder
    ) -> dict[str, tuple[int, ...]]:
        """The entry's map, without values that the network cannot give; tells what differs from dataset.json."""
        gives = {value for values in trained.labels.values() for value in values}
        kept = {name: values for name, values in stated.items() if set(values) <= gives}
        if lost := sorted(stated.keys() - kept.keys()):
            self._report(card, folder, f"its dataset.json has no values for {some(lost)}")
        names = match_names(kept, trained.labels)
        other = sorted(name for name, own in names.items() if set(kept[name]) != set(trained.labels[own]))
        if other:
            self._report(card, folder, f"its dataset.json gives other values for {some(other)}; the card's are used")
        return kept

    def _unlisted(self, card: DatasetCard, folder: Path) -> NnunetModel | None:
        """A model that no entry describes: labels and channels come from its own dataset.json, by name."""
        checkpoint = _FINAL if installed_folds(folder, _FINAL) else _BEST
        if not (folds := installed_folds(folder, checkpoint)):
            self._report(card, folder, f"no fold holds {_FINAL}")
            return None
        if (trained := self._read(card, folder)) is None:
            return None
        names = match_names(card.labels, trained.labels)
        if not names:
            self._report(card, folder, f"none of its labels ({some(sorted(trained.labels))}) is one of the card's")
            return None
        if len(trained.channels) != len(card.channel_names):
            what = f"takes {len(trained.channels)} channels, the card has {len(card.channel_names)}"
            self._report(card, folder, what)
            return None
        by_name = match_names(dict.fromkeys(trained.channels), {name: key for key, name in card.channel_names.items()})
        key_of = {name: key for key, name in card.channel_names.items()}
        ordered = len(by_name) == len(trained.channels) == len(set(by_name.values()))
        labels = {name: trained.labels[own] for name, own in names.items()}
        return NnunetModel(
            id=f"{folder.parent.name}/{folder.name.removeprefix('nnUNetTrainer__nnUNetPlans__')}",
            card=card.name,
            parts=(NnunetFolder(folder=folder, folds=folds, checkpoint=checkpoint, labels=labels),),
            channels=tuple(key_of[by_name[n]] for n in trained.channels) if ordered else tuple(card.channel_names),
            voter=folder.parent.name,
            spacing_mm=trained.spacing_mm,
            num_training=card.num_training,
        )

    def _read(self, card: DatasetCard, folder: Path) -> TrainedFolder | None:
        try:
            return read_trained_folder(folder)
        except ModelError as error:
            self._report(card, folder, error.what)
            return None

    def _report(self, card: DatasetCard, folder: Path, reason: str) -> None:
        self.problems.append(Problem(card.name, folder, reason))


def _entries(card: DatasetCard) -> list[NnunetEntry]:
    return [entry for entry in card.models if isinstance(entry, NnunetEntry)]


def _trained_folders(root: Path) -> list[Path]:
    """Every `DatasetNNN_NAME/TRAINER__PLANS__CONFIGURATION` below a root, sorted; not one that may not be looked at."""
    return sorted(
        folder
        for folder in root.glob("Dataset[0-9][0-9][0-9]_*/*__*__*")
        if os.path.isdir(folder) and folder.name.count("__") == 2
    )
