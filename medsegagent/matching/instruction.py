"""From words to a selection in one call."""

from __future__ import annotations

from medsegagent.cards.library import Library
from medsegagent.language import parse, with_modality
from medsegagent.matching.coarse_to_fine import match
from medsegagent.matching.selection import Selection


def match_instruction(instruction: str, library: Library, modality: str | None = None) -> Selection:
    """Choose the cards and labels that answer an instruction.

    Args:
        instruction: What to segment, in plain words, at most 20,000 characters.
        library: Cards to choose from.
        modality: "CT", "MR T1", "PET/CT", ...; overrides what the instruction says.

    Returns:
        The selection; empty, with a `refusal`, if nothing answers.

    Raises:
        UsageError: If the instruction is empty or too long, or the modality is unknown.
    """
    request = parse(instruction, library.vocabulary)
    if modality is not None:
        request = with_modality(request, modality, library.vocabulary)
    return match(request, library)
