"""One table of formats, and the one function that writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from medsegagent.errors import ImageError, UsageError
from medsegagent.export.segment import Segments, label_map, segments_of
from medsegagent.fusion.segmentation import Segmentation
from medsegagent.images.dicom import Source, is_dicom, read_source
from medsegagent.images.volume import Volume
from medsegagent.vocabulary import Vocabulary

DICOM_FORMATS = ("dicom-seg", "rtstruct")


@dataclass(frozen=True)
class Exported:
    """Files, relative to the folder, and what they leave out."""

    files: tuple[Path, ...]
    warnings: tuple[str, ...]


def check_formats(formats: Iterable[str], source: Path | None) -> None:
    """Refuse, before any work is done, formats that do not exist or cannot be written.

    Args:
        formats: Of `FORMATS`.
        source: The image or reference; DICOM results must refer to a DICOM series.

    Raises:
        UsageError: If a format is unknown.
        ImageError: If a DICOM format is asked for without a DICOM source.
    """
    for name in formats:
        if name not in FORMATS:
            raise UsageError(f"{name!r} is no format", f"Give one of {', '.join(FORMATS)}.", "formats")
        if name in DICOM_FORMATS and (source is None or not is_dicom(source)):
            raise ImageError(
                f"{name} refers to the images of a DICOM series, and {source or 'no reference'} is none",
                "Give the DICOM folder as the image (segment) or as --reference (convert), or choose another format.",
                str(source or ""),
            )


def check_source(formats: Iterable[str], volume: Volume) -> None:
    """Refuse, before any work is done, DICOM formats whose results could not refer to the series that was read.

    Raises:
        ImageError: If its identifiers were removed, or do not tell its images apart.
    """
    if set(formats) & set(DICOM_FORMATS):
        read_source(volume.path, volume.series)


def export(segments: Segments, folder: Path, formats: Sequence[str], source: Source | None = None) -> Exported:
    """Write segments in each format below an existing folder.

    Raises:
        ImageError: If the source lies elsewhere than the segments, or none is given for a DICOM format.
        UsageError: If a format is unknown.
    """
    if source is None:
        check_formats(formats, None)
    files: list[Path] = []
    for name in dict.fromkeys(formats):
        files += _WRITERS[name](segments, folder, source)
    return Exported(tuple(file.relative_to(folder) for file in files), _left_out(segments, formats))


def _left_out(segments: Segments, formats: Sequence[str]) -> tuple[str, ...]:
    if not segments.items:
        return ("the segmentation is empty: it holds no label",)
    empty = [item.name for item in segments.items if not item.mask.any()]
    kinds = ", ".join(name for name in dict.fromkeys(formats) if name in _WITHOUT_EMPTY)
    if not segments.items:
        return ("the segmentation is empty: it holds no label",)
    return (f"not in {kinds}, being empty: {', '.join(empty)}",) if empty and kinds else ()


def export_results(
    segmentation: Segmentation, volume: Volume, folder: Path, formats: Sequence[str], vocabulary: Vocabulary
) -> Exported:
    """Write a run's structures in each format; DICOM ones refer to the series that the volume was read from.

    A format that cannot be written is a warning: the run's own files do not hang on it.
    """
    from medsegagent.export.coding import codings_of
    from medsegagent.reporting.colours import colours_of
    from medsegagent.reporting.run_folder import dispensable

    if not formats:
        return Exported((), ())  # and no mask is spread over the whole volume
    colours = colours_of([item.id for item in segmentation.structures])
    segments = segments_of(segmentation, colours, codings_of(segmentation, vocabulary))
    files, written, notes = list[Path](), list[str](), list[str]()
    source = None
    for name in dict.fromkeys(formats):
        with dispensable(name, folder, notes):
            if name in DICOM_FORMATS and source is None:
                source = read_source(volume.path, volume.series)
            files += export(segments, folder, [name], source).files
            written.append(name)
    return Exported(tuple(files), (*_left_out(segments, written), *notes))


def _write_nifti(segments: Segments, folder: Path, _: Source | None) -> list[Path]:
    from medsegagent.export.itksnap import write_itksnap_labels
    from medsegagent.images.write import write_label_map, write_mask

    files = [folder / "segmentation.nii.gz", folder / "segmentation.json", folder / "segmentation_itksnap.txt"]
    labels = [item.label for item in segments.items]
    painted = label_map(segments.items, segments.grid.shape)
    write_label_map(painted, segments.grid, labels, files[0])
    write_itksnap_labels(segments.items, files[2])
    for item in segments.items:
        if np.any(painted[item.mask] != item.value):  # covered by another, so the map does not hold it whole
            file = folder / "targets" / f"{item.id}.nii.gz"
            file.parent.mkdir(exist_ok=True)
            write_mask(item.mask, segments.grid, file)
            files.append(file)
    return files


def _write_nrrd(segments: Segments, folder: Path, _: Source | None) -> list[Path]:
    from medsegagent.export.slicer import write_seg_nrrd

    write_seg_nrrd(segments, folder / "segmentation.seg.nrrd")
    return [folder / "segmentation.seg.nrrd"]


def _write_dicom_seg(segments: Segments, folder: Path, source: Source | None) -> list[Path]:
    from medsegagent.export.dicom_seg import write_dicom_seg

    if source is None or not any(item.mask.any() for item in segments.items):
        return []
    write_dicom_seg(segments, source, folder / "segmentation_seg.dcm", _software())
    return [folder / "segmentation_seg.dcm"]


def _write_rtstruct(segments: Segments, folder: Path, source: Source | None) -> list[Path]:
    from medsegagent.export.rtstruct import write_rtstruct

    if source is None or not any(item.mask.any() for item in segments.items):
        return []
    write_rtstruct(segments, source, folder / "segmentation_rtstruct.dcm", _software())
    return [folder / "segmentation_rtstruct.dcm"]


def _mesh_writer(suffix: str) -> Callable[[Segments, Path, Source | None], list[Path]]:
    def write(segments: Segments, folder: Path, _: Source | None) -> list[Path]:
        from medsegagent.export.mesh import surface, write_mesh

        files = []
        for item in segments.items:
            if item.mask.any():
                files.append(folder / "meshes" / f"{item.id}{suffix}")
                files[-1].parent.mkdir(exist_ok=True)
                write_mesh(*surface(item.mask, segments.grid), files[-1], item.name)
        return files

    return write


def _software() -> str:
    try:
        return version("medsegagent")
    except PackageNotFoundError:  # run from a clone that is not installed
        return "unknown"


_WRITERS: dict[str, Callable[[Segments, Path, Source | None], list[Path]]] = {
    "nifti": _write_nifti,
    "nrrd": _write_nrrd,
    "dicom-seg": _write_dicom_seg,
    "rtstruct": _write_rtstruct,
    "stl": _mesh_writer(".stl"),
    "obj": _mesh_writer(".obj"),
}
FORMATS = tuple(_WRITERS)
_WITHOUT_EMPTY = frozenset(FORMATS) - {"nifti", "nrrd"}
