"""How images and their comparison look in a terminal."""

from __future__ import annotations

from medsegagent.cli import screen
from medsegagent.images.inspection import Finding, Inspection


def show_inspection(inspection: Inspection) -> None:
    """Show one row per volume, then all warnings."""
    columns = ("what", "modality", "size", "spacing (mm)", "axes", "intensity")
    screen.table(columns, [_row(item) for item in inspection.findings])
    for item in inspection.findings:
        if item.problem:
            screen.warn(f"{item.name} cannot be used: {item.problem}")
        for warning in item.warnings:
            screen.warn(f"{item.name}: {warning}")
    for warning in inspection.warnings:
        screen.warn(warning)


def _row(item: Finding) -> tuple[str, ...]:
    name = f"{item.name}: {item.description}" if item.description else item.name
    sure = "" if item.confidence == 1 else f" ({item.confidence:.0%} sure)"
    if item.size is None or item.spacing_mm is None or item.low is None or item.high is None:
        return name, item.modality, "-", "-", "-", "-"
    return (
        name,
        " ".join([item.modality, item.channel]).strip() + sure,
        "x".join(map(str, item.size)),
        "x".join(f"{mm:.3g}" for mm in item.spacing_mm),
        item.orientation,
        f"{item.low:.4g} to {item.high:.4g} {item.unit}".strip(),
    )
