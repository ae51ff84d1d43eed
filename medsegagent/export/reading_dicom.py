"""Read a DICOM SEG frame by frame: any type, slices left out, spaced as they may be."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import ImageError
from medsegagent.export.segment import MOST_LABELS, NOT_A_SEGMENTATION, Coding, Found
from medsegagent.images.dicom_files import open_files
from medsegagent.images.dicom_frames import Frame, frames_of, quiet
from medsegagent.images.dicom_values import item_of, make_decodable, number, text, with_points
from medsegagent.images.files import check_room
from medsegagent.images.placed import grid_from
from medsegagent.images.stored import MAX_VOXELS
from medsegagent.images.volume import Grid

if TYPE_CHECKING:
    from pydicom import Dataset

Heights = NDArray[np.float64]

_BACKGROUND = "125040"
"""DICOM's code for what is no segment."""
_ABNORMAL = "49755003"
_SAME_MM = 1e-2
_EVEN = 0.05
"""Deviation from whole multiples of a spacing, as a share of it, that is rounding and no more."""


def read_dicom_seg(path: Path, like: Grid | None = None) -> tuple[Grid, list[Found], tuple[str, ...]]:
    """Read the segments, background left out; of a fractional one, what is at least half.

    Args:
        path: The file.
        like: The grid of the image: its slices are used where the file's are parallel to them.

    Returns:
        A grid with the file's rows and columns, the segments, and what is in doubt.

    Raises:
        ImageError: If it is no DICOM SEG, or its frames are not parallel.
    """
    where = str(path)
    with open_files(path) as files, quiet():
        if len(files.names) != 1:
            raise ImageError("it holds several files", "Give the DICOM SEG itself.", where)
        data = files.read(files.names[0])
        try:
            dataset = with_points(_parsed(data))
            frames = frames_of("", dataset)
            segments = {int(item.SegmentNumber): item for item in dataset.SegmentSequence}
            owners = _owners(dataset, len(frames))
        except Exception:  # pydicom's messages may quote the header
            raise ImageError("not a DICOM SEG, or a damaged one", NOT_A_SEGMENTATION, where) from None
        _check(frames, segments, where)
        slices = _slices(dataset, frames, like)
        rows, columns = frames[0].shape
        size = (columns + slices.grown[1], rows + slices.grown[0], len(slices.sources))
        if np.prod(size, dtype=float) > MAX_VOXELS:
            raise ImageError("it asks for too many voxels", "Give the image's grid with --reference.", where)
        wanted = {value: item for value, item in segments.items() if value > 0 and not _is_background(item)}
        check_room(len(wanted) * int(np.prod(size)), where)
        masks = {value: np.zeros(size[::-1], dtype=bool) for value in wanted}
        try:
            _paint(masks, dataset, owners, slices)
        except ImageError:
            raise
        except Exception:
            raise ImageError("its frames are truncated or damaged", "Copy it again.", where) from None
        found = [Found(value, _name(value, item), masks[value], _coding(item)) for value, item in wanted.items()]
    warnings = slices.warnings
    if text(dataset, "SegmentationType") == "FRACTIONAL":
        warnings += ("a fractional segmentation: where a segment fills at least half of a voxel, the voxel is its",)
    between_rows, between_columns = frames[0].spacing or (1.0, 1.0)
    matrix = slices.axes * (between_columns, between_rows, slices.step)
    return grid_from(size, matrix, slices.origin, where), found, warnings


def _parsed(data: bytes) -> Dataset:
    from pydicom import dcmread

    return dcmread(BytesIO(data), force=True)


def _owners(dataset: Dataset, count: int) -> list[int | None]:
    """The segment of each frame; None for frames that hold label values."""
    if text(dataset, "SegmentationType") == "LABELMAP":
        return [None] * count
    keyword = "SegmentIdentificationSequence"
    shared = item_of(item_of(dataset, "SharedFunctionalGroupsSequence"), keyword)
    groups = dataset.PerFrameFunctionalGroupsSequence
    return [int((item_of(own, keyword) or shared).ReferencedSegmentNumber) for own in groups]


def _check(frames: Sequence[Frame], segments: Collection[int], where: str) -> None:
    if not frames or not segments or len(segments) > MOST_LABELS or frames[0].index is None:
        raise ImageError(f"not a DICOM SEG of 1 to {MOST_LABELS} segments", NOT_A_SEGMENTATION, where)
    first = frames[0]
    for frame in frames:
        if frame.position is None or frame.row is None or frame.column is None or frame.spacing is None:
            raise ImageError("its frames do not say where they lie", "Export it again.", where)
        turned = np.abs(np.array(frame.row + frame.column) - np.array((*(first.row or ()), *(first.column or ()))))
        if turned.max() > 1e-3 or not np.allclose(frame.spacing, first.spacing or (), rtol=1e-3):
            raise ImageError("its frames are not parallel or not of one spacing", "Export it on one series.", where)
    row, column = np.array(first.row), np.array(first.column)
    if not np.allclose([row @ row, column @ column, row @ column], [1, 1, 0], atol=0.01):
        raise ImageError("its orientation is not a pair of perpendicular unit vectors", "Export it again.", where)


