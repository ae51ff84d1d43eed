"""Read a segmentation that this or another program wrote: masks with names, colours and codes."""
# mypy: allow-untyped-calls

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from medsegagent import vocabulary
from medsegagent.errors import ImageError
from medsegagent.export.coding import coding_of_name
from medsegagent.export.segment import Coding, Segment, Segments
from medsegagent.images.dicom import is_dicom
from medsegagent.images.dicom_frames import quiet
from medsegagent.images.geometry import check_axes
from medsegagent.images.read import extension, read_volume
from medsegagent.images.stored import MAX_VOXELS
from medsegagent.images.volume import Grid
from medsegagent.reporting.colours import colours_of

_MOST_LABELS = 1000
_SPACES = {
    "left-posterior-superior": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
}
_SPACES |= {"lps": (1, 1, 1), "ras": (-1, -1, 1), "las": (1, -1, 1)}
_NOT_A_SEGMENTATION = "Give a label map (NIfTI, NRRD, MHA), a .seg.nrrd, a DICOM SEG or the folder of a run."


def read_segments(path: Path) -> Segments:
    """Read a label map (NIfTI, NRRD, MetaImage), a `.seg.nrrd`, a DICOM SEG, or a run's folder.

    Names come from where the format has them: the sidecar or header extension of a NIfTI that this package wrote, the
    header of a `.seg.nrrd`, the segments of a DICOM SEG; else they are "label 1", "label 2", ... Codes follow from the
    names, where these are terms of the vocabulary.

    Raises:
        ImageError: If it cannot be read, is no segmentation, or holds more than 1,000 labels.
    """
    run = path / "segmentation.nii.gz"
    if path.is_dir() and run.is_file():
        return _with_targets(_read_label_map(run), path / "targets")
    if path.name.lower().endswith(".seg.nrrd"):
        return _read_seg_nrrd(path)
    if path.is_file() and extension(path) not in (".nii", ".nii.gz") and is_dicom(path):
        return _read_dicom_seg(path)
    return _read_label_map(path)


def _read_label_map(path: Path) -> Segments:
    volume = read_volume(path)
    values = np.unique(volume.array)
    if values[0] < 0 or not np.array_equal(values, np.rint(values)) or len(values) > _MOST_LABELS + 1:
        what = f"values from {values[0]:g} to {values[-1]:g}, {len(values)} different: this is an image, no label map"
        raise ImageError(what, _NOT_A_SEGMENTATION, str(path))
    beside = _names_beside(path)
    names = beside or _names_within(path)
    # A sidecar lists what was looked for, so a value that does not occur is an empty mask.
    present = sorted({int(value) for value in values if value > 0} | set(beside))
    found = [(value, names.get(value, f"label {value}"), volume.array == value, None) for value in present]
    return _segments(volume.grid, found)


def _with_targets(segments: Segments, folder: Path) -> Segments:
    """A run writes masks that others cover whole, one by one."""
    items = []
    for item in segments.items:
        file = folder / f"{item.id}.nii.gz"
        mask = read_volume(file).array > 0 if file.is_file() else item.mask
        items.append(Segment(item.id, item.name, mask, item.value, item.colour, item.coding))
    return Segments(segments.grid, tuple(items))


