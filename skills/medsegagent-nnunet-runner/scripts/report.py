"""What a run did and did not do, from its own files.

python report.py RUN_FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def report(run: dict[str, Any], statistics: dict[str, Any], folder: Path) -> Iterator[str]:
    """The lines of an honest report."""
    yield f"Asked: {run['request']['instruction']}"
    yield f"Understood: {', '.join(target['name'] for target in run['request']['targets'])}"
    for item in run["plan"]["models"]:
        yield f"Planned: {item['model']['id']} (card {item['model']['card']}), rank {item['rank']}: {item['reason']}"
    for item in run["plan"]["skipped"]:
        yield f"Not run: {item['model'] or item['card']}: {item['reason']}"
    for item in run["failed"]:
        yield f"Failed: {item['model'] or item['card']}: {item['reason']}"
    for structure in statistics.values():
        yield measured(structure)
    for warning in run["warnings"]:
        yield f"Warning: {warning}"
    yield f"Files: {folder / 'segmentation.nii.gz'}, {folder / 'preview.png'}"
    yield "Research software, not a medical device."


def measured(structure: dict[str, Any]) -> str:
    """One structure: its volume, what each model alone gave, and how they agree."""
    fused, models = structure["fused"], structure["models"]
    if not fused["voxels"]:
        return f"{structure['name']}: not found by {', '.join(models) or 'any model'}"
    alone = ", ".join(f"{name} {figures['volume_ml']:.1f} mL" for name, figures in models.items())
    agreement = structure["agreement"]
    agreed = "only one model, nothing checks it" if agreement is None else f"mean pairwise Dice {agreement:.2f}"
    cut = "; touches the border, so probably cut off" if fused["touches_border"] else ""
    return f"{structure['name']}: {fused['volume_ml']:.1f} mL (models: {alone}; {agreed}){cut}"


def main(folder: Path) -> None:
    """Print the report."""
    run, statistics = (json.loads((folder / name).read_text()) for name in ("run.json", "statistics.json"))
    print("\n".join(report(run, statistics, folder)))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
