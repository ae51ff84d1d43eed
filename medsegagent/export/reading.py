"""Read a segmentation that this or another program wrote: masks with names, colours and codes."""
# mypy: allow-untyped-calls

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsegagent import vocabulary
from medsegagent.errors import ImageError
from medsegagent.export.coding import coding_of_name
from medsegagent.export.reading_dicom import read_dicom_seg
from medsegagent.export.reading_slicer import read_seg_nrrd
from medsegagent.export.segment import MOST_LABELS, NOT_A_SEGMENTATION, Found, Segment, Segments, present
from medsegagent.images import nrrd
from medsegagent.images.dicom import is_dicom
from medsegagent.images.files import open_regular
from medsegagent.images.nifti import names_within
from medsegagent.images.read import extension, read_labels
from medsegagent.images.volume import Grid
from medsegagent.reporting.colours import colours_of
from medsegagent.wording import plain

_LARGEST_SIDECAR = 2**24
_LONGEST_NAME = 200
_ROUNDED = 1e-3
"""Labels that went through floating point (a resampler, a scale factor) are this near to whole numbers."""
_NIFTI = (".nii", ".nii.gz")


def read_segments(path: Path, like: Grid | None = None) -> Segments:
    """Read a label map (NIfTI, NRRD, MetaImage), a `.seg.nrrd`, a DICOM SEG, or a run's folder.

    Names come from where the format has them: the sidecar or header extension of a NIfTI that this package wrote, the
    header of a `.seg.nrrd`, the segments of a DICOM SEG; else they are "label 1", "label 2", ... Codes follow from the
    names, where these are terms of the vocabulary.

    Args:
        path: The file or folder. It may hold no label at all.
        like: The grid of what it belongs to: a DICOM SEG that leaves empty slices out may not say how far apart its
            slices lie.

    Raises:
        ImageError: If it cannot be read, is no segmentation, or holds more than 1,000 labels.
    """
    run = path / "segmentation.nii.gz"
    if path.is_dir() and run.is_file():
        return _with_targets(_read_label_map(run), path / "targets")
    if path.is_dir():
        raise ImageError("a folder, but not the folder of a run", NOT_A_SEGMENTATION, str(path))
    if extension(path) == ".nrrd" and _is_slicers(path):
        warnings: tuple[str, ...] = ()
        if not path.name.lower().endswith(".seg.nrrd"):
            warnings = (f"read as a segmentation of 3D Slicer; other programs want it renamed to {path.stem}.seg.nrrd",)
        grid, found, more = read_seg_nrrd(path)
        return _segments(grid, found, warnings + more)
    if extension(path) not in _NIFTI and is_dicom(path):
        return _segments(*read_dicom_seg(path, like))
    return _read_label_map(path)


def _is_slicers(path: Path) -> bool:
    if path.name.lower().endswith(".seg.nrrd"):
        return True
    return nrrd.is_segmentation(nrrd.read_header(path))


def _read_label_map(path: Path) -> Segments:
    array, grid, warnings = read_labels(path)
    array = _whole(array, str(path))
    values = present(array)
    if values and (values[0] < 0 or len(values) > MOST_LABELS + 1):
        raise _an_image(values[0], values[-1], len(values), str(path))
    beside = _names_beside(path)
    names = beside or (names_within(path) if extension(path) in _NIFTI else {})
    # A sidecar lists what was looked for, so a value that does not occur is an empty mask.
    wanted = sorted({value for value in values if value > 0} | set(beside))
    found = [Found(value, names.get(value, f"label {value}"), array == value) for value in wanted]
    return _segments(grid, found, warnings)


def _whole(array: NDArray[Any], where: str) -> NDArray[Any]:
    """Whole numbers, for those that are only nearly."""
    if array.dtype.kind != "f":
        return array
    rounded = np.rint(array)
    if not (np.abs(array - rounded) <= _ROUNDED + 1e-6 * np.abs(rounded)).all() or np.abs(rounded).max() > 2**53:
        raise _an_image(float(array.min()), float(array.max()), len(np.unique(array)), where)
    whole: NDArray[Any] = rounded.astype(np.int64)
    return whole


def _an_image(low: float, high: float, count: int, where: str) -> ImageError:
    what = f"values from {low:g} to {high:g}, {count} different: this is an image, no label map"
    return ImageError(what, NOT_A_SEGMENTATION, where)


def _with_targets(segments: Segments, folder: Path) -> Segments:
    """A run writes masks that others cover whole, one by one."""
    items = []
    for item in segments.items:
        file = folder / f"{item.id}.nii.gz"
        mask = item.mask
        if file.is_file():
            whole = read_labels(file)[0] > 0
            mask = whole if whole.shape == segments.grid.shape else mask
        items.append(Segment(item.id, item.name, mask, item.value, item.colour, item.coding))
    return Segments(segments.grid, tuple(items), segments.warnings)


def _names_beside(path: Path) -> dict[int, str]:
    """From the sidecar that `write_label_map` leaves, `{value: {"name": ...}}`."""
    sidecar = path.with_name(re.sub(r"\.nii(\.gz)?$", "", path.name, flags=re.IGNORECASE) + ".json")
    try:
        with open_regular(sidecar) as file:
            found = json.loads(file.read(_LARGEST_SIDECAR).decode("utf-8"))
        names = {int(value): str(entry["name"]) for value, entry in found.items()}
    except (ImageError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}  # none, or another program's file of that name
    return names if len(names) <= MOST_LABELS and min(names, default=1) > 0 else {}


def _segments(grid: Grid, found: Sequence[Found], warnings: tuple[str, ...]) -> Segments:
    """Give each an id that is safe as a file name, and a name of one line, whatever the file called it."""
    terms = vocabulary.load()
    names = [" ".join(plain(item.name).split())[:_LONGEST_NAME] or f"label {item.value}" for item in found]
    ids: list[str] = []
    for item, name in zip(found, names, strict=True):
        slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:60] or f"label_{item.value}"
        ids.append(slug if slug not in ids else f"{slug}_{item.value}")
    colours = colours_of(ids)
    items = [
        Segment(id_, name, item.mask, item.value, colours[id_], item.coding or coding_of_name(name, terms))
        for id_, name, item in zip(ids, names, found, strict=True)
    ]
    return Segments(grid, tuple(items), warnings)
