"""What a model's own files say against what its card says."""

from __future__ import annotations

from pathlib import Path

from medsegagent.cards.card import DatasetCard, NnunetEntry, NnunetPart
from medsegagent.models.folder import TrainedFolder, match_names, read_json

_SPACING_TOLERANCE = 0.01


def differences(
    card: DatasetCard, entry: NnunetEntry, part: NnunetPart, trained: TrainedFolder, folder: Path
) -> tuple[str, ...]:
    """Where card and model disagree: labels, channels, grid, plans. Empty if nowhere.

    Values that the card leaves out on purpose (helper classes) are no disagreement.

    Raises:
        ModelError: If plans.json cannot be read.
    """
    told = [*_labels(part.labels or card.labels, trained), *_channels(card, entry, trained)]
    if entry.spacing_mm and trained.spacing_mm:
        # Paired by size: a card may give the grid in the order after reorientation.
        pairs = zip(sorted(entry.spacing_mm), sorted(trained.spacing_mm), strict=True)
        if any(abs(stated - own) > _SPACING_TOLERANCE * stated for stated, own in pairs):
            told.append(
                f"its grid is {_millimetres(trained.spacing_mm)}, the card says {_millimetres(entry.spacing_mm)}"
            )
    plans = str(read_json(folder / "plans.json").get("plans_name", part.plans))
    if plans != part.plans:
        told.append(f"its plans are {plans}, the card says {part.plans}")
    return tuple(told)


def _labels(stated: dict[str, tuple[int, ...]], trained: TrainedFolder) -> list[str]:
    name_of = {values: name for name, values in trained.labels.items()}
    own_of = match_names(stated, trained.labels)
    gives = {value for values in trained.labels.values() for value in values}
    told = []
    for name, values in stated.items():
        if not set(values) <= gives:
            told.append(f"it has no value {_listed(values)}, which the card calls {name}")
        elif name in own_of and trained.labels[own_of[name]] != values:
            told.append(f"it gives {name} as {_listed(trained.labels[own_of[name]])}, the card says {_listed(values)}")
        elif name not in own_of and values in name_of:
            told.append(f"it calls {_listed(values)} {name_of[values]}, the card {name}")
    return told


def _channels(card: DatasetCard, entry: NnunetEntry, trained: TrainedFolder) -> list[str]:
    stated = entry.channels or tuple(card.channel_names)
    if len(stated) != len(trained.channels):
        return [
            f"it takes {len(trained.channels)} channels ({', '.join(trained.channels)}), the card says {len(stated)}"
        ]
    return []


def _listed(values: tuple[int, ...]) -> str:
    return str(values[0]) if len(values) == 1 else str(list(values))


def _millimetres(spacing: tuple[float, float, float]) -> str:
    return " x ".join(f"{edge:.3g}" for edge in spacing) + " mm"
