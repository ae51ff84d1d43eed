"""DICOM elements as found in the wild: empty, absent, with decimal commas; and what an object lacks to be decoded."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pydicom import Dataset

_TEXT_NUMBERS = ("DS", "IS")
_HEAD = 2**16
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xF7)
"""Markers of a JPEG's frame header, which say its process and size."""
_MODALITIES = {
    **{"1.2.840.10008.5.1.4.1.1.2": "CT", "1.2.840.10008.5.1.4.1.1.2.1": "CT", "1.2.840.10008.5.1.4.1.1.2.2": "CT"},
    **{"1.2.840.10008.5.1.4.1.1.4": "MR", "1.2.840.10008.5.1.4.1.1.4.1": "MR", "1.2.840.10008.5.1.4.1.1.4.4": "MR"},
    **{"1.2.840.10008.5.1.4.1.1.128": "PT", "1.2.840.10008.5.1.4.1.1.130": "PT"},
}
"""What an image's SOP class says where Modality was emptied."""


def text(source: Any, keyword: str) -> str:
    """An element in words; "" if it is absent, empty or cannot be read."""
    try:
        return str(source.get(keyword, "") or "").strip()
    except Exception:  # pydicom converts on access, and raises whatever a damaged value leads to
        return ""


def numbers(source: Any, keyword: str) -> list[float] | None:
    """An element's numbers, decimal commas read as points; None if it is absent, or one of them is no finite number."""
    from pydicom.datadict import dictionary_VR, tag_for_keyword
    from pydicom.dataelem import RawDataElement

    tag = tag_for_keyword(keyword)
    if tag is None or tag not in source:
        return None
    try:
        element = source.get_item(tag) if hasattr(source, "get_item") else source[keyword]
        if isinstance(element, RawDataElement) and (element.VR or dictionary_VR(tag)) in _TEXT_NUMBERS:
            words = (element.value or b"").decode("ascii", "replace").replace(",", ".").strip(" \0")
            found = [float(word) for word in words.split("\\")] if words else []
        else:
            value = source[tag].value
            parts = value if isinstance(value, Iterable) and not isinstance(value, str | bytes) else [value]
            found = [float(str(part).replace(",", ".")) for part in parts if part is not None and part != ""]
    except Exception:  # as above
        return None
    return found if found and all(math.isfinite(value) for value in found) else None


def number(source: Any, keyword: str) -> float | None:
    """An element's only number; None if there is none, or several."""
    found = numbers(source, keyword)
    return found[0] if found and len(found) == 1 else None


def item_of(source: Any, keyword: str) -> Any:
    """A sequence's first item; an empty mapping if there is none, or the element is no sequence."""
    from pydicom.sequence import Sequence

    try:
        found = source.get(keyword, None)
    except Exception:  # as above
        return {}
    return found[0] if isinstance(found, Sequence) and len(found) else {}


def modality_of(dataset: Dataset) -> str:
    """DICOM's Modality; where it was emptied, what the kind of object says; else ""."""
    return text(dataset, "Modality") or _MODALITIES.get(text(dataset, "SOPClassUID"), "")


def with_points(dataset: Dataset) -> Dataset:
    """Put points for the decimal commas of an object's own elements, so that other libraries can read them."""
    from pydicom.datadict import dictionary_VR
    from pydicom.dataelem import RawDataElement

    for tag in list(dataset.keys()):
        element = dataset.get_item(tag)
        if isinstance(element, RawDataElement) and element.value and b"," in element.value:
            try:
                kind = element.VR or dictionary_VR(tag)
            except KeyError:  # a private element
                continue
            if kind in _TEXT_NUMBERS:
                dataset[tag] = element._replace(value=element.value.replace(b",", b"."))
    return dataset


def is_compressed(syntax: Any) -> bool | None:
    """Tell whether a transfer syntax compresses pixels; None for what is absent or no transfer syntax."""
    try:
        return bool(syntax.is_compressed)
    except (AttributeError, ValueError):
        return None


