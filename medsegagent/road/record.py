"""What a run was asked to do, as it stands in `run.json`: two runs of which it is the same give the same."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medsegagent.agents.llm.mind import Mind
from medsegagent.cards.library import Library
from medsegagent.road.run import Options

_NOT_IN_THE_RESULT = frozenset({"complete", "device", "dry_run", "isolate"})


def what_was_asked(
    instruction: str, *, modality: str | None, options: Options, mind: Mind, library: Library | str | Path
) -> dict[str, Any]:
    """Collect all that decides a run's result besides the images and the models installed, as plain JSON."""
    how = {name: value for name, value in asdict(options).items() if name not in _NOT_IN_THE_RESULT}
    how["refinement"] = options.refinement.record()  # without the key
    asked = {
        "instruction": instruction,
        "modality": modality,
        "library": library_name(library),
        "mind": mind.kind,
        "language_model": mind.endpoint.model if mind.endpoint else None,
        "options": how,
    }
    plain: dict[str, Any] = json.loads(json.dumps(asked))
    return plain


def library_name(library: Library | str | Path) -> str | None:
    """What the user called the cards; a folder in full, None if they were given as an object."""
    if isinstance(library, Library):
        return None
    return str(Path(library).resolve()) if Path(library).is_dir() else str(library)
