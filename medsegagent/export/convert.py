"""A segmentation from one format to others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from medsegagent.errors import ImageError
from medsegagent.export.formats import DICOM_FORMATS, Exported, check_formats, export
from medsegagent.export.planes import on_planes
from medsegagent.export.reading import read_segments
from medsegagent.export.segment import Segments
from medsegagent.images.dicom import read_grid, read_source
from medsegagent.images.dicom_frames import Frame, Vector
from medsegagent.images.geometry import same_grid
from medsegagent.images.read import READERS, extension, open_image
from medsegagent.images.volume import Grid
from medsegagent.reporting.run_folder import RunFolder


def convert(
    path: Path, out: Path, formats: Sequence[str], *, reference: Path | None = None, series: str = ""
) -> Exported:
    """Write an existing segmentation in other formats.

    Args:
        path: See `read_segments`.
        out: A folder that does not exist yet or is empty.
        formats: Of `FORMATS`.
        reference: The image that it was made on: puts the result on its grid (nearest voxel); a DICOM series for DICOM
            formats.
        series: Which series of the reference.

    Raises:
        UsageError: If a format or the series is unknown.
        ImageError: If a file cannot be read, or DICOM is asked for without a DICOM reference.
        OutputError: If the folder holds something or cannot be written.
    """
    check_formats(formats, reference)
    grid = _grid_of(reference, series) if reference else None
    segments = read_segments(path, grid)
    to_dicom = [name for name in formats if name in DICOM_FORMATS]
    others = [name for name in formats if name not in DICOM_FORMATS]
    source = read_source(reference, series) if reference and to_dicom else None
    with (run := RunFolder(out)) as folder:
        first = export(segments, folder, to_dicom, source)
        placed = on_grid(segments, grid) if grid and others else segments
        second = export(placed, folder, others)
        if not first.files + second.files:
            what = f"the segmentation is empty, and {', '.join(formats)} cannot hold an empty one"
            raise ImageError(what, "Choose nifti or nrrd, or leave it out.", str(path))
    return Exported(first.files + second.files, segments.warnings + first.warnings + second.warnings + run.notes)


def on_grid(segments: Segments, grid: Grid) -> Segments:
    """Put segments on another grid, nearest voxel.

    Raises:
        ImageError: If the two have no place in common.
    """
    if same_grid(segments.grid, grid):
        return segments
    starts = grid.points(np.array([[0, 0, z] for z in range(grid.size[2])]))
    row, column = (grid.direction[axis::3] for axis in (0, 1))
    between = (grid.spacing[1], grid.spacing[0])
    frames = [
        Frame("", None, "", grid.shape[1:], _vector(start), _vector(row), _vector(column), between, 0.0, {})
        for start in starts
    ]
    if not segments.items:
        return Segments(grid, (), segments.warnings)
    planes = np.stack(list(on_planes([item.mask for item in segments.items], segments.grid, frames)), axis=1)
    items = tuple(replace(item, mask=mask) for item, mask in zip(segments.items, planes, strict=True))
    return Segments(grid, items, segments.warnings)


def _vector(values: Iterable[float]) -> Vector:
    x, y, z = values
    return float(x), float(y), float(z)


def _grid_of(reference: Path, series: str) -> Grid:
    if reference.is_dir() or extension(reference) not in READERS:
        return read_grid(reference, series)
    return open_image(reference).grid