def _names_beside(path: Path) -> dict[int, str]:
    """From the sidecar that `write_label_map` leaves, `{value: {"name": ...}}`."""
    sidecar = path.with_name(path.name.removesuffix(".gz").removesuffix(".nii") + ".json")
    try:
        found = json.loads(sidecar.read_text("utf-8"))
        return {int(value): str(entry["name"]) for value, entry in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # none, or another program's file of that name


def _names_within(path: Path) -> dict[int, str]:
    """From a NIfTI header's label table, as Connectome Workbench and TotalSegmentator write it."""
    if extension(path) not in (".nii", ".nii.gz"):
        return {}
    import nibabel as nib

    for part in nib.Nifti1Image.from_filename(path).header.extensions:
        content = part.get_content()
        if isinstance(content, bytes) and b"<Label " in content and b"<!ENTITY" not in content:
            try:
                table = ElementTree.fromstring(content.rstrip(b"\0"))
                return {int(label.get("Key", "")): (label.text or "").strip() for label in table.iter("Label")}
            except (ElementTree.ParseError, ValueError):
                continue
    return {}


def _read_seg_nrrd(path: Path) -> Segments:
    import nrrd

    try:
        header = nrrd.read_header(str(path))
        if "data file" in header or "datafile" in header:
            raise ImageError("its voxels are in another file", "Save it as one file.", str(path))
        if np.prod(np.asarray(header["sizes"], dtype=float)) > MAX_VOXELS:
            raise ImageError("its header asks for too many voxels", "Check the file.", str(path))
        data, header = nrrd.read(str(path), index_order="F")
        grid = _nrrd_grid(header, str(path))
    except ImageError:
        raise
    except Exception as error:  # pynrrd raises whatever a damaged header leads to
        raise ImageError("not a readable NRRD file", "Save it again.", str(path)) from error
    layers = data if data.ndim == 4 else data[None]
    found = []
    for number in range(_MOST_LABELS):
        if f"Segment{number}_ID" not in header:
            break
        layer = layers[int(header.get(f"Segment{number}_Layer", 0))]
        value = int(header.get(f"Segment{number}_LabelValue", 1))
        mask: NDArray[np.bool_] = np.ascontiguousarray(value == layer.T)
        found.append((number + 1, str(header.get(f"Segment{number}_Name", f"label {number + 1}")), mask, None))
    return _segments(grid, found)


def _nrrd_grid(header: Mapping[str, Any], where: str) -> Grid:
    signs = np.array(_SPACES[str(header["space"]).lower()])
    axes = np.asarray(header["space directions"], dtype=np.float64)[-3:].T * signs[:, None]
    return _grid(np.asarray(header["sizes"])[-3:], axes, np.asarray(header["space origin"]) * signs, where)


def _read_dicom_seg(path: Path) -> Segments:
    import highdicom as hd

    try:
        with quiet():
            dataset = hd.seg.segread(path)
            volume = dataset.get_volume(combine_segments=False, allow_missing_positions=True)
    except Exception:  # highdicom's messages may quote the header
        raise ImageError("not a DICOM SEG on evenly spaced slices", _NOT_A_SEGMENTATION, str(path)) from None
    # Its axes are slices, rows, columns, segments; ours are counted from the other end.
    array = np.asarray(volume.array)
    grid = _grid(np.array(array.shape[2::-1]), volume.affine[:3, 2::-1], volume.affine[:3, 3], str(path))
    found = []
    for number, item in enumerate(dataset.SegmentSequence):
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        sides = [code.CodeMeaning.lower() for code in kind.get("SegmentedPropertyTypeModifierCodeSequence", [])]
        side = next((name for name in ("left", "right") if name in sides), "")
        lesion = item.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
        code = kind.CodeValue if kind.CodingSchemeDesignator == "SCT" else ""
        coding = Coding(code, str(kind.CodeMeaning), side, lesion)  # type: ignore[arg-type]
        found.append((int(item.SegmentNumber), str(item.SegmentLabel), array[..., number] > 0, coding))
    return _segments(grid, found)


def _grid(size: NDArray[np.integer], axes: NDArray[np.float64], origin: NDArray[np.float64], where: str) -> Grid:
    check_axes(axes, where)
    spacing = np.linalg.norm(axes, axis=0)
    return Grid(
        size=(int(size[0]), int(size[1]), int(size[2])),
        spacing=(float(spacing[0]), float(spacing[1]), float(spacing[2])),
        origin=(float(origin[0]), float(origin[1]), float(origin[2])),
        direction=tuple(float(value) for value in (axes / spacing).ravel()),
    )


def _segments(grid: Grid, found: Sequence[tuple[int, str, NDArray[np.bool_], Coding | None]]) -> Segments:
    """Give each an id that is safe as a file name, whatever the file called it."""
    terms = vocabulary.load()
    ids: list[str] = []
    for value, name, _, _ in found:
        slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:60] or f"label_{value}"
        ids.append(slug if slug not in ids else f"{slug}_{value}")
    colours = colours_of(ids)
    items = [
        Segment(id_, name, mask, value, colours[id_], coding or coding_of_name(name, terms))
        for id_, (value, name, mask, coding) in zip(ids, found, strict=True)
    ]
    return Segments(grid, tuple(items))
