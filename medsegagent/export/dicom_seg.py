"""DICOM SEG, through highdicom."""
# mypy: allow-untyped-calls

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import OutputError
from medsegagent.export.planes import on_planes
from medsegagent.export.segment import Coding, Segment, Segments
from medsegagent.images.dicom import Source
from medsegagent.images.dicom_frames import quiet

if TYPE_CHECKING:
    from highdicom.seg import SegmentDescription
    from highdicom.sr import CodedConcept

_ANATOMICAL = ("123037004", "SCT", "Anatomical Structure")
_ABNORMAL = ("49755003", "SCT", "Morphologically Abnormal Structure")
_SIDES = {"left": ("7771000", "SCT", "Left"), "right": ("24028007", "SCT", "Right")}
_PRIVATE = "99MEDSEGAGENT"
_SERIES_NUMBER = 901


def write_dicom_seg(segments: Segments, source: Source, path: Path, software: str) -> None:
    """Write one binary DICOM SEG that refers to the source's images, frame by frame.

    Patient, study and frame of reference are the source's. A structure without a SNOMED code gets a private one.

    Args:
        segments: What to write.
        source: The series that it was made on.
        path: The file.
        software: This package's version.

    Raises:
        OutputError: If every mask is empty, for which DICOM SEG has no form.
        ImageError: If the source lies elsewhere.
    """
    import highdicom as hd
    from pydicom.uid import generate_uid

    items = [segment for segment in segments.items if segment.mask.any()]
    if not items:
        raise OutputError("all masks are empty, and DICOM SEG cannot hold an empty segmentation", "Leave it out.")
    with quiet():
        segmentation = hd.seg.Segmentation(
            source_images=list(source.headers),
            pixel_array=_pixels(items, segments, source),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[_description(number, item, software) for number, item in enumerate(items, 1)],
            series_instance_uid=generate_uid(),
            series_number=_SERIES_NUMBER,
            sop_instance_uid=generate_uid(),
            instance_number=1,
            manufacturer="medsegagent",
            manufacturer_model_name="medsegagent",
            software_versions=software,
            device_serial_number="none",
            content_label="SEGMENTATION",
            content_description="Automatic segmentation, research use",
            content_creator_name="medsegagent^",
            series_description="Automatic segmentation (research use)",
        )
        segmentation.save_as(path, enforce_file_format=True)


def _pixels(items: list[Segment], segments: Segments, source: Source) -> NDArray[np.uint8]:
    """A label map by segment number where none overlap, `(frames, rows, columns)`; else one plane per segment, last."""
    planes = on_planes([item.mask for item in items], segments.grid, source.frames)
    stack = np.stack([plane.astype(np.uint8) for plane in planes], axis=0)
    order = _file_order(source)
    if len(items) < 256 and int(stack.sum(axis=1, dtype=np.uint16).max()) <= 1:
        numbers = np.arange(1, len(items) + 1, dtype=np.uint8)
        labelled: NDArray[np.uint8] = np.einsum("fsrc,s->frc", stack, numbers, dtype=np.uint8, casting="unsafe")
        return labelled[order]
    return np.moveaxis(stack, 1, -1)[order]


def _file_order(source: Source) -> list[int]:
    """A multi-frame source is referred to in its own frame order, which need not be the slices'."""
    if len(source.headers) > 1 or len(source.frames) == 1:
        return list(range(len(source.frames)))
    return [int(i) for i in np.argsort([frame.index or 0 for frame in source.frames])]


def _description(number: int, segment: Segment, software: str) -> SegmentDescription:
    import highdicom as hd
    from highdicom.color import CIELabColor

    coding = segment.coding or Coding("", segment.name)
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name[:64],
        segmented_property_category=_code(*(_ABNORMAL if coding.lesion else _ANATOMICAL)),
        segmented_property_type=_code(coding.code, "SCT", coding.meaning)
        if coding.code
        else _code(f"S{segment.value}", _PRIVATE, coding.meaning),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="medsegagent", version=software, family=_code("123109", "DCM", "Artificial Intelligence")
        ),
        tracking_uid=hd.UID(),
        tracking_id=segment.id[:64],
        display_color=CIELabColor.from_rgb(*segment.colour),
    )
    if coding.side:
        description.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            _code(*_SIDES[coding.side])
        ]
    return description


def _code(value: str, scheme: str, meaning: str) -> CodedConcept:
    from highdicom.sr import CodedConcept

    return CodedConcept(value=value, scheme_designator=scheme, meaning=meaning[:64])