@dataclass(frozen=True)
class _Slices:
    """How frames become slices of an even grid.

    Attributes:
        sources: For each slice, the number of the level whose frames fill it; -1 for none.
        level: Of each frame.
        shift: Of each level, in rows and columns, for slices that are displaced against each other.
        grown: Rows and columns that these displacements add.
        step: mm between slices.
        axes: Direction cosines of columns, rows and slices.
        origin: Of the grid.
        warnings: What is in doubt.
    """

    sources: tuple[int, ...]
    level: tuple[int, ...]
    shift: NDArray[np.int64]
    grown: tuple[int, int]
    step: float
    axes: NDArray[np.float64]
    origin: NDArray[np.float64]
    warnings: tuple[str, ...]


def _slices(dataset: Dataset, frames: Sequence[Frame], like: Grid | None) -> _Slices:
    first = frames[0]
    row = np.array(first.row) / np.linalg.norm(first.row or 1)
    column = np.array(first.column) - (np.array(first.column) @ row) * row
    column /= np.linalg.norm(column)
    normal = np.cross(row, column)
    positions = np.array([frame.position for frame in frames], dtype=np.float64)
    heights, level = _levels(positions @ normal)
    starts = np.array([positions[level.index(k)] for k in range(len(heights))])
    in_plane = starts @ np.stack([column, row], axis=1)
    spacing = np.array(first.spacing)
    drift = np.rint((in_plane - in_plane.min(axis=0)) / spacing).astype(np.int64)
    if np.abs(in_plane - in_plane[0]).max() <= 0.5 * spacing.min():
        drift[:] = 0
    step, begin, count, reach, warnings = _spacing(dataset, frames, heights, normal, like)
    nearest = [int(np.argmin(np.abs(heights - (begin + j * step)))) for j in range(count)]
    sources = tuple(k if abs(heights[k] - (begin + j * step)) <= reach else -1 for j, k in enumerate(nearest))
    lowest = in_plane.min(axis=0) if drift.any() else in_plane[0]
    origin = lowest[0] * column + lowest[1] * row + begin * normal
    grown = (int(drift[:, 0].max()), int(drift[:, 1].max()))
    return _Slices(sources, level, drift, grown, step, np.stack([row, column, normal], axis=1), origin, warnings)


def _levels(heights: Heights) -> tuple[Heights, tuple[int, ...]]:
    """The distinct heights, sorted, and which one each frame has."""
    order = np.argsort(heights, kind="stable")
    found: list[float] = []
    level = [0] * len(heights)
    for i in order:
        if not found or heights[i] - found[-1] > _SAME_MM:
            found.append(float(heights[i]))
        level[int(i)] = len(found) - 1
    return np.array(found), tuple(level)


def _spacing(
    dataset: Dataset, frames: Sequence[Frame], heights: Heights, normal: NDArray[np.float64], like: Grid | None
) -> tuple[float, float, int, float, tuple[str, ...]]:
    """Step, first height and number of the slices, how far a frame reaches (mm), and what is in doubt."""
    gaps = np.diff(heights)
    stated = _stated(dataset)
    thick = [frame.thickness for frame in frames if frame.thickness > 0]
    if like is not None and (axis := _parallel(like, normal)) is not None:
        step = like.spacing[axis]
        phase = float(np.dot(like.origin, normal))
        begin = phase + step * np.rint((heights[0] - phase) / step)
        count = round((heights[-1] - begin) / step) + 1
        off = (heights - begin) / step
        if not len(gaps) or (_same_pixels(frames[0], like, axis) and np.abs(off - off.round()).max() <= 2 * _EVEN):
            return step, float(begin), count, 0.5001 * step, ()  # the image's own slices
        reach = 0.75 if _divisor(gaps, [float(gaps.min())]) is None else 0.5001
        usual = float(np.median(gaps)) if reach > 0.5001 else min([*stated, *thick, float(gaps.min())])
        return step, float(begin), count, reach * max(step, usual), ()
    if not len(gaps):
        return (*stated, *thick, 1.0)[0], float(heights[0]), 1, 0.5, ()
    if divisor := _divisor(gaps, [*stated, *thick, float(gaps.min())]):
        count = round((heights[-1] - heights[0]) / divisor) + 1
        step = float((heights[-1] - heights[0]) / (count - 1))
        return step, float(heights[0]), count, 0.5001 * step, ()
    usual = float(np.median(gaps))
    count = max(2, round((heights[-1] - heights[0]) / usual) + 1)
    step = float((heights[-1] - heights[0]) / (count - 1))
    said = (
        f"its slices lie {gaps.min():.2f} to {gaps.max():.2f} mm apart; put on slices {step:.2f} mm apart, the nearest"
    )
    return step, float(heights[0]), count, 0.75 * step, (said,)


