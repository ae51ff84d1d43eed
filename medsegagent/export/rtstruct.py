"""DICOM RT Structure Set: closed planar contours on the source's slices, through pydicom."""
# mypy: allow-untyped-calls

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import OutputError
from medsegagent.export.planes import on_planes
from medsegagent.export.segment import Segment, Segments, bounding_box
from medsegagent.images.dicom import Source
from medsegagent.images.dicom_frames import Frame, quiet

if TYPE_CHECKING:
    from pydicom import Dataset

Points = NDArray[np.float64]

_SERIES_NUMBER = 902
_PATIENT_AND_STUDY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientAge", "PatientWeight"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "StudyDescription", "AccessionNumber"),
    *("ReferringPhysicianName", "SpecificCharacterSet", "IssuerOfPatientID", "PatientIdentityRemoved"),
)


def write_rtstruct(segments: Segments, source: Source, path: Path, software: str) -> None:
    """Write one structure set that refers to the source's slices.

    Contours run midway between the pixels inside and outside, so that filling them gives the mask's pixels back. A
    hole is joined to its outline by a channel of no width (the keyhole technique), which every reader fills alike.

    Args:
        segments: What to write.
        source: The series that it was made on.
        path: The file.
        software: This package's version.

    Raises:
        OutputError: If every mask is empty.
        ImageError: If the source lies elsewhere.
    """
    from pydicom.sequence import Sequence as Items

    items = [segment for segment in segments.items if segment.mask.any()]
    if not items:
        raise OutputError("all masks are empty: there is nothing to draw", "Leave it out.")
    contours: list[list[Dataset]] = [[] for _ in items]
    planes = on_planes([item.mask for item in items], segments.grid, source.frames)
    with quiet():
        for frame, masks in zip(source.frames, planes, strict=True):
            for found, mask in zip(contours, masks, strict=True):
                found += [_contour(points, frame, source) for points in _outlines(mask, frame)]
        dataset = _structure_set(source, software)
        dataset.StructureSetROISequence = Items(_roi(n, item, source) for n, item in enumerate(items, 1))
        dataset.ROIContourSequence = Items(
            _with(
                ROIDisplayColor=list(item.colour),
                ReferencedROINumber=number,
                ContourSequence=Items(found),
            )
            for number, (item, found) in enumerate(zip(items, contours, strict=True), 1)
        )
        dataset.RTROIObservationsSequence = Items(_observation(n, item) for n, item in enumerate(items, 1))
        dataset.save_as(path, enforce_file_format=True)


def _outlines(mask: NDArray[np.bool_], frame: Frame) -> list[Points]:
    """Closed outlines in mm, LPS, `(N, 3)`, holes joined in."""
    from skimage.measure import find_contours

    if not mask.any():
        return []
    box = bounding_box(mask)
    corner = np.array([part.start - 1 for part in box])
    # 0.5 between 0 and 1 lies midway; "low" keeps diagonal neighbours apart, as the holes' background is joined.
    rings = [ring[:-1] + corner for ring in find_contours(np.pad(mask[box], 1).astype(np.float32), 0.5, "low")]
    turn = np.sign(max((_area(ring) for ring in rings), key=abs))  # the largest is an outline; holes turn the other way
    outer = [ring for ring in rings if _area(ring) * turn > 0]
    holes = [ring for ring in rings if _area(ring) * turn < 0]
    merged = dict(enumerate(outer))
    for hole in sorted(holes, key=lambda ring: -abs(_area(ring))):
        owner = min((i for i in merged if _inside(hole[0], outer[i])), key=lambda i: abs(_area(outer[i])))
        merged[owner] = _keyhole(merged[owner], hole)
    return [_patient(ring, frame) for ring in merged.values()]


def _area(ring: Points) -> float:
    """Signed area of a polygon, in pixels."""
    x, y = ring[:, 1], ring[:, 0]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _inside(point: Points, ring: Points) -> bool:
    """Even-odd rule."""
    y, x = ring[:, 0], ring[:, 1]
    next_y, next_x = np.roll(y, -1), np.roll(x, -1)
    crosses = (y > point[0]) != (next_y > point[0])
    at = x + (point[0] - y) * (next_x - x) / np.where(crosses, next_y - y, 1)
    return bool(np.count_nonzero(crosses & (at > point[1])) % 2)


