"""Decoding a layout's frames into one array, rescaled to the image's unit."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medsegagent.errors import ImageError
from medsegagent.images.dicom_files import Files
from medsegagent.images.dicom_frames import Frame, quiet
from medsegagent.images.dicom_geometry import Layout

if TYPE_CHECKING:
    from pydicom import Dataset


def read_stack(files: Files, layout: Layout) -> tuple[NDArray[np.float32], str, tuple[Dataset, ...]]:
    """Decode the slices, rescaled, and correct tilt and gaps as the layout says.

    Returns:
        The array on `layout.grid`, `(Z, Y, X)`; the sha256 over the files' bytes in slice order; and the objects'
        headers without pixels, whose use must end within this package, for they hold the patient's data.

    Raises:
        ImageError: If an object has no pixel data, is truncated, or needs a decoder that is not installed; or if two
            images claim the same place and differ.
    """
    slot_of = {(frame.file, frame.index): slot for slot, frame in enumerate(layout.frames)}
    twin_of = {(frame.file, frame.index): slot for slot, frame in layout.duplicates}
    frames = [*layout.frames, *(frame for _, frame in layout.duplicates)]
    stack = np.empty((len(layout.frames), *layout.frames[0].shape), dtype=np.float32)
    digest = hashlib.sha256()
    headers: list[Dataset] = []
    twins: list[tuple[int, str, NDArray[np.float32]]] = []
    for name, group in _by_file(frames):
        data = files.read(name)
        digest.update(hashlib.sha256(data).digest())
        header, images = _decode(name, data, group)
        headers.append(header)
        for frame, image in zip(group, images, strict=True):
            key = frame.file, frame.index
            if key in slot_of:
                stack[slot_of[key]] = image
            else:
                twins.append((twin_of[key], name, image))
    for slot, name, image in twins:
        if not np.array_equal(stack[slot], image):
            what = f"two different images lie at the place of slice {slot + 1}, and no tag tells them apart"
            raise ImageError(what, "Leave one of the two in the folder.", name)
    return _corrected(stack, layout), digest.hexdigest(), tuple(headers)


def _by_file(frames: Sequence[Frame]) -> list[tuple[str, list[Frame]]]:
    groups: dict[str, list[Frame]] = defaultdict(list)
    for frame in frames:
        groups[frame.file].append(frame)
    return list(groups.items())


def _decode(name: str, data: bytes, frames: Sequence[Frame]) -> tuple[Dataset, list[NDArray[np.float32]]]:
    """Decode the frames named from one object; its header comes back without the pixels."""
    from pydicom import dcmread

    with quiet():
        try:
            dataset = dcmread(BytesIO(data), force=True)
            if not any(tag in dataset for tag in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
                raise ImageError("the object has no pixel data", "Export the series again.", name)
            images = list(_images(dataset, frames))
        except ImageError:
            raise
        except Exception as error:  # decoders raise whatever they like, and may quote the header
            raise _undecodable(name, dataset if "dataset" in locals() else None, error) from None
        for tag in ("PixelData", "FloatPixelData", "DoubleFloatPixelData"):
            if tag in dataset:
                del dataset[tag]
    return dataset, images


def _images(dataset: Dataset, frames: Sequence[Frame]) -> Iterator[NDArray[np.float32]]:
    from pydicom.pixels.processing import apply_modality_lut
    from pydicom.pixels.utils import iter_pixels, pixel_array

    if frames[0].index is None:
        image = pixel_array(dataset)
        if "ModalityLUTSequence" in dataset:
            yield np.asarray(apply_modality_lut(image, dataset), dtype=np.float32)
        else:
            slope, intercept = dataset.get("RescaleSlope", None), dataset.get("RescaleIntercept", None)
            yield _rescaled(image, float(1 if slope is None else slope), float(intercept or 0))
        return
    indices = [frame.index for frame in frames if frame.index is not None]
    for index, image in zip(indices, iter_pixels(dataset, indices=indices), strict=True):
        yield _rescaled(image, *_rescale(dataset, index))


def _rescaled(image: NDArray[Any], slope: float, intercept: float) -> NDArray[np.float32]:
    result = image.astype(np.float32)
    if slope != 1:
        result *= np.float32(slope)
    if intercept:
        result += np.float32(intercept)
    return result


def _rescale(dataset: Dataset, index: int) -> tuple[float, float]:
    """Slope and intercept of a frame of an enhanced multi-frame object; 1 and 0 if it has none."""
    shared: Any = (dataset.get("SharedFunctionalGroupsSequence", None) or [{}])[0]
    own: Any = dataset.PerFrameFunctionalGroupsSequence[index]
    sequence = own.get("PixelValueTransformationSequence", None) or shared.get("PixelValueTransformationSequence", None)
    if not sequence:
        return 1.0, 0.0
    return float(sequence[0].RescaleSlope), float(sequence[0].RescaleIntercept)


def _undecodable(name: str, dataset: Dataset | None, error: Exception) -> ImageError:
    if isinstance(error, MemoryError):
        return ImageError("not enough memory to decode the image", "Close other programs.", name)
    syntax = getattr(dataset and dataset.file_meta, "TransferSyntaxUID", None)
    if syntax is None or not syntax.is_compressed:
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
