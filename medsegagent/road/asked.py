"""What a run was asked to do, as it stands in `run.json`: two runs of which it is the same give the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict

from medsegagent.reporting.record import Asked
from medsegagent.road.options import Options
from medsegagent.road.resources import Resources
from medsegagent.vocabulary import load

_NOT_IN_THE_RESULT = frozenset({"complete", "dry_run", "isolate", "modality"})


def what_was_asked(instruction: str, options: Options, resources: Resources, mind: Mapping[str, object]) -> Asked:
    """Collect all that decides a run's result besides the images and the models installed.

    Args:
        instruction: In the user's words.
        options: How it was done.
        resources: With what.
        mind: Who thought: `kind`, and of a language model `model`.
    """
    how = {name: value for name, value in asdict(options).items() if name not in _NOT_IN_THE_RESULT}
    how["refinement"] = options.refinement.record()  # without the key
    vocabulary = resources.library.vocabulary
    return Asked(
        instruction=instruction,
        modality=options.modality,
        library=resources.library_name,
        vocabulary="" if vocabulary is load() else vocabulary.digest,
        mind=str(mind["kind"]),
        language_model=str(mind["model"]) if mind.get("model") else None,
        options=json.loads(json.dumps(how)),
    )
