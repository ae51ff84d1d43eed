"""DICOM SEG, through highdicom."""
# mypy: allow-untyped-calls

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import ImageError, OutputError
from medsegagent.export.planes import on_planes
from medsegagent.export.segment import Coding, Segment, Segments, layers
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
    pixels = _pixels(items, segments, source)
    with quiet():
        try:
            segmentation = hd.seg.Segmentation(
                source_images=list(source.headers),
                pixel_array=pixels,
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
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # whose messages may quote the header
            what = f"the series lacks what a DICOM SEG repeats of it ({type(error).__name__})"
            raise ImageError(what, "Export it again, or choose another format.", str(path.name)) from error


def _pixels(items: list[Segment], segments: Segments, source: Source) -> NDArray[np.uint8]:
    """A label map by segment number where none overlap, `(frames, rows, columns)`; else one plane per segment, last."""
    planes = on_planes([item.mask for item in items], segments.grid, source.frames)
    shape = len(source.frames), *source.frames[0].shape
    slots = _slots(source)
    if len(items) < 256 and len(layers(items)) == 1:
        labelled = np.zeros(shape, dtype=np.uint8)
        for slot, plane in zip(slots, planes, strict=True):
            for number, mask in enumerate(plane, 1):
                labelled[slot][mask] = number
        return labelled
    stack = np.zeros((*shape, len(items)), dtype=np.uint8)
    for slot, plane in zip(slots, planes, strict=True):
        stack[slot] = np.moveaxis(plane, 0, -1)
    return stack


def _slots(source: Source) -> list[int]:
    """The place of each slice in the source: a multi-frame object's own frame order need not be the slices'."""
    if len(source.headers) > 1:
        return list(range(len(source.frames)))
    places = np.argsort(np.argsort([frame.index or 0 for frame in source.frames]))
    return [int(place) for place in places]


def _description(number: int, segment: Segment, software: str) -> SegmentDescription:
    import highdicom as hd
    from highdicom.color import CIELabColor

    coding = segment.coding or Coding("", segment.name)
    description = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=segment.name.replace("\\", "/")[:64],
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

    return CodedConcept(value=value, scheme_designator=scheme, meaning=meaning.replace("\\", "/")[:64])
