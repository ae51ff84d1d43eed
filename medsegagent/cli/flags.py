"""What Python's parameters are called on the command line."""

from __future__ import annotations

from medsegagent.errors import MedSegAgentError

FLAGS = {
    "archive": "--from",
    "cases": "--cases",
    "device": "--device",
    "dry_run": "--dry-run",
    "exclude": "--exclude",
    "folds": "--folds",
    "formats": "--format",
    "fusion": "--fusion",
    "image": "-i",
    "mapping": "--map",
    "mind": "--mind",
    "modality": "--modality",
    "model": "--model",
    "only": "--only",
    "out": "-o",
    "pattern": "--pattern",
    "prefer": "--prefer",
    "tile_step": "--step-size",
    "tolerance_mm": "--tolerance",
    "weights": "--weight",
}


def with_flag(error: MedSegAgentError) -> MedSegAgentError:
    """The error with the flag where it names a parameter."""
    name, blank, value = error.where.partition(" ")
    if name in FLAGS and (not value or " " not in value):
        error.where = f"{FLAGS[name]}{blank}{value}"
    return error
