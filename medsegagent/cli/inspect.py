"""`medsegagent inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medsegagent.errors import ImageError


def inspect(
    path: Annotated[Path, typer.Argument(help="Image, DICOM folder, zip, or a folder of images.")],
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Show the volumes at PATH: modality, size, spacing, orientation, intensities, warnings. No patient data."""
    from dataclasses import asdict

    from medsegagent.cli import screen
    from medsegagent.cli.image_views import show_inspection
    from medsegagent.images.inspection import inspect as look

    inspection = look(path)
    if as_json:
        screen.as_json(asdict(inspection))
    else:
        show_inspection(inspection)
    if all(item.problem for item in inspection.findings):
        raise ImageError("nothing in it can be used as a volume", "See above why, and what to give.", str(path))
