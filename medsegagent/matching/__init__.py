from medsegagent.matching import anatomy, label, modality
from medsegagent.matching.coarse_to_fine import explain, match
from medsegagent.matching.selection import (
    CardSelection,
    Dropped,
    LabelExpression,
    Refusal,
    Selection,
    Stage,
    TargetLabels,
)

__all__ = [
    "CardSelection",
    "Dropped",
    "LabelExpression",
    "Refusal",
    "Selection",
    "Stage",
    "TargetLabels",
    "anatomy",
    "explain",
    "label",
    "match",
    "modality",
]
