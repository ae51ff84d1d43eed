"""`medsegagent evaluate masks`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medsegagent.errors import ExitCode


def masks(
    prediction: Annotated[Path, typer.Argument(help="Segmentation, run folder, or a folder of either.")],
    reference: Annotated[Path, typer.Argument(help="The truth, likewise; folders are paired by file name.")],
    mapping: Annotated[
        list[str] | None,
        typer.Option("--map", help="PREDICTED=REFERENCE, names or values; repeatable. Else by name and meaning."),
    ] = None,
    tolerance: Annotated[float, typer.Option(help="mm within which surfaces match, for the surface Dice.")] = 2.0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="New folder for table and picture.")] = None,
    image: Annotated[Path | None, typer.Option(help="Image, or folder of images, below the picture.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Compare segmentations with a reference: Dice, surface Dice (NSD), HD95, volume."""
    from medsegagent.cli import screen
    from medsegagent.cli.mask_views import show_scores
    from medsegagent.evaluation.mask_cases import evaluate, parse_mapping, record, write_scores
    from medsegagent.evaluation.mask_picture import write_worst
    from medsegagent.reporting.run_folder import RunFolder

    pairs = parse_mapping(mapping or [])
    found = evaluate(prediction, reference, mapping=pairs, tolerance_mm=tolerance)
    if as_json:
        screen.as_json(record(found))
    else:
        show_scores(found)
    if out is not None:
        with (run := RunFolder(out)) as folder:
            write_scores(found, folder)
            for warning in write_worst(found, folder / "worst.png", pairs, image):
                screen.warn(warning)
        for note in run.notes:
            screen.warn(note)
    if found.failed:
        raise typer.Exit(ExitCode.CASES_FAILED)
