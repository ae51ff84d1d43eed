"""DICOM headers -> frames: where each 2D image lies. No pixel is decoded, and no name, id or date is kept."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from medsegagent.images.dicom_files import Files

if TYPE_CHECKING:
    from pydicom import Dataset

Vector = tuple[float, float, float]

_SECRETS = ("PatientID", "PatientBirthDate", "StudyDate", "AccessionNumber")
_HEADER_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality", "SeriesNumber"),
    *("SeriesDescription", "ProtocolName", "ImageType", "Rows", "Columns", "SamplesPerPixel", "NumberOfFrames"),
    *("PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient", "SpacingBetweenSlices", "SliceThickness"),
    *("EchoTime", "EchoNumbers", "TemporalPositionIdentifier", "DiffusionBValue", "InversionTime", "FlipAngle"),
    *("TriggerTime", "AcquisitionNumber", "AcquisitionTime", "InstanceNumber"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("PatientName", *_SECRETS),
]
_SPLITTERS = (
    *("ImageType", "EchoNumbers", "EchoTime", "InversionTime", "FlipAngle", "DiffusionBValue"),
    *("TemporalPositionIdentifier", "TriggerTime", "AcquisitionNumber", "AcquisitionTime"),
)
"""What may tell the volumes of one series apart, in the order in which they are tried."""
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
        instance: SOP instance UID.
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
    damaged: tuple[str, ...]
    """Files that are DICOM and cannot be read."""


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
    headers, damaged = [], []
    with quiet():
        for name in files.names:
            try:
                data = files.read_dicom(name)
                headers.append(_header(name, data) if data else None)
            except Exception:  # a damaged header may fail anywhere in pydicom, and the message may quote the patient
                damaged.append(name)
    return Scan(tuple(header for header in headers if header), tuple(damaged))


def _header(name: str, data: bytes) -> Header | None:
    from pydicom import dcmread
    from pydicom.uid import MediaStorageDirectoryStorage

    dataset = dcmread(BytesIO(data), force=True, stop_before_pixels=True, specific_tags=list(_HEADER_TAGS))
    if dataset.file_meta.get("MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
        return None
    if "SOPClassUID" not in dataset and data[128:132] != b"DICM":
        return None  # only looked like an old file without a preamble
    image = "Image Storage" in dataset.SOPClassUID.name or "Rows" in dataset
    return Header(
        series=str(dataset.SeriesInstanceUID),  # mandatory, so a header cut off early fails here
        space=str(dataset.get("FrameOfReferenceUID", "")),
        number=str(dataset.get("SeriesNumber", "") or ""),
        modality=str(dataset.get("Modality", "") or ""),
        description=_description(dataset),
        image_type=tuple(str(part) for part in dataset.get("ImageType", None) or ()),
        colour=int(dataset.get("SamplesPerPixel", 1) or 1) != 1,
        frames=_frames(name, dataset) if image else (),
    )


def _frames(name: str, dataset: Dataset) -> tuple[Frame, ...]:
    if "PerFrameFunctionalGroupsSequence" in dataset:
        shared = (dataset.get("SharedFunctionalGroupsSequence", None) or [{}])[0]
        groups = dataset.PerFrameFunctionalGroupsSequence
        return tuple(_grouped_frame(name, index, dataset, own, shared) for index, own in enumerate(groups))
    traits = {trait: str(dataset.get(trait, "") or "") for trait in _SPLITTERS}
    if int(dataset.get("NumberOfFrames", 1) or 1) == 1:
        return (_frame(name, None, dataset, dataset, dataset, dataset, traits),)
    # A multi-frame object without functional groups (ultrasound, fluoroscopy, a screen film) is no volume.
    return (_frame(name, 0, dataset, {}, {}, {}, traits),)


def _grouped_frame(name: str, index: int, dataset: Dataset, own: Any, shared: Any) -> Frame:
    def group(keyword: str) -> Any:
        sequence = own.get(keyword, None) or shared.get(keyword, None)
        return sequence[0] if sequence else {}

    traits = {trait: str(group(sequence).get(keyword, "")) for trait, (sequence, keyword) in _GROUPED.items()}
    position, orientation = group("PlanePositionSequence"), group("PlaneOrientationSequence")
    return _frame(name, index, dataset, position, orientation, group("PixelMeasuresSequence"), traits)


def _frame(
    name: str, index: int | None, dataset: Dataset, where: Any, turn: Any, measures: Any, traits: Mapping[str, str]
) -> Frame:
    position, turned = _numbers(where, "ImagePositionPatient", 3), _numbers(turn, "ImageOrientationPatient", 6)
    spacing = _numbers(measures, "PixelSpacing", 2)
    return Frame(
        file=name,
        index=index,
        instance=str(dataset.get("SOPInstanceUID", "")),
        shape=(int(dataset.Rows), int(dataset.Columns)),
        position=(position[0], position[1], position[2]) if position else None,
        row=(turned[0], turned[1], turned[2]) if turned else None,
        column=(turned[3], turned[4], turned[5]) if turned else None,
        spacing=(spacing[0], spacing[1]) if spacing and min(spacing) > 0 else None,
        thickness=float(measures.get("SpacingBetweenSlices", None) or measures.get("SliceThickness", None) or 0),
        traits=traits,
    )


def _numbers(source: Any, keyword: str, count: int) -> list[float] | None:
    value = source.get(keyword, None)
    return [float(part) for part in value] if value is not None and len(value) == count else None


def _description(dataset: Dataset) -> str:
    """The series' description; operators type patients' names and dates into it, so known ones are cut out."""
    text = str(dataset.get("SeriesDescription", "") or dataset.get("ProtocolName", "") or "")
    secrets = re.split(r"[\^=,\s]+", str(dataset.get("PatientName", "") or ""))
    secrets += [str(dataset.get(tag, "") or "") for tag in _SECRETS]
    for secret in secrets:
        if len(secret) >= 3:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", "", text, flags=re.IGNORECASE)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:80]
