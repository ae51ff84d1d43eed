"""Decoding a layout's frames into one array, rescaled to the image's unit."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medsegagent.errors import ImageError
from medsegagent.images.dicom_files import Files
from medsegagent.images.dicom_frames import Frame, quiet
from medsegagent.images.dicom_geometry import Layout
from medsegagent.images.dicom_values import is_compressed, item_of, make_decodable, modality_of, number, with_points
from medsegagent.images.files import check_room

if TYPE_CHECKING:
    from pydicom import Dataset

Image = tuple[NDArray[np.float32], bool]
"""A slice, and whether padding in it was made air."""

AIR = -1000.0
"""HU."""
_DARKEST_TISSUE = -900.0
"""HU; padding below it is taken for air by every model."""


class Stack(NamedTuple):
    """What the slices hold.

    Attributes:
        array: On the layout's grid, `(Z, Y, X)`, rescaled.
        sha256: Over the files' bytes in slice order.
        headers: The objects without pixels; their use must end within this package, for they hold the patient's data.
        padded: Whether padding brighter than air was made air.
    """

    array: NDArray[np.float32]
    sha256: str
    headers: tuple[Dataset, ...]
    padded: bool


def read_stack(files: Files, layout: Layout) -> Stack:
    """Decode the slices, rescaled, and correct tilt and gaps as the layout says.

    Raises:
        ImageError: If an object has no pixel data, is truncated, or needs a decoder that is not installed; or if two
            images claim the same place and differ.
    """
    slot_of = {(frame.file, frame.index): slot for slot, frame in enumerate(layout.frames)}
    twin_of = {(frame.file, frame.index): slot for slot, frame in layout.duplicates}
    frames = [*layout.frames, *(frame for _, frame in layout.duplicates)]
    shape = len(layout.frames), *layout.frames[0].shape
    corrected = layout.offsets is not None or layout.levels is not None
    check_room(4 * (math.prod(shape) + (math.prod(layout.grid.size) if corrected else 0)), "")
    stack = np.empty(shape, dtype=np.float32)
    digest = hashlib.sha256()
    headers: list[Dataset] = []
    padded = False
    twins: list[tuple[int, str, NDArray[np.float32]]] = []
    for name, group in _by_file(frames):
        data = files.read(name)
        digest.update(hashlib.sha256(data).digest())
        header, images = _decode(name, data, group)
        headers.append(header)
        for frame, (image, changed) in zip(group, images, strict=True):
            padded |= changed
            if image.shape != shape[1:]:
                what = "the object's images are not of the size, or not as grey, as its header says"
                raise ImageError(what, "Export the series again.", name)
            key = frame.file, frame.index
            if key in slot_of:
                stack[slot_of[key]] = image
            else:
                twins.append((twin_of[key], name, image))
    for slot, name, image in twins:
        if not np.array_equal(stack[slot], image):
            what = f"two different images lie at the place of slice {slot + 1}, and none of the tags known to tell"
            raise ImageError(f"{what} volumes apart does so", "Leave one of the two in the folder.", name)
    return Stack(_corrected(stack, layout), digest.hexdigest(), tuple(headers), padded)


def _by_file(frames: Sequence[Frame]) -> list[tuple[str, list[Frame]]]:
    groups: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        groups[frame.file].append(frame)
    return list(groups.items())


def _decode(name: str, data: bytes, frames: Sequence[Frame]) -> tuple[Dataset, list[Image]]:
    """Decode the frames named from one object; its header comes back without the pixels."""
    from pydicom import dcmread

    with quiet():
        try:
            dataset = with_points(dcmread(BytesIO(data), force=True))
            if not any(tag in dataset for tag in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
                raise ImageError("the object has no pixel data", "Export the series again.", name)
            make_decodable(dataset)
            images = list(_images(dataset, frames))
        except ImageError:
            raise
        except Exception as error:  # decoders raise whatever they like, and may quote the header
            raise _undecodable(name, dataset if "dataset" in locals() else None, error) from None
        for tag in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
            if tag in dataset:
                del dataset[tag]
    return dataset, images


def _images(dataset: Dataset, frames: Sequence[Frame]) -> Iterator[Image]:
    from pydicom.pixels.processing import apply_modality_lut
    from pydicom.pixels.utils import iter_pixels, pixel_array

    if frames[0].index is None:
        image = pixel_array(dataset)
        if "ModalityLUTSequence" in dataset:
            yield np.asarray(apply_modality_lut(image, dataset), dtype=np.float32), False
        else:
            slope, intercept = number(dataset, "RescaleSlope"), number(dataset, "RescaleIntercept")
            yield _rescaled(image, 1.0 if slope is None else slope, intercept or 0.0, dataset)
        return
    indices = [frame.index for frame in frames if frame.index is not None]
    for index, image in zip(indices, iter_pixels(dataset, indices=indices), strict=True):
        yield _rescaled(image, *_rescale(dataset, index), dataset)


def _rescaled(image: NDArray[Any], slope: float, intercept: float, dataset: Dataset) -> Image:
    """Apply slope and intercept; what surrounds a CT's round field of view becomes air, whatever stands for it."""
    outside = np.zeros(image.shape, dtype=bool)
    result = image.astype(np.float32)
    if slope != 1:
        result *= np.float32(slope)
    if intercept:
        result += np.float32(intercept)
    if modality_of(dataset) == "CT" and (padding := number(dataset, "PixelPaddingValue")) is not None:
        limit = number(dataset, "PixelPaddingRangeLimit")
        low, high = sorted(_as_stored(value, image) for value in (padding, padding if limit is None else limit))
        if low * slope + intercept > _DARKEST_TISSUE:
            outside = _outside((image >= low) & (image <= high))
            result[outside] = AIR
    return result, bool(outside.any())


def _as_stored(value: float, image: NDArray[Any]) -> float:
    """A padding value as the pixels have it: anonymisers and writers mix up signed and unsigned words."""
    if image.dtype.kind not in "iu":
        return value
    limits = np.iinfo(image.dtype)
    span = float(limits.max) - float(limits.min) + 1
    if value > limits.max:
        return value - span
    return value + span if value < limits.min else value


def _outside(padding: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The part of the padding that reaches the image's edge: within the body the same value is tissue."""
    labels, count = ndimage.label(padding)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    found: NDArray[np.bool_] = np.isin(labels, edge[edge > 0]) if count else padding
    return found


def _rescale(dataset: Dataset, index: int) -> tuple[float, float]:
    """Slope and intercept of a frame of an enhanced multi-frame object; 1 and 0 if it has none."""
    keyword = "PixelValueTransformationSequence"
    own = dataset.PerFrameFunctionalGroupsSequence[index]
    values = item_of(own, keyword) or item_of(item_of(dataset, "SharedFunctionalGroupsSequence"), keyword)
    slope, intercept = number(values, "RescaleSlope"), number(values, "RescaleIntercept")
    return 1.0 if slope is None else slope, intercept or 0.0


def _undecodable(name: str, dataset: Dataset | None, error: Exception) -> ImageError:
    if isinstance(error, MemoryError):
        return ImageError("not enough memory to decode the image", "Close other programs.", name)
    syntax = getattr(dataset and dataset.file_meta, "TransferSyntaxUID", None)
    if syntax is None or not is_compressed(syntax):
        return ImageError("the object is truncated or damaged", "Copy it again from where it came.", name)
    if isinstance(error, RuntimeError) and "missing dependencies" in str(error):
        remedy = "Reinstall python-gdcm and pylibjpeg, or export the series uncompressed."
        return ImageError(f"no decoder is installed for {syntax.name}", remedy, name)
    return ImageError(f"the pixel data ({syntax.name}) is truncated or damaged", "Copy it again.", name)


def _corrected(stack: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    if layout.offsets is not None:
        stack = _upright(stack, layout.offsets, layout.grid.shape)
    if layout.levels is not None:
        stack = _filled(stack, layout.levels, layout.grid.size[2])
    return stack


def _upright(
    stack: NDArray[np.float32], offsets: NDArray[np.float64], shape: tuple[int, int, int]
) -> NDArray[np.float32]:
    """Shift each slice within its plane; what lies outside every slice gets the lowest value, as air would."""
    air = float(stack.min())
    result = np.full((len(stack), *shape[1:]), air, dtype=np.float32)
    for image, offset, target in zip(stack, offsets, result, strict=True):
        row, column = np.floor(offset + 1e-9).astype(int)
        rows, columns = image.shape
        target[row : row + rows, column : column + columns] = image
        target[:] = ndimage.shift(target, offset - (row, column), order=1, mode="constant", cval=air)
    return result


def _filled(stack: NDArray[np.float32], levels: NDArray[np.float64], slices: int) -> NDArray[np.float32]:
    """Interpolate along z at levels 0, 1, 2, ..."""
    result = np.empty((slices, *stack.shape[1:]), dtype=np.float32)
    for level in range(slices):
        above = int(np.clip(np.searchsorted(levels, level), 1, len(levels) - 1))
        share = np.float32((level - levels[above - 1]) / (levels[above] - levels[above - 1]))
        result[level] = stack[above - 1] if share == 0 else stack[above - 1] * (1 - share) + stack[above] * share
    return result
