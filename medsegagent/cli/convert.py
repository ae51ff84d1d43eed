"""`medsegagent convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medsegagent.cli import screen


def convert(
    segmentation: Annotated[
        Path, typer.Argument(help="Label map (NIfTI, NRRD, MHA), .seg.nrrd, DICOM SEG, or the folder of a run.")
    ],
    to: Annotated[list[str], typer.Option("--to", help="nifti, nrrd, dicom-seg, rtstruct, stl or obj; repeatable.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder for the results.")],
    reference: Annotated[
        Path | None,
        typer.Option("--reference", help="The image it was made on: gives the grid; a DICOM series for DICOM formats."),
    ] = None,
    series: Annotated[str, typer.Option("--series", help="Which series of the reference, if it holds several.")] = "",
) -> None:
    """Write an existing SEGMENTATION in other formats."""
    from medsegagent.export.convert import convert as write

    exported = write(segmentation, out, to, reference=reference, series=series)
    for warning in exported.warnings:
        screen.warn(warning)
    for file in exported.files:
        screen.out.print(str(out / file), soft_wrap=True, markup=False, highlight=False)
