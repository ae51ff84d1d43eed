"""One case, ready for a team: images read, models found, the images' own evidence put beside the words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medsegagent.cards.library import Library
from medsegagent.engines.cache import WarmNetworks
from medsegagent.engines.nnunet.runner import Progress
from medsegagent.export.formats import check_formats
from medsegagent.fusion.rules import rule_named
from medsegagent.images.read import read_volumes
from medsegagent.images.volume import Volume
from medsegagent.models.store import Store, find_installed
from medsegagent.road.messages import Task
from medsegagent.road.run import Options, Workspace
from medsegagent.vocabulary import load as load_vocabulary

SURE = 0.9
"""Confidence from which an image's own modality overrules a contradicting instruction."""


def open_case(
    images: Path | str | Mapping[str, Path | str],
    folder: Path | str,
    *,
    library: Library | str | Path = "all",
    models_dir: Path | str | None = None,
    options: Options | None = None,
    progress: Progress | None = None,
    family: str | None = None,
    networks: WarmNetworks | None = None,
) -> Workspace:
    """Read the images and find the models.

    Args:
        images: One image file, or channel name -> file (`{"T1": ..., "FLAIR": ...}`).
        folder: An existing folder that the team writes masks, figures and pictures into.
        library: Cards to choose from, see `Library.load`.
        models_dir: nnU-Net results folder; default the environment variable `nnUNet_results` and the model store.
        options: How to run.
        progress: Told of each tile.
        networks: Networks kept from case to case.
        family: CT, MR or PET, where the instruction names one; settles which series of a DICOM study is meant.

    Raises:
        UsageError: If the options name a fusion rule or a model that does not exist.
        SeriesNeededError: If several series could be meant.
        ImageError: If an image cannot be used, or not for the formats asked for.
        CardError: If the library cannot be loaded.
    """
    options = options or Options()
    named = images if isinstance(images, Mapping) else {"": images}
    paths = {name: Path(path) for name, path in named.items()}
    cards, store = find_models(library, models_dir, options)
    check_formats(options.formats, next(iter(paths.values()), None))
    volumes = read_volumes(paths, series=options.series, family=family)
    return Workspace(
        library=cards,
        vocabulary=load_vocabulary(),
        store=store,
        volumes=volumes,
        options=options,
        folder=Path(folder),
        progress=progress,
        networks=networks,
        lacking=() if models_dir else None,  # what is installed by command does not lie there
    )


def _known_models(library: Library, store: Store) -> set[tuple[str, str]]:
    """Id and card of all models there are, installed or not."""
    public = {(entry.id, card.name) for card in library.cards.values() for entry in card.models}
    return public | {(model.id, model.card) for model in store.models}


def find_models(
    library: Library | str | Path, models_dir: Path | str | None, options: Options
) -> tuple[Library, Store]:
    """Load the cards and find their models, and see that the options name only what there is.

    Raises:
        UsageError: If they name a fusion rule or a model that does not exist.
        CardError: If the library cannot be loaded.
    """
    rule_named(options.fusion)
    cards = library if isinstance(library, Library) else Library.load(library)
    store = find_installed(cards, Path(models_dir) if models_dir else None)
    options.choice.check(_known_models(cards, store))
    return cards, store


def task_for(instruction: str, volumes: tuple[Volume, ...], modality: str | None = None) -> Task:
    """Put the images' own evidence beside the instruction; several images together are one study."""
    evidence = [volume.evidence for volume in volumes]
    families = [item.family for item in evidence]
    if not volumes or None in families:
        return Task(instruction=instruction, modality=modality)
    distinct = sorted({family for family in families if family}, key=lambda family: family != "PET")
    return Task(
        instruction=instruction,
        modality=modality,
        image_modality="/".join(distinct),
        image_reason="; ".join(dict.fromkeys(item.reason for item in evidence)),
        image_is_sure=min(item.confidence for item in evidence) >= SURE,
    )
