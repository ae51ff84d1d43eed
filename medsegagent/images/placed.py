"""What NRRD and MetaImage have in common: a data file beside the header, and a matrix that becomes a grid."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import ImageError
from medsegagent.images.volume import Grid


def data_beside(header: Path, name: str) -> Path:
    """Return the file with a detached header's voxels: one plain file in the header's own folder, and no other.

    Raises:
        ImageError: If the header names a list or pattern of files, another folder, or a link that leads to one.
    """
    if "%" in name or name.split()[:1] == ["LIST"]:
        raise ImageError("its voxels are in several files", "Convert it to one file first.", str(header))
    remedy = "Put header and data side by side and name the data without a folder."
    if name != os.path.basename(name) or "\\" in name or name in ("", ".", ".."):
        raise ImageError(f"its voxels would be read from {name[:200]!r}, outside its folder", remedy, str(header))
    data = header.parent / name
    try:
        folders = {header.parent.resolve(), header.resolve().parent}
        inside = data.resolve().parent in folders
    except (OSError, RuntimeError, ValueError):  # a loop of links; a null byte
        inside = False
    if not inside:
        raise ImageError(f"its voxels would be read from where the link {name[:200]!r} leads", remedy, str(header))
    return data


def grid_from(size: Sequence[int], matrix: NDArray[np.float64], origin: NDArray[np.float64], where: str) -> Grid:
    """Make a grid of a 3x3 index-to-patient matrix (columns in mm per voxel, LPS), in ITK's arithmetic.

    Raises:
        ImageError: If there are not three axes, or the origin is no point.
    """
    if len(size) != 3 or not np.isfinite(origin).all():
        raise ImageError("the image's position is not a number", "Repair the header's orientation.", where)
    lengths = [math.sqrt(sum(float(part) * float(part) for part in column)) for column in matrix.T]
    return Grid(
        size=(int(size[0]), int(size[1]), int(size[2])),
        spacing=(lengths[0], lengths[1], lengths[2]),
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=tuple(float(value) for value in (matrix / np.array(lengths)).ravel()),
    )
