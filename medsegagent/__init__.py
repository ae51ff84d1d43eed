"""Text in, masks out: a team of agents that picks, runs and fuses nnU-Net v2 models.

Research software, not a medical device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsegagent.cards.library import Library
from medsegagent.errors import MedSegAgentError
from medsegagent.matching.selection import Selection

if TYPE_CHECKING:
    from medsegagent.road.run import Options
    from medsegagent.road.segmenter import RunResult, segment

__all__ = ["Library", "MedSegAgentError", "Options", "RunResult", "Selection", "match", "segment"]


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
    from medsegagent import matching, vocabulary
    from medsegagent.language import parse, with_modality

    request = parse(instruction, vocabulary.load())
    if modality is not None:
        request = with_modality(request, modality)
    return matching.match(request, library if library is not None else Library.load("all"))


def __getattr__(name: str) -> object:
    # `segment` needs AutoGen and torch; `match` must not pay for them.
    if name in ("RunResult", "segment"):
        from medsegagent.road import segmenter as run

        return getattr(run, name)
    if name == "Options":
        from medsegagent.road.run import Options

        return Options
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