def _stated(dataset: Dataset) -> list[float]:
    """SpacingBetweenSlices, where the file gives it."""
    measures = item_of(item_of(dataset, "SharedFunctionalGroupsSequence"), "PixelMeasuresSequence")
    value = number(measures, "SpacingBetweenSlices")
    return [abs(value)] if value else []


def _divisor(gaps: Heights, candidates: Sequence[float]) -> float | None:
    """The first candidate of which all gaps are whole multiples."""
    for step in candidates:
        times = gaps / step if step > _SAME_MM else np.zeros(1)
        if len(gaps) and (times.round() >= 1).all() and np.abs(times - times.round()).max() <= _EVEN * times.max():
            return float(step)
    return None


def _same_pixels(frame: Frame, grid: Grid, across: int) -> bool:
    """Whether a frame has the rows and columns of a grid's slices, in either order."""
    axes = [axis for axis in range(3) if axis != across]
    size = sorted(zip((grid.size[axis] for axis in axes), (grid.spacing[axis] for axis in axes), strict=True))
    own = sorted(zip(frame.shape, frame.spacing or (0.0, 0.0), strict=True))
    return bool(np.allclose(size, own, rtol=1e-3))


def _parallel(grid: Grid, normal: NDArray[np.float64]) -> int | None:
    cosines = np.abs(np.array(grid.direction).reshape(3, 3).T @ normal)
    axis = int(np.argmax(cosines))
    return axis if cosines[axis] > 1 - 1e-5 else None


def _paint(
    masks: dict[int, NDArray[np.bool_]], dataset: Dataset, owners: Sequence[int | None], slices: _Slices
) -> None:
    targets: dict[int, list[int]] = {}
    for j, source in enumerate(slices.sources):
        targets.setdefault(source, []).append(j)
    half = 0.5 * (number(dataset, "MaximumFractionalValue") or 255) if _fractional(dataset) else 1
    for i, image in enumerate(_images(dataset, len(owners))):
        own = slices.level[i]
        row, column = slices.shift[own]
        place = np.s_[row : row + image.shape[0], column : column + image.shape[1]]
        owner = owners[i]
        parts = {owner: image >= half} if owner is not None else {value: image == value for value in masks}
        for value, part in parts.items():
            if value in masks and part.any():
                for j in targets.get(own, ()):
                    masks[value][j][place] |= part


def _fractional(dataset: Dataset) -> bool:
    return text(dataset, "SegmentationType") == "FRACTIONAL"


def _images(dataset: Dataset, count: int) -> Iterator[NDArray[Any]]:
    """The frames, one after the other."""
    from pydicom.pixels.utils import iter_pixels

    make_decodable(dataset)
    if int(dataset.BitsAllocated) != 1 or dataset.file_meta.TransferSyntaxUID.is_compressed:
        yield from iter_pixels(dataset)
        return
    pixels = int(dataset.Rows) * int(dataset.Columns)
    packed = np.frombuffer(dataset.PixelData, dtype=np.uint8)
    if 8 * len(packed) < count * pixels:
        raise ImageError("its frames are truncated", "Copy it again.")
    for i in range(count):
        start, stop = i * pixels, (i + 1) * pixels
        bits = np.unpackbits(packed[start // 8 : -(-stop // 8)], bitorder="little")[start % 8 : start % 8 + pixels]
        yield bits.reshape(int(dataset.Rows), int(dataset.Columns))


def _is_background(item: Dataset) -> bool:
    return text(item_of(item, "SegmentedPropertyTypeCodeSequence"), "CodeValue") == _BACKGROUND


def _name(value: int, item: Dataset) -> str:
    return text(item, "SegmentLabel") or f"label {value}"


def _coding(item: Dataset) -> Coding | None:
    kind = item_of(item, "SegmentedPropertyTypeCodeSequence")
    if not kind:
        return None
    side = text(item_of(kind, "SegmentedPropertyTypeModifierCodeSequence"), "CodeMeaning").lower()
    lesion = text(item_of(item, "SegmentedPropertyCategoryCodeSequence"), "CodeValue") == _ABNORMAL
    code = text(kind, "CodeValue") if text(kind, "CodingSchemeDesignator") == "SCT" else ""
    return Coding(code, text(kind, "CodeMeaning"), side if side in ("left", "right") else "", lesion)  # type: ignore[arg-type]
