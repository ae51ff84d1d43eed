"""Fuzz DICOM folders, zips and SEGs, their headers changed through pydicom: `python tests/fuzz/fuzz_dicom.py`.

The headers are those of the tests' own builder, which writes what scanners write.
"""

from __future__ import annotations

import functools
import sys
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from harness import main, spoil

sys.path.insert(0, str(Path(__file__).parents[1]))

from dicom_builder import ball, enhanced, pet, slices
from pydicom import Dataset, dcmwrite
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR
from pydicom.pixels.utils import compress
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from medsegagent.export.formats import export
from medsegagent.export.reading import read_segments
from medsegagent.export.segment import Segment, Segments
from medsegagent.images.dicom import read_dicom, read_source
from medsegagent.images.inspection import inspect

_TEXTS = (
    "",
    "0",
    "-1",
    "1",
    "NaN",
    "1e400",
    "0,5",
    "abc",
    "\\",
    "1\\2",
    "1\\2\\3",
    "9" * 64,
    "\x1b[2J",
    "é",
    "1.2.840.10008.5.1.4.1.1.66.4",
)
_WHOLE = (0, 1, 2, 7, 8, 16, 32, 64, 255, 65535)


@functools.cache
def _shared() -> dict[str, bytes]:
    """A SEG of our own, written once."""
    import io
    import tempfile

    folder = Path(tempfile.mkdtemp())
    for number, dataset in enumerate(slices(ball((5, 12, 10)))):
        dataset.save_as(folder / str(number), enforce_file_format=True)
    mask = ball((5, 12, 10)) > 0
    items = (
        Segment("liver", "Liver", mask, 1, (9, 9, 9)),
        Segment("b", "b", mask & (ball((5, 12, 10)) > 70), 2, (1, 2, 3)),
    )
    grid = read_dicom(folder).grid
    (folder / "out").mkdir()
    export(Segments(grid, items), folder / "out", ["dicom-seg"], read_source(folder))
    buffer = io.BytesIO((folder / "out" / "segmentation_seg.dcm").read_bytes())
    return {"seg": buffer.getvalue()}


def _change(dataset: Any, random: Random) -> None:
    """Empty, remove, replace or bend some elements, in nested sequences too."""
    for _ in range(random.randint(1, 5)):
        target = dataset
        while random.random() < 0.5:
            nested = [element for element in target if element.VR == "SQ" and element.value]
            if not nested:
                break
            target = random.choice(random.choice(nested).value)
        elements = [element for element in target if element.VR != "SQ" or random.random() < 0.2]
        if not elements:
            continue
        element = random.choice(elements)
        try:
            match random.randrange(4):
                case 0:
                    del target[element.tag]
                case 1:
                    element.value = None
                case 2 if element.VR in ("US", "SS", "UL", "SL"):
                    element.value = random.choice(_WHOLE)
                case 2 if element.VR in ("OB", "OW", "UN"):
                    element.value = element.value[: random.randrange(max(1, len(element.value)))]
                case 2:
                    target[element.tag] = type(element)(element.tag, "LO", random.choice(_TEXTS))
                case _:
                    keyword = random.choice(("PixelPaddingValue", "NumberOfFrames", "RescaleSlope", "BitsAllocated"))
                    setattr(target, keyword, random.choice(_WHOLE if dictionary_VR(_tag(keyword)) == "US" else _TEXTS))
        except Exception:  # pydicom will not have it, so neither will a file
            continue


def _tag(keyword: str) -> int:
    from pydicom.datadict import tag_for_keyword

    return tag_for_keyword(keyword) or 0


def _case(random: Random) -> list[Dataset]:
    shape = (random.choice((2, 3, 6)), 12, 10)
    kind = random.randrange(5)
    if kind == 0:
        return [enhanced(ball(shape))]
    if kind == 1:
        return list(pet(ball(shape, low=0, high=900)))
    case = list(slices(ball(shape), modality=random.choice(("CT", "MR"))))
    if kind == 2:
        syntax = random.choice((JPEG2000Lossless, JPEGLSLossless, RLELossless))
        case = list(slices(ball((shape[0], 64, 64))))
        for dataset in case:
            compress(dataset, syntax, generate_instance_uid=False)
    return case


def make(random: Random, folder: Path) -> Path:
    """A folder, a zip of it, or a SEG."""
    if random.random() < 0.2:
        path = folder / "seg.dcm"
        from io import BytesIO

        from pydicom import dcmread

        dataset = dcmread(BytesIO(_shared()["seg"]))
        with disable_value_validation():
            _change(dataset, random)
            _write(dataset, path)
        if random.random() < 0.3:
            path.write_bytes(spoil(path.read_bytes(), random, 6))
        return path
    case = _case(random)
    alike = random.random() < 0.5
    seed = random.randrange(2**30)
    target = folder / "case"
    target.mkdir()
    with disable_value_validation():
        for number, dataset in enumerate(case):
            if alike or random.random() < 0.4:
                _change(dataset, Random(seed) if alike else random)
            path = target / f"IM{number}"
            _write(dataset, path)
            if random.random() < 0.15:
                path.write_bytes(spoil(path.read_bytes(), random, 6))
    if random.random() < 0.2:
        archive = folder / "case.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in target.iterdir():
                packed.write(path, path.name)
        if random.random() < 0.5:
            archive.write_bytes(spoil(archive.read_bytes(), random, 4))
        return archive
    return target


def _write(dataset: Dataset, path: Path) -> None:
    try:
        dcmwrite(path, dataset, enforce_file_format=False)
    except Exception:  # what cannot be written is an empty file
        path.write_bytes(path.read_bytes() if path.exists() else b"")


def read(path: Path) -> object:
    """Inspect it, read it, take it for a reference, and for a segmentation."""
    if path.name == "seg.dcm":
        return [int(np.count_nonzero(item.mask)) for item in read_segments(path).items]
    try:
        inspect(path)
        return read_dicom(path).grid
    finally:
        read_source(path)


if __name__ == "__main__":
    sys.exit(main(make, read, __doc__ or ""))