def make_decodable(dataset: Dataset) -> None:
    """Fill in what pydicom wants beside Rows, Columns and the pixels, where the pixels themselves say it.

    Raises:
        ValueError: If a compressed frame is of another size than Rows and Columns: decoders take its word for it.
    """
    if "PixelData" not in dataset:
        return  # numbers in floating point, which need no more
    element = dataset.get_item("PixelData")
    data: bytes = element.value if element is not None and isinstance(element.value, bytes) else b""
    packed = data[:4] == b"\xfe\xff\x00\xe0"
    declared = is_compressed(dataset.file_meta.get("TransferSyntaxUID", None))
    if declared is None or (packed and not declared):
        dataset.file_meta.TransferSyntaxUID = _packed_syntax(data) if packed else _plain_syntax(dataset)
    # Anonymisers empty elements that are no one's secret; most images are grey, in words of 8 or 16 bits.
    if packed:
        _check_frames(data, int(dataset.Rows), int(dataset.Columns))
    if number(dataset, "SamplesPerPixel") is None:
        dataset.SamplesPerPixel = 1
    if not text(dataset, "PhotometricInterpretation"):
        dataset.PhotometricInterpretation = "MONOCHROME2"
    if number(dataset, "BitsAllocated") is None:
        pixels = int(dataset.Rows) * int(dataset.Columns) * int(number(dataset, "NumberOfFrames") or 1)
        dataset.BitsAllocated = 16 if packed else 8 * max(1, len(data) // max(1, pixels))
    if number(dataset, "BitsStored") is None:
        dataset.BitsStored = dataset.BitsAllocated
    if number(dataset, "HighBit") is None:
        dataset.HighBit = dataset.BitsStored - 1
    if number(dataset, "PixelRepresentation") is None:
        dataset.PixelRepresentation = int(not packed and dataset.BitsAllocated == 16 and _signed(data))


def _check_frames(data: bytes, rows: int, columns: int) -> None:
    from pydicom.encaps import generate_fragments, parse_basic_offsets
    from pydicom.filebase import DicomBytesIO

    stream = DicomBytesIO(data)
    stream.is_little_endian = True
    parse_basic_offsets(stream)
    for fragment in generate_fragments(stream):
        size = _size_of(fragment[:_HEAD])
        if size not in (None, (rows, columns)):
            raise ValueError("a compressed frame is of another size than its header says")


def _size_of(head: bytes) -> tuple[int, int] | None:
    """Rows and columns by the first bytes of a JPEG 2000, JPEG or JPEG-LS stream; None for any other."""
    if head[:4] == b"\xff\x4f\xff\x51" and len(head) >= 24:
        right, down, left, up = (int.from_bytes(head[i : i + 4], "big") for i in (8, 12, 16, 20))
        return down - up, right - left
    place = 2
    while head[:2] == b"\xff\xd8" and place + 9 <= len(head) and head[place] == 0xFF:
        if head[place + 1] in _FRAMES:
            return int.from_bytes(head[place + 5 : place + 7], "big"), int.from_bytes(
                head[place + 7 : place + 9], "big"
            )
        place += 2 + int.from_bytes(head[place + 2 : place + 4], "big")
    return None


def _signed(data: bytes) -> bool:
    """Whether 16-bit words with the first bit set are small negative numbers: none lies in the middle between."""
    words = np.frombuffer(data, "<u2", count=len(data) // 2)
    return bool((words >= 0xC000).any() and not ((words >= 0x8000) & (words < 0xC000)).any())


def _plain_syntax(dataset: Dataset) -> Any:
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    implicit, little = dataset.original_encoding
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little is not False else ExplicitVRBigEndian


def _packed_syntax(data: bytes) -> Any:
    """The transfer syntax by the first bytes of the first frame."""
    from pydicom import uid

    place = 8 + int.from_bytes(data[4:8], "little")  # after the table of offsets
    head = data[place + 8 : place + 2**16]
    if head[:4] == b"\xff\x4f\xff\x51" or head[4:8] == b"jP  ":
        return uid.JPEG2000
    if head[:2] != b"\xff\xd8":
        return uid.RLELossless
    found = next((head[i + 1] for i in range(2, len(head) - 1) if head[i] == 0xFF and head[i + 1] in _FRAMES), 0xC0)
    names = {0xC3: uid.JPEGLosslessSV1, 0xF7: uid.JPEGLSLossless, 0xC1: uid.JPEGExtended12Bit}
    return names.get(found, uid.JPEGBaseline8Bit)