def _keyhole(ring: Points, hole: Points) -> Points:
    """Walk the outline to its point nearest the hole, around the hole, and back."""
    from scipy.spatial import cKDTree

    distance, nearest = cKDTree(ring).query(hole)
    end = int(np.argmin(distance))
    start = int(nearest[end])
    around = np.roll(hole, -end, axis=0)
    return np.concatenate([ring[: start + 1], around, around[:1], ring[start:]])


def _patient(ring: Points, frame: Frame) -> Points:
    row, column = np.array(frame.row), np.array(frame.column)
    between_rows, between_columns = frame.spacing or (1.0, 1.0)
    start = np.array(frame.position, dtype=np.float64)
    points: Points = start + ring[:, :1] * between_rows * column + ring[:, 1:] * between_columns * row
    return points


def _contour(points: Points, frame: Frame, source: Source) -> Dataset:
    from pydicom.sequence import Sequence as Items

    return _with(
        ContourImageSequence=Items([_image(frame, source)]),
        ContourGeometricType="CLOSED_PLANAR",
        NumberOfContourPoints=len(points),
        ContourData=[f"{value:.4f}" for value in points.ravel()],
    )


def _image(frame: Frame, source: Source) -> Dataset:
    found = _with(ReferencedSOPClassUID=source.headers[0].SOPClassUID, ReferencedSOPInstanceUID=frame.instance)
    if frame.index is not None:
        found.ReferencedFrameNumber = frame.index + 1
    return found


def _structure_set(source: Source, software: str) -> Any:
    """Everything but the structures."""
    from pydicom import FileDataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.sequence import Sequence as Items
    from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

    first, now = source.headers[0], datetime.now().astimezone()
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = RTStructureSetStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.OperatorsName = ""
    for keyword in _PATIENT_AND_STUDY:
        if keyword in first:
            dataset[keyword] = first[keyword]
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTStructureSetStorage, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.SeriesInstanceUID, dataset.SeriesNumber = "RTSTRUCT", generate_uid(), _SERIES_NUMBER
    dataset.SeriesDescription = "Automatic segmentation (research use)"
    dataset.Manufacturer = dataset.ManufacturerModelName = "medsegagent"
    dataset.SoftwareVersions, dataset.InstanceNumber = software, 1
    dataset.StructureSetLabel = "SEGMENTATION"
    dataset.StructureSetDate = dataset.InstanceCreationDate = now.strftime("%Y%m%d")
    dataset.StructureSetTime = dataset.InstanceCreationTime = now.strftime("%H%M%S")
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = first.FrameOfReferenceUID, ""
    images = {frame.instance: _image(frame, source) for frame in source.frames}
    for image in images.values():
        image.pop("ReferencedFrameNumber", None)
    series = _with(SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=Items(images.values()))
    study = _with(
        ReferencedSOPClassUID="1.2.840.10008.3.1.2.3.1",  # Detached Study Management, retired, still what is asked for
        ReferencedSOPInstanceUID=first.StudyInstanceUID,
        RTReferencedSeriesSequence=Items([series]),
    )
    dataset.ReferencedFrameOfReferenceSequence = Items(
        [_with(FrameOfReferenceUID=first.FrameOfReferenceUID, RTReferencedStudySequence=Items([study]))]
    )
    return dataset


def _roi(number: int, segment: Segment, source: Source) -> Dataset:
    return _with(
        ROINumber=number,
        ReferencedFrameOfReferenceUID=source.headers[0].FrameOfReferenceUID,
        ROIName=segment.name.replace("\\", "/")[:64],
        ROIGenerationAlgorithm="AUTOMATIC",
    )


def _observation(number: int, segment: Segment) -> Dataset:
    from pydicom.sequence import Sequence as Items

    found = _with(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="ORGAN", ROIInterpreter="")
    if segment.coding and segment.coding.code:
        meaning = segment.coding.meaning[:64]
        found.RTROIIdentificationCodeSequence = Items(
            [_with(CodeValue=segment.coding.code, CodingSchemeDesignator="SCT", CodeMeaning=meaning)]
        )
    return found


def _with(**elements: Any) -> Dataset:
    from pydicom import Dataset

    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset
