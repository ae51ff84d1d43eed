from medsegagent.matching import anatomy, label, modality
from medsegagent.matching.coarse_to_fine import match, match_with_reasons, why_nothing
from medsegagent.matching.selection import (
    CardSelection,
    Dropped,
    LabelExpression,
    Selection,
    Stage,
    TargetLabels,
)

__all__ = [
    "CardSelection",
    "Dropped",
    "LabelExpression",
    "Selection",
    "Stage",
    "TargetLabels",
    "anatomy",
    "label",
    "match",
    "match_with_reasons",
    "modality",
    "why_nothing",
]
