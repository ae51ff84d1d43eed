"""A card's labels in a model's own values."""

from __future__ import annotations

from medsegagent.matching.selection import LabelExpression, TargetLabels
from medsegagent.models.installed import InstalledModel
from medsegagent.planning.plan import PartValues, PlannedTarget


def planned_target(model: InstalledModel, labels: TargetLabels) -> PlannedTarget | None:
    """A target in the model's own values; None if the model cannot give it whole."""
    whole = part_values(model, labels.whole)
    if not whole:
        return None
    left = part_values(model, labels.left) if labels.left else ()
    right = part_values(model, labels.right) if labels.right else ()
    if not (left and right):
        left = right = ()
    return PlannedTarget(target=labels.target, whole=whole, left=left, right=right)


def part_values(model: InstalledModel, expression: LabelExpression) -> tuple[PartValues, ...]:
    """The expression in the model's own values, per part; empty if the model cannot give it whole.

    A difference is taken inside one part: different networks' label maps cannot be told apart by value.
    """
    wanted = (*expression.plus, *expression.also)
    if not all(any(name in part.labels for part in model.parts) for name in wanted):
        return ()
    result = []
    for index, part in enumerate(model.parts):
        plus, minus, also = (
            {value for name in names for value in part.labels.get(name, ())}
            for names in (expression.plus, expression.minus, expression.also)
        )
        if plus and not all(name in part.labels for name in expression.minus):
            return ()
        if values := (plus - minus) | also:
            result.append(PartValues(part=index, values=tuple(sorted(values))))
    return tuple(result)
