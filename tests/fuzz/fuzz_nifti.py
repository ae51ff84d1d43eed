"""Fuzz NIfTI: `python tests/fuzz/fuzz_nifti.py --minutes 15`."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from random import Random

import nibabel as nib
import numpy as np
from harness import main, spoil

from medsegagent.export.reading import read_segments
from medsegagent.images.read import read_volume

_NUMBERS = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    1e-30,
    1e30,
    3.4e38,
    float("nan"),
    float("inf"),
    -float("inf"),
    2.9e9,
    352.0,
    1.0000002,
)
_WHOLE = (0, 1, -1, 2, 3, 4, 7, 8, 127, 128, 255, 256, 1024, 2304, 32767, -32768, 1536, 1792)


def _seed(random: Random) -> tuple[bytes, int]:
    kind = random.choice((np.int16, np.uint8, np.float32, np.float64, np.int32))
    maker = random.choice((nib.Nifti1Image, nib.Nifti1Image, nib.Nifti1Image, nib.Nifti2Image))
    values = np.random.default_rng(random.randrange(4)).integers(0, 90, (9, 10, 11)).astype(kind)
    affine = np.diag([1.5, 2, 3, 1]) @ np.eye(4)
    affine[:3, 3] = random.randrange(100), -20, 30
    image = maker(values, affine)
    image.set_qform(affine, random.randrange(3))
    image.set_sform(affine, random.randrange(3))
    if random.random() < 0.3:
        text = b'<C><LabelTable><Label Key="1">liver</Label></LabelTable></C>'
        image.header.extensions.append(nib.nifti1.Nifti1Extension(0, text))
    return image.to_bytes(), image.header.sizeof_hdr


def make(random: Random, folder: Path) -> Path:
    """Spoil fields of a header, or bytes of a file, before or after compression."""
    data, size = _seed(random)
    kind = nib.Nifti1Header if size == 348 else nib.Nifti2Header
    if random.random() < 0.7:
        header = kind(data[:size], check=False)
        for _ in range(random.randint(1, 4)):
            name = random.choice(header.keys())
            field = header[name]
            if field.dtype.kind not in "fiu":
                continue
            new = np.array(field, copy=True).reshape(-1)
            with np.errstate(all="ignore"):
                choice = _NUMBERS if field.dtype.kind == "f" else _WHOLE
                new[random.randrange(new.size)] = np.array(random.choice(choice)).astype(field.dtype)
            header[name] = new.reshape(field.shape) if field.shape else new[0]
        data = header.binaryblock + data[size:]
    if random.random() < 0.4:
        head = spoil(data[: size + 200], random)
        data = head + data[size + 200 :]
    packed = random.random() < 0.5
    if packed:
        data = gzip.compress(data, compresslevel=1)
        if random.random() < 0.3:
            data = spoil(data, random, 3)
    path = folder / ("image.nii.gz" if packed or random.random() < 0.1 else "image.nii")
    path.write_bytes(data)
    return path


def read(path: Path) -> object:
    """Read it as an image and as a mask."""
    try:
        return read_volume(path).grid
    finally:
        read_segments(path)


if __name__ == "__main__":
    sys.exit(main(make, read, __doc__ or ""))
