"""Fuzz NRRD and MetaImage headers: `python tests/fuzz/fuzz_headers.py --minutes 15`."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

import numpy as np
import SimpleITK as sitk  # noqa: N813
from harness import main, spoil

from medsegagent.export.reading import read_segments
from medsegagent.images.read import read_volume

_VALUES = (
    *(
        "",
        "-1",
        "0",
        "1",
        "3",
        "4",
        "2000000000",
        "99999999999999999999",
        "nan",
        "inf",
        "1e400",
        "LOCAL",
        "LIST",
        "True",
    ),
    *("False", "MET_SHORT", "MET_UCHAR_ARRAY", "../x.raw", "/etc/passwd", "a%03d.raw 1 9 1", "gzip", "raw", "ascii"),
    *(
        "big",
        "none",
        "(1,0,0)",
        "(nan,nan,nan)",
        "left-posterior-superior",
        '"um" "um" "um"',
        "short",
        "float",
        "\0",
        "é",
    ),
)
_LINES = (
    *("ElementDataFile : /etc/passwd", "  ElementDataFile = LOCAL", "# comment", "", "no field", "key:=value", "a: b"),
    *("data file: ../x", "byte skip: -1", "line skip: 2", "Segment0_Name:=a", "Segment0_Layer:=9", "HeaderSize = -1"),
)


def make(random: Random, folder: Path) -> Path:
    """Write a volume through ITK, then change values, lines or bytes of its header."""
    kind = random.choice((np.int16, np.uint8, np.float32))
    image = sitk.GetImageFromArray(np.random.default_rng(1).integers(0, 90, (7, 8, 9)).astype(kind))
    image.SetSpacing((1.5, 2, 3))
    path = folder / random.choice(("a.nrrd", "a.nhdr", "a.mha", "a.mhd"))
    sitk.WriteImage(image, str(path), random.random() < 0.5)
    data = path.read_bytes()
    split = (
        data.find(b"\n\n") + 2
        if path.suffix == ".nrrd"
        else data.find(b"LOCAL") + 6
        if path.suffix == ".mha"
        else len(data)
    )
    lines, rest = data[:split].decode("latin-1").split("\n"), data[split:]
    for _ in range(random.randint(0, 4)):
        at = random.randrange(len(lines))
        choice = random.randrange(6)
        separator = " = " if " = " in lines[at] else ": "
        if choice == 0 and separator in lines[at]:
            lines[at] = lines[at].split(separator)[0] + separator + random.choice(_VALUES)
        elif choice == 1:
            lines.insert(at, random.choice(_LINES))
        elif choice == 2:
            del lines[at]
        elif choice == 3:
            lines.insert(at, lines[random.randrange(len(lines))])
        elif choice == 4:
            words = lines[at].split(" ")
            words[random.randrange(len(words))] = random.choice(_VALUES)
            lines[at] = " ".join(words)
        if not lines:
            lines = [""]
    head = "\n".join(lines).encode("utf-8", "replace")
    if random.random() < 0.3:
        head = spoil(head, random, 4)
    path.write_bytes(head + (spoil(rest, random, 3) if rest and random.random() < 0.2 else rest))
    return path


def read(path: Path) -> object:
    """Read it as an image and as a mask."""
    try:
        return read_volume(path).grid
    finally:
        read_segments(path)


if __name__ == "__main__":
    sys.exit(main(make, read, __doc__ or ""))
