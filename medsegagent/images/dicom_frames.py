"""DICOM headers -> frames: where each 2D image lies. No pixel is decoded, and no name, id or date is kept."""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medsegagent.errors import ImageError
from medsegagent.images.dicom_files import Bounded, Files
from medsegagent.images.dicom_values import item_of, modality_of, number, numbers, text

if TYPE_CHECKING:
    from pydicom import Dataset

Vector = tuple[float, float, float]

_SECRETS = ("PatientID", "PatientBirthDate", "StudyDate", "AccessionNumber")
_HEADER_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "SeriesNumber"),
    *("SeriesDescription", "ProtocolName", "ImageType", "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames"),
    *("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SpacingBetweenSlices", "SliceThickness"),
    *("EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "DiffusionBValue", "InversionTime", "FlipAngle"),
    *("TriggerTime", "AcquisitionNumber", "AcquisitionTime", "ContentTime", "InstanceNumber", "SequenceName"),
    *("ScanningSequence", "SequenceVariant", "ScanOptions", "ConvolutionKernel", "KVP", "RepetitionTime"),
    *("ComplexImageComponent", "ContrastBolusAgent", "SeriesTime"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("PatientName", *_SECRETS),
]
_SPLITTERS = (
    *("ImageType", "EchoNumbers", "EchoTime", "InversionTime", "FlipAngle", "DiffusionBValue"),
    *("TemporalPositionIdentifier", "TriggerTime", "SequenceName", "AcquisitionNumber", "AcquisitionTime"),
    *("ScanningSequence", "SequenceVariant", "ScanOptions", "ConvolutionKernel", "KVP", "RepetitionTime"),
    *("ComplexImageComponent", "ContrastBolusAgent", "SliceThickness"),
    *("SeriesDescription", "ProtocolName", "SeriesNumber", "SeriesTime", "ContentTime"),
)
"""What may tell the volumes of one series apart, in the order in which they are tried."""
_LONGEST_NUMBER = 16
"""Characters, as DICOM has it."""
_TYPED = ("SeriesDescription", "ProtocolName")
"""Those into which people type anything, names too: kept only to be compared."""
_GROUPED = {
    "StackID": ("FrameContentSequence", "StackID"),
    "FrameType": ("MRImageFrameTypeSequence", "FrameType"),
    "EchoTime": ("MREchoSequence", "EffectiveEchoTime"),
    "DiffusionBValue": ("MRDiffusionSequence", "DiffusionBValue"),
    "TemporalPositionIndex": ("FrameContentSequence", "TemporalPositionIndex"),
    "CardiacPhase": ("CardiacSynchronizationSequence", "NominalPercentageOfCardiacPhase"),
    "FrameAcquisitionNumber": ("FrameContentSequence", "FrameAcquisitionNumber"),
}
"""The same for enhanced multi-frame objects: where in a frame's functional groups it stands."""


@dataclass(frozen=True)
class Frame:
    """One 2D image.

    Attributes:
        file: Its member in the folder or zip.
        index: Its number in a multi-frame object, from 0; None for a single-frame object.
        instance: SOP instance UID; empty where it was removed.
        shape: Rows, columns.
        position: Centre of the first voxel, mm, LPS; None if the header does not say.
        row: Direction in which the column index grows, LPS unit vector.
        column: Direction in which the row index grows.
        spacing: mm between rows, mm between columns.
        thickness: mm, 0 if unknown: only for an image that is alone.
        traits: What may tell the volumes of one series apart.
    """

    file: str
    index: int | None
    instance: str
    shape: tuple[int, int]
    position: Vector | None
    row: Vector | None
    column: Vector | None
    spacing: tuple[float, float] | None
    thickness: float
    traits: Mapping[str, str]


@dataclass(frozen=True)
class Header:
    """One DICOM object: what its frames share."""

    series: str
    space: str
    number: str
    modality: str
    description: str
    image_type: tuple[str, ...]
    colour: bool
    frames: tuple[Frame, ...]
    """Empty for an object that holds no image."""


@dataclass(frozen=True)
class Scan:
    """All that a folder, zip or file holds."""

    headers: tuple[Header, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    """Files that are DICOM and cannot be read, or cannot be opened: name and reason."""
    others: tuple[str, ...] = ()
    """Files that are no DICOM, and lists of files (DICOMDIR)."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom from warning: its messages quote header values, which may be the patient's."""
    from pydicom.config import disable_value_validation

    log = logging.getLogger("pydicom")
    before = log.disabled
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        log.disabled = True
        try:
            yield
        finally:
            log.disabled = before


def scan(files: Files) -> Scan:
    """Read every header. What is not DICOM is passed over; what is and cannot be read is named."""
    headers, others, left_out = [], [], list(files.left_out)
    with quiet():
        for name in files.names:
            try:
                with files.header(name) as file:
                    found = _read_header(name, file) if file else None
            except ImageError as error:
                left_out.append((name, error.what))
                continue
            if found is None:
                others.append(name)
            else:
                headers.append(found)
    return Scan(tuple(headers), tuple(left_out), tuple(others))


def _read_header(name: str, file: Bounded) -> Header | None:
    try:
        return _header(name, file)
    except Exception:  # a damaged header may fail anywhere in pydicom, and the message may quote the patient
        raise ImageError(DAMAGED, "Copy the file again.", name) from None


DAMAGED = "damaged DICOM files"


def _header(name: str, file: Bounded) -> Header | None:
    """What one object's frames share; None for a list of files, and for what only looked like DICOM.

    De-identified files may have any identifier empty or absent; an image needs rows, columns, and a place.
    """
    from pydicom import dcmread
    from pydicom.uid import MediaStorageDirectoryStorage

    file.seek(128)
    signed = file.read(4) == b"DICM"
    file.seek(0)
    dataset = dcmread(file, force=True, stop_before_pixels=True, specific_tags=list(_HEADER_TAGS))
    if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return None
    kind = dataset.get("SOPClassUID", None) or dataset.file_meta.get("MediaStorageSOPClassUID", None)
    image = "Rows" in dataset or (bool(kind) and "Image Storage" in kind.name)
    if not kind and not image:
        if signed:
            raise ValueError("cut off before it says what it is")
        return None  # only looked like a file without a preamble
    return Header(
        series=text(dataset, "SeriesInstanceUID"),
        space=text(dataset, "FrameOfReferenceUID"),
        number="".join(c for c in text(dataset, "SeriesNumber") if c.isprintable())[:_LONGEST_NUMBER],
        modality=modality_of(dataset),
        description=_description(dataset),
        image_type=_image_type(dataset),
        colour=number(dataset, "SamplesPerPixel") not in (None, 1),
        frames=frames_of(name, dataset) if image else (),
    )


def _image_type(dataset: Dataset) -> tuple[str, ...]:
    parts = dataset.get("ImageType", None) or ()
    return (parts,) if isinstance(parts, str) else tuple(str(part) for part in parts)


def frames_of(name: str, dataset: Dataset) -> tuple[Frame, ...]:
    """Where each image of one object lies."""
    if groups := _groups(dataset):
        shared = item_of(dataset, "SharedFunctionalGroupsSequence")
        return tuple(_grouped_frame(name, index, dataset, own, shared) for index, own in enumerate(groups))
    traits = {trait: text(dataset, trait) for trait in _SPLITTERS}
    for trait in _TYPED:
        traits[trait] = hashlib.sha256(traits[trait].encode()).hexdigest()
    if (number(dataset, "NumberOfFrames") or 1) == 1:
        return (_frame(name, None, dataset, dataset, dataset, dataset, traits),)
    # A multi-frame object without functional groups (ultrasound, fluoroscopy, a screen film) is no volume.
    return (_frame(name, 0, dataset, {}, {}, {}, traits),)


def _groups(dataset: Dataset) -> Any:
    from pydicom.sequence import Sequence

    groups = dataset.get("PerFrameFunctionalGroupsSequence", None)
    return groups if isinstance(groups, Sequence) else ()


def _grouped_frame(name: str, index: int, dataset: Dataset, own: Any, shared: Any) -> Frame:
    def group(keyword: str) -> Any:
        return item_of(own, keyword) or item_of(shared, keyword)

    traits = {trait: text(group(sequence), keyword) for trait, (sequence, keyword) in _GROUPED.items()}
    position, orientation = group("PlanePositionSequence"), group("PlaneOrientationSequence")
    return _frame(name, index, dataset, position, orientation, group("PixelMeasuresSequence"), traits)


def _frame(
    name: str, index: int | None, dataset: Dataset, where: Any, turn: Any, measures: Any, traits: Mapping[str, str]
) -> Frame:
    position, turned = _several(where, "ImagePositionPatient", 3), _several(turn, "ImageOrientationPatient", 6)
    spacing = _several(measures, "PixelSpacing", 2)
    return Frame(
        file=name,
        index=index,
        instance=text(dataset, "SOPInstanceUID"),
        shape=(int(dataset.Rows), int(dataset.Columns)),
        position=(position[0], position[1], position[2]) if position else None,
        row=(turned[0], turned[1], turned[2]) if turned else None,
        column=(turned[3], turned[4], turned[5]) if turned else None,
        spacing=(spacing[0], spacing[1]) if spacing and min(spacing) > 0 else None,
        thickness=abs(number(measures, "SpacingBetweenSlices") or number(measures, "SliceThickness") or 0.0),
        traits=traits,
    )


def _several(source: Any, keyword: str, count: int) -> list[float] | None:
    found = numbers(source, keyword)
    return found if found is not None and len(found) == count else None


def _description(dataset: Dataset) -> str:
    """The series' description; operators type patients' names and dates into it, so known ones are cut out."""
    found = text(dataset, "SeriesDescription") or text(dataset, "ProtocolName")
    secrets = re.split(r"[\^=,\s]+", text(dataset, "PatientName"))
    secrets += [text(dataset, tag) for tag in _SECRETS]
    for secret in secrets:
        if len(secret) >= 3:
            found = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "", found, flags=re.IGNORECASE)
    return " ".join("".join(c if c.isprintable() else " " for c in found).split())[:80]
