"""Read a volume from a DICOM folder (any nesting, mixed series), a zip of one, or a DICOM file."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medsegagent.errors import ImageError
from medsegagent.images.dicom_files import looks_like_dicom, open_files
from medsegagent.images.dicom_frames import Frame, quiet, scan
from medsegagent.images.dicom_geometry import arrange
from medsegagent.images.dicom_pixels import read_stack
from medsegagent.images.dicom_series import Series, choose, group
from medsegagent.images.dicom_suv import NotConvertibleError, suv_factor
from medsegagent.images.geometry import describe
from medsegagent.images.volume import Grid, ModalityEvidence, Volume

if TYPE_CHECKING:
    from pydicom import Dataset

_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_WANTED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName"),
    *("StudyID", "StudyDate", "StudyTime"),
)

MAX_VOXELS = 2**31
"""8 GiB as float32."""


def is_dicom(path: Path) -> bool:
    """Tell whether a path is for this reader: a folder, a zip, or a file that starts as DICOM does."""
    if path.is_dir() or path.suffix.lower() in (".dcm", ".zip"):
        return True
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return looks_like_dicom(file.read(132))


def list_series(path: Path) -> tuple[tuple[Series, ...], tuple[str, ...]]:
    """List the volumes at a path, usable or not, and warnings on what was left out.

    Raises:
        ImageError: If there is nothing there, no DICOM, or a zip that is damaged or hostile.
    """
    with open_files(path) as files:
        found = scan(files)
    if not found.headers and not found.damaged:
        raise ImageError("there is no DICOM file in it", "Give the folder that holds the images.", str(path))
    return group(found)


@dataclass(frozen=True)
class Source:
    """A series to which DICOM results refer.

    Attributes:
        frames: One per slice, in the order of the volume's z axis.
        grid: Of the volume.
        headers: The objects behind them without pixels, in the same order: one per frame, or a single multi-frame one.
            They hold the patient's data, which a DICOM result repeats and nothing else may.
    """

    frames: tuple[Frame, ...]
    grid: Grid
    headers: tuple[Dataset, ...]


def read_source(path: Path, series: str = "", family: str | None = None) -> Source:
    """Read a series' headers; the arguments and errors are those of `read_dicom`.

    Elements that anonymisers remove and DICOM wants at least empty are added empty.
    """
    from pydicom import dcmread

    listed, _ = list_series(path)
    chosen, _ = choose(listed, series, family, where=str(path))
    layout = arrange(chosen.frames)
    names = dict.fromkeys(frame.file for frame in layout.frames)
    if len(names) not in (1, len(layout.frames)):
        what = f"series {chosen.key} is spread over {len(names)} multi-frame objects"
        raise ImageError(what, "Results can refer to one such object, or to single-frame ones.", str(path))
    with open_files(path) as files, quiet():
        headers = tuple(dcmread(BytesIO(files.read(name)), force=True, stop_before_pixels=True) for name in names)
    for header in headers:
        for keyword in _NEEDED:
            if not header.get(keyword):
                what = f"the series has no {keyword}, to which a DICOM result must refer"
                raise ImageError(what, "Export it again without removing identifiers (UIDs).", str(path))
        for keyword in _WANTED:
            if keyword not in header:
                setattr(header, keyword, "")
    return Source(layout.frames, layout.grid, headers)


def read_dicom(path: Path, channel: str = "", *, series: str = "", family: str | None = None) -> Volume:
    """Read one series.

    The array's index order is columns, rows, slices along row x column, as ITK's. Intensities are rescaled: CT in HU,
    PET in SUVbw where the header allows (else as stored, with a warning).

    Args:
        path: A folder, a zip or a file.
        channel: The name that the user gave it; of several series, the one whose description says so is meant.
        series: Which one: its number or a part of its description; empty for the one that fits.
        family: CT, MR or PET, where the request names one.

    Raises:
        ImageError: If nothing usable is there, or the one chosen is damaged or cannot be laid on a regular grid.
        UsageError: If `series` names none or several.
        SeriesNeededError: If several series could be meant.
    """
    listed, left_out = list_series(path)
    chosen, note = choose(listed, series, family, channel, str(path))
    try:
        layout = arrange(chosen.frames)
        if np.prod(layout.grid.size, dtype=float) > MAX_VOXELS:
            raise ImageError(f"the series is too large ({describe(layout.grid)})", "Export a part of it.")
        with open_files(path) as files:
            array, sha256, headers = read_stack(files, layout)
    except ImageError as error:
        place = f"{path}, series {chosen.key}" + (f", {error.where}" if error.where else "")
        raise ImageError(error.what, error.remedy, place) from error
    warnings = note + left_out + chosen.warnings
    unit = "HU" if chosen.family == "CT" else ""
    if chosen.family == "PET":
        try:
            array *= np.float32(suv_factor(headers))
            unit = "SUVbw"
        except NotConvertibleError as error:
            warnings += (f"PET values are as stored and not SUV: {error}",)
    return Volume(
        array=array,
        grid=layout.grid,
        channel=channel,
        path=path,
        sha256=sha256,
        evidence=ModalityEvidence(chosen.family, 1.0, f"DICOM tag: {chosen.modality or 'no modality'}"),
        warnings=warnings,
        unit=unit,
        series=chosen.key,
        space=chosen.space,
    )
