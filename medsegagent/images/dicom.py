"""Read a volume from a DICOM folder (any nesting, mixed series), a zip of one, or a DICOM file."""

from __future__ import annotations

import zipfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import numpy as np

from medsegagent.errors import ImageError
from medsegagent.images.dicom_files import Files, looks_like_dicom, open_files
from medsegagent.images.dicom_frames import Frame, Scan, quiet, scan
from medsegagent.images.dicom_geometry import arrange
from medsegagent.images.dicom_pixels import AIR, read_stack
from medsegagent.images.dicom_series import Series, group, pick_series
from medsegagent.images.dicom_suv import NotConvertibleError, suv_factor
from medsegagent.images.dicom_values import number, text, with_points
from medsegagent.images.files import open_regular
from medsegagent.images.geometry import describe
from medsegagent.images.modality import about_guess, estimate_modality, not_hounsfield
from medsegagent.images.stored import MAX_VOXELS
from medsegagent.images.volume import Grid, ModalityEvidence, Volume

if TYPE_CHECKING:
    from pydicom import Dataset

_NEEDED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_WANTED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "ReferringPhysicianName"),
    *("StudyID", "StudyDate", "StudyTime"),
)

_VOLUMES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


def is_dicom(path: Path) -> bool:
    """Tell whether a path is for this reader: a folder, a zip, or a file that starts as DICOM does."""
    if path.is_dir() or path.suffix.lower() in (".dcm", ".zip"):
        return True
    if path.name.upper() == "DICOMDIR":
        return True
    if not path.is_file():
        return False
    with open_regular(path) as file:
        return looks_like_dicom(file.read(132))


def list_series(path: Path) -> tuple[tuple[Series, ...], tuple[str, ...]]:
    """List the volumes at a path, usable or not, and warnings on what was left out.

    Raises:
        ImageError: If there is nothing there, no DICOM, or a zip that is damaged or hostile.
    """
    with open_files(path) as files:
        found = scan(files)
    series, warnings = group(found)
    if not series:
        raise _nothing(path, found, warnings)
    return series, warnings


def _nothing(path: Path, found: Scan, warnings: tuple[str, ...]) -> ImageError:
    """Say what is there instead of images, and what to give."""
    why = "; ".join(warnings)
    if path.is_file() and found.others and path.name.upper() == "DICOMDIR":
        remedy = f"Give the folder that it describes: {path.absolute().parent}."
        return ImageError("it is a DICOMDIR, a list of the images in a folder", remedy, str(path))
    if found.others:
        kinds = Counter(PurePosixPath(name).suffix.lower() or "no extension" for name in found.others)
        listed = ", ".join(f"{count} with {kind}" for kind, count in kinds.most_common(4))
        why = "; ".join([*warnings, f"{len(found.others)} files that are no DICOM image ({listed})"])
    what = "there is no DICOM image in it" if found.headers or found.left_out else "there is no DICOM file in it"
    if path.is_file() and not zipfile.is_zipfile(path):
        what, why = "it is no DICOM image, or a damaged one", "; ".join(warnings)
    volumes = [name for name in found.others if name.lower().endswith(_VOLUMES)]
    remedy = "Give the folder that holds the images."
    if volumes and path.is_file():
        remedy = f"Unpack it, and give a file in it, such as {volumes[0]}."
    elif len(volumes) == 1:
        remedy = f"Give the file itself: {path / volumes[0]}."
    elif volumes:
        remedy = f"Give one file itself, such as {path / volumes[0]}, or the folder as --cases."
    return ImageError(f"{what}: {why}" if why else what, remedy, str(path))


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
    listed, left_out = list_series(path)
    chosen, _ = _chosen(path, listed, left_out, series, family)
    layout = arrange(chosen.frames)
    names = dict.fromkeys(frame.file for frame in layout.frames)
    if len(names) not in (1, len(layout.frames)):
        what = f"series {chosen.key} is spread over {len(names)} multi-frame objects"
        raise ImageError(what, "Results can refer to one such object, or to single-frame ones.", str(path))
    with open_files(path) as files, quiet():
        headers = tuple(_whole_header(files, name) for name in names)
        for header in headers:
            if number(header, "SliceThickness") is None:
                header.SliceThickness = f"{layout.grid.spacing[2]:.6g}"
    _check_identifiers(headers, str(path))
    return Source(layout.frames, layout.grid, headers)


