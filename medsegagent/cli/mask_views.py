"""How a comparison of masks looks in a terminal."""

from __future__ import annotations

import math

from medsegagent.cli import screen
from medsegagent.evaluation.mask_cases import Evaluation, means
from medsegagent.evaluation.masks import Score

_MOST_ROWS = 60


def show_scores(evaluation: Evaluation) -> None:
    """Show every score (the worst ones, if there are many) and the mean per target."""
    scores = sorted(evaluation.scores, key=lambda item: (item.case, item.target))
    if len(scores) > _MOST_ROWS:
        scores = sorted(scores, key=lambda item: (math.isnan(item.dice), item.dice))[:_MOST_ROWS]
        screen.warn(f"the {_MOST_ROWS} worst of {len(evaluation.scores)} are shown; -o writes all")
    columns = ("case", "target", "Dice", f"NSD {evaluation.tolerance_mm:g} mm", "HD95 mm", "mL", "reference mL", "%")
    rows = [_row(item) for item in scores]
    if len(evaluation.cases) > 1:
        rows += [_row(item) for item in means(evaluation.scores)]
        screen.table(columns, rows)
    else:
        screen.table(columns[1:], [row[1:] for row in rows])
    for warning in evaluation.warnings:
        screen.warn(warning)


def _row(item: Score) -> tuple[str, ...]:
    return (
        item.case,
        item.target,
        _number(item.dice, ".3f"),
        _number(item.nsd, ".3f"),
        _number(item.hd95_mm, ".1f"),
        _number(item.volume_ml, ".1f"),
        _number(item.reference_ml, ".1f"),
        _number(item.difference_percent, "+.1f"),
    )


def _number(value: float, form: str) -> str:
    return format(value, form) if math.isfinite(value) else "-"
