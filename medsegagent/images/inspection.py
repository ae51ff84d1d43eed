"""What is at a path: every volume and series with its modality, geometry and intensities."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medsegagent.errors import ImageError, MedSegAgentError
from medsegagent.images.channels import channel_kind, channel_of_file
from medsegagent.images.dicom import is_dicom, list_series, read_dicom
from medsegagent.images.dicom_series import Series
from medsegagent.images.geometry import orientation
from medsegagent.images.read import READERS, extension, read_volume
from medsegagent.images.volume import Volume

_MOST_FILES = 500


@dataclass(frozen=True)
class Finding:
    """One volume.

    Attributes:
        name: File, relative to the path, or "series KEY".
        description: Of a DICOM series.
        modality: CT, MR, PET, another DICOM modality, or "unknown".
        confidence: Of the modality, in [0, 1]; 1 for a tag.
        reason: Behind the modality.
        channel: What its name or description says it holds ("T1ce", "FLAIR"), or "".
        size: Voxels along x, y, z; None if it cannot be read.
        spacing_mm: Along x, y, z.
        orientation: Direction of the index axes, such as "LPS".
        low: Lowest intensity.
        high: Highest intensity.
        unit: Of the intensities, or "".
        problem: Why it cannot be used, or "".
        warnings: What was corrected or left out.
    """

    name: str
    description: str = ""
    modality: str = "unknown"
    confidence: float = 0.0
    reason: str = ""
    channel: str = ""
    size: tuple[int, int, int] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    orientation: str = ""
    low: float | None = None
    high: float | None = None
    unit: str = ""
    problem: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """All that was found, and what concerns the path as a whole."""

    findings: tuple[Finding, ...]
    warnings: tuple[str, ...] = ()


def inspect(path: Path) -> Inspection:
    """Read every volume and DICOM series at a path: a file, a zip, or a folder with all below it.

    A volume that cannot be read is a finding with a problem, not an error.

    Raises:
        ImageError: If there is nothing at the path, or no image.
    """
    if not path.exists():
        raise ImageError("no such file or folder", "Check the path.", str(path))
    if path.is_file() and not is_dicom(path):
        return Inspection((_file(path, path.name),))
    files = _image_files(path) if path.is_dir() else []
    try:
        series, warnings = list_series(path)
    except ImageError as error:
        if path.is_dir() and not files:
            raise ImageError(f"there is no image in it; {error.what}", error.remedy, str(path)) from None
        if not files:
            raise
        series, warnings = (), ()
    if path.is_file() and len(series) == 1 and len(series[0].frames) == 1:
        warnings += (f"one slice alone is no volume; give the folder that holds the series: {path.absolute().parent}",)
    found = [_file(file, file.relative_to(path).as_posix()) for file in files[:_MOST_FILES]]
    if len(files) > _MOST_FILES:
        warnings += (f"only the first {_MOST_FILES} of {len(files)} files were read",)
    return Inspection((*(_series(path, item) for item in series), *found), warnings)


def channel_of(path: Path) -> str:
    """What a file or DICOM series is by its own words: "T1ce", "FLAIR", "CT"; "" if they say nothing, or too much.

    Raises:
        ImageError: If it is DICOM and cannot be read.
    """
    if not path.exists() or (path.is_file() and not is_dicom(path)):
        return channel_of_file(path)
    usable = [item for item in list_series(path)[0] if not item.problem]
    if len(usable) != 1:
        return ""
    return channel_kind(usable[0].description) or usable[0].family or ""


def _image_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if extension(file) in READERS and file.is_file())


def _file(path: Path, name: str) -> Finding:
    try:
        return _finding(name, "", channel_of_file(path), read_volume(path))
    except MedSegAgentError as error:
        return Finding(name, problem=f"{error.what}. {error.remedy}")


def _series(path: Path, series: Series) -> Finding:
    name, channel = f"series {series.key}", channel_kind(series.description)
    problem = series.problem
    if not problem:
        try:
            volume = read_dicom(path, series=series.key)
            return _finding(name, series.description, channel, volume)
        except MedSegAgentError as error:
            problem = error.what
    modality = series.family or series.modality or "unknown"
    return Finding(name, series.description, modality, 1.0, "DICOM tag", channel, problem=problem)


def _finding(name: str, description: str, channel: str, volume: Volume) -> Finding:
    evidence = volume.evidence
    return Finding(
        name=name,
        description=description,
        modality=evidence.family or "unknown",
        confidence=round(evidence.confidence, 2),
        reason=evidence.reason,
        channel=channel,
        size=volume.grid.size,
        spacing_mm=volume.grid.spacing,
        orientation=orientation(volume.grid),
        low=float(volume.array.min()),
        high=float(volume.array.max()),
        unit=volume.unit,
        warnings=volume.warnings,
    )
