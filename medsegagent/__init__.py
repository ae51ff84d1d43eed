"""Text in, masks out: picks, runs and fuses the medical segmentation models that answer a request in plain words.

Research software, not a medical device.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from medsegagent.cards.library import Library as Library
    from medsegagent.errors import MedSegAgentError as MedSegAgentError
    from medsegagent.images.in_memory import volume_of as volume_of
    from medsegagent.images.volume import Grid as Grid
    from medsegagent.images.volume import Volume as Volume
    from medsegagent.matching.selection import Selection as Selection
    from medsegagent.road.case import Case as Case
    from medsegagent.road.case import Images
    from medsegagent.road.events import Event as Event
    from medsegagent.road.events import Listener
    from medsegagent.road.events import Progress as Progress
    from medsegagent.road.events import Said as Said
    from medsegagent.road.events import Warning as Warning
    from medsegagent.road.mind import Mind
    from medsegagent.road.options import Options as Options
    from medsegagent.road.result import Mask as Mask
    from medsegagent.road.result import Result as Result
    from medsegagent.road.segmenter import Segmenter as Segmenter

# Nothing is configured here: who uses the package decides what of its logging is seen.
logging.getLogger(__name__).addHandler(logging.NullHandler())

_HOMES = {
    "Case": "road.case",
    "Event": "road.events",
    "Grid": "images.volume",
    "Library": "cards.library",
    "Mask": "road.result",
    "MedSegAgentError": "errors",
    "Options": "road.options",
    "Progress": "road.events",
    "Result": "road.result",
    "Said": "road.events",
    "Segmenter": "road.segmenter",
    "Selection": "matching.selection",
    "Volume": "images.volume",
    "Warning": "road.events",
    "volume_of": "images.in_memory",
}
"""Public name -> where it is; imported when it is first used, so that importing the package costs nothing."""

__all__ = [*_HOMES, "match", "segment"]


def match(instruction: str, library: Library | None = None, modality: str | None = None) -> Selection:
    """Choose the cards and labels that answer an instruction: no network, no model, milliseconds.

    Args:
        instruction: What to segment, in plain words, at most 20,000 characters.
        library: Cards to choose from; default all that ship with the package.
        modality: "CT", "MR T1", "PET/CT", ...; overrides what the instruction says.

    Returns:
        The selection; empty, with a `refusal`, if nothing answers.

    Raises:
        UsageError: If the instruction is empty or too long, or the modality is unknown.
    """
    from medsegagent.cards.library import Library
    from medsegagent.matching.instruction import match_instruction

    return match_instruction(instruction, Library.load("all") if library is None else library, modality)


def segment(
    instruction: str,
    image: Images,
    out: Path | str | None = None,
    options: Options | None = None,
    *,
    library: Library | str | Path = "all",
    models_dir: Path | str | None = None,
    device: str = "auto",
    mind: Mind | None = None,
    overwrite: bool = False,
    on_event: Listener | None = None,
) -> Result:
    """Segment one case as the instruction asks; for several, keep a `Segmenter`.

    Args:
        instruction: What to segment, in plain words, at most 20,000 characters.
        image: A file, a DICOM folder, a SimpleITK or nibabel image, a volume (`volume_of`), or channel name -> one of
            these (`{"T1": ..., "FLAIR": ...}`).
        out: The run folder to write; None: nothing is written, see `Result.save`.
        options: How; default `Options()`.
        library: Cards to choose from: "benchmark", "zoo", "all", a folder of cards, or a `Library`.
        models_dir: nnU-Net results folder; default the environment variable `nnUNet_results` and the model store.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        mind: Who thinks; default the rules.
        overwrite: Replace an earlier run in `out`.
        on_event: Told what is said, each tile, and warnings, as they happen.

    Raises:
        MedSegAgentError: One of its family; `exit_code` says which kind. Nothing is left in `out` then.
    """
    from medsegagent.road.options import Options
    from medsegagent.road.segmenter import Segmenter

    segmenter = Segmenter(library, models_dir=models_dir, device=device, mind=mind, keep_bytes=0)
    return segmenter.segment(
        instruction, image, out, Options() if options is None else options, overwrite=overwrite, on_event=on_event
    )


def __getattr__(name: str) -> object:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(f"medsegagent.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
