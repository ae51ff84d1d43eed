"""Masks and label maps to NIfTI, on exactly the grid they were made on."""
# mypy: allow-untyped-calls

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medsegagent.images.nifti import affine_ras
from medsegagent.images.volume import Grid

_SCANNER = 1
_UNREGISTERED = 0  # as TotalSegmentator has it; nibabel cannot give the content of one with Caret's own code, 30


@dataclass(frozen=True)
class Label:
    """One value of a label map. `colour` is red, green, blue, 0 to 255 each."""

    value: int
    id: str
    name: str
    colour: tuple[int, int, int]


def write_mask(array: NDArray[np.bool_] | NDArray[np.uint8], grid: Grid, path: Path) -> None:
    """Write a mask or a map of small numbers (agreement, 0 to 100), `(Z, Y, X)`, as uint8 NIfTI."""
    nib.save(_image(array.astype(np.uint8, copy=False), grid), path)


def write_label_map(array: NDArray[np.unsignedinteger], grid: Grid, labels: Sequence[Label], path: Path) -> None:
    """Write a multi-label map, `(Z, Y, X)`, 0 background, and what its values mean.

    Stored in the smallest unsigned type that holds every value, with intent "label" and the names and colours as a
    label table in a header extension (TotalSegmentator's form), since plain NIfTI has no place for them.
    The same goes into a sidecar beside it, `NAME.json`: `{value: {"id", "name", "colour": "#rrggbb"}}`.
    """
    top = max((label.value for label in labels), default=0)
    image = _image(array.astype(np.min_scalar_type(top), copy=False), grid)
    image.header.set_intent("label", name="segmentation")
    image.header["cal_max"] = top
    image.header.extensions.append(nib.nifti1.Nifti1Extension(_UNREGISTERED, _label_table(labels)))
    nib.save(image, path)
    sidecar = {
        str(label.value): {"id": label.id, "name": label.name, "colour": "#{:02x}{:02x}{:02x}".format(*label.colour)}
        for label in sorted(labels, key=lambda label: label.value)
    }
    stem = path.name.removesuffix(".gz").removesuffix(".nii")
    path.with_name(f"{stem}.json").write_text(json.dumps(sidecar, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _image(array: NDArray[np.unsignedinteger], grid: Grid) -> nib.Nifti1Image:
    if array.shape != grid.shape:
        raise ValueError(f"the array is {array.shape}, its grid {grid.shape}")
    image = nib.Nifti1Image(
        array.T, affine_ras(grid), dtype=array.dtype
    )  # (Z, Y, X) in C order is (X, Y, Z) in NIfTI's order, no copy
    image.set_sform(image.affine, _SCANNER)
    image.set_qform(image.affine, _SCANNER)
    image.header.set_xyzt_units("mm")
    return image


def _label_table(labels: Sequence[Label]) -> bytes:
    root = ElementTree.Element("CaretExtension")
    volume = ElementTree.SubElement(root, "VolumeInformation", Index="0")
    table = ElementTree.SubElement(volume, "LabelTable")
    for label in labels:
        red, green, blue = (f"{part / 255:.6f}" for part in label.colour)
        attributes = {"Key": str(label.value), "Red": red, "Green": green, "Blue": blue, "Alpha": "1"}
        ElementTree.SubElement(table, "Label", attributes).text = label.name
    ElementTree.SubElement(volume, "StudyMetaDataLinkSet")
    ElementTree.SubElement(volume, "VolumeType").text = "Label"
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text