def read_grid(path: Path, series: str = "", family: str | None = None) -> Grid:
    """Read where a series' voxels lie; the arguments and errors are those of `read_dicom`."""
    listed, left_out = list_series(path)
    return arrange(_chosen(path, listed, left_out, series, family)[0].frames).grid


def _whole_header(files: Files, name: str) -> Dataset:
    from pydicom import dcmread

    with files.header(name) as file:
        if file is None:
            raise ImageError("it is no DICOM any more", "Leave the folder alone while it is read.", name)
        header = with_points(dcmread(file, force=True, stop_before_pixels=True))
    for keyword in _WANTED:
        if keyword not in header:
            setattr(header, keyword, "")
    return header


def _check_identifiers(headers: tuple[Dataset, ...], where: str) -> None:
    """Refuse a series to which nothing can refer."""
    remedy = "Export it again without removing or changing identifiers (UIDs), or choose another format."
    for header in headers:
        for keyword in _NEEDED:
            if not text(header, keyword):
                what = f"the series has no {keyword}, to which a DICOM result must refer"
                raise ImageError(what, remedy, where)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        if len({text(header, keyword) for header in headers}) > 1:
            what = f"its images do not have one {keyword}, and a DICOM result must refer to one series"
            raise ImageError(what, remedy, where)
    if len({text(header, "SOPInstanceUID") for header in headers}) < len(headers):
        what = "several images have the same SOPInstanceUID, so that a DICOM result cannot refer to one of them"
        raise ImageError(what, remedy, where)


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
    chosen, note = _chosen(path, listed, left_out, series, family, channel)
    try:
        layout = arrange(chosen.frames)
        if np.prod(layout.grid.size, dtype=float) > MAX_VOXELS:
            raise ImageError(f"the series is too large ({describe(layout.grid)})", "Export a part of it.")
        with open_files(path) as files:
            stack = read_stack(files, layout)
    except ImageError as error:
        place = f"{path}, series {chosen.key}" + (f", {error.where}" if error.where else "")
        raise ImageError(_with(error.what, left_out), error.remedy, place) from error
    except MemoryError as error:
        what = f"not enough memory for the series ({describe(layout.grid)})"
        raise ImageError(what, "Export a part of it, or close other programs.", str(path)) from error
    array, sha256, headers, padded = stack
    evidence = ModalityEvidence(chosen.family, 1.0, f"DICOM tag: {chosen.modality or 'no modality'}")
    warnings = note + left_out + chosen.warnings
    if padded:
        warnings += (f"what lies outside the scanner's field of view (PixelPaddingValue) was set to air, {AIR:.0f} HU",)
    unit = ""
    if not chosen.modality:
        evidence = estimate_modality(array)
        warnings += about_guess(evidence, array, family)
    elif chosen.family == "CT":
        doubts = not_hounsfield(array)
        warnings, unit = warnings + doubts, "" if doubts else "HU"
    elif chosen.family == "PET":
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
        evidence=evidence,
        warnings=warnings,
        unit=unit,
        series=chosen.key,
        space=chosen.space,
    )


def _chosen(
    path: Path,
    listed: tuple[Series, ...],
    left_out: tuple[str, ...],
    series: str = "",
    family: str | None = None,
    channel: str = "",
) -> tuple[Series, tuple[str, ...]]:
    """Choose, and say what was left out and what to give where nothing can be."""
    try:
        return pick_series(listed, series, family, channel, str(path))
    except ImageError as error:
        remedy = error.remedy
        if path.is_file() and not zipfile.is_zipfile(path) and all(len(item.frames) == 1 for item in listed):
            remedy = f"Give the folder that holds the whole series: {path.absolute().parent}."
        raise ImageError(_with(error.what, left_out), remedy, error.where) from error


def _with(what: str, left_out: tuple[str, ...]) -> str:
    return "; ".join([what, *left_out])
