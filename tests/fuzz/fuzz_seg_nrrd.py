"""Fuzz 3D Slicer's segmentations: `python tests/fuzz/fuzz_seg_nrrd.py --minutes 15`."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from random import Random

import numpy as np
from harness import main, spoil

from medsegagent.export.reading import read_segments

_VALUES = (
    "",
    "-1",
    "0",
    "1",
    "2",
    "7",
    "255",
    "99999999999999999999",
    "1e9",
    "x",
    "é",
    "\x1b[2J",
    "../../evil",
    "0 0 0",
)


def make(random: Random, folder: Path) -> Path:
    """Write one by hand, with fields missing, wrong or repeated, then spoil bytes of it."""
    layers = random.choice((1, 1, 2, 3, 5))
    shape = (6, 7, 8) if layers == 1 else (6, 7, 8, layers)
    array = (np.random.default_rng(random.randrange(9)).random(shape) * random.choice((1, 2, 4))).astype(np.uint8)
    kind = random.choice(("uint8", "uint8", "int16", "float32", "int64"))
    array = array.astype(kind)
    kind = kind.replace("float32", "float")
    sizes = list(array.shape[::-1])
    if random.random() < 0.1:
        sizes[random.randrange(len(sizes))] = random.choice((0, 1, -1, 2**31, 2**62, 9))
    none = "none " if layers > 1 and random.random() < 0.9 else ""
    packed = random.random() < 0.5
    lines = [
        "NRRD0004",
        f"type: {kind if random.random() < 0.95 else 'double'}",
        f"dimension: {len(sizes) + (random.random() < 0.02)}",
        f"space: {random.choice(('left-posterior-superior', 'RAS', 'scanner-xyz', ''))}",
        f"sizes: {' '.join(map(str, sizes))}",
        f"space directions: {none}(1.5,0,0) (0,2,0) (0,0,3)",
        f"kinds: {'list ' if layers > 1 else ''}domain domain domain",
        "endian: little",
        f"encoding: {'gzip' if packed else 'raw'}",
        "space origin: (1,2,3)",
    ]
    for number in range(random.choice((0, 1, 2, 3, 3, 40))):
        if random.random() < 0.1:
            number = random.randrange(99999)
        for field in ("ID", "Name", "Layer", "LabelValue", "Extent"):
            if random.random() < 0.7:
                value = random.choice(_VALUES) if random.random() < 0.08 else str(number if field != "Layer" else 0)
                lines.append(f"Segment{number}_{field}:={value}")
    if random.random() < 0.3:
        first, *rest = lines
        random.shuffle(rest)
        lines = [first, *rest]
    data = array.tobytes()
    body = gzip.compress(data, compresslevel=1) if packed else data
    content = ("\n".join(lines) + "\n\n").encode() + body
    if random.random() < 0.4:
        content = spoil(content, random, 4)
    path = folder / random.choice(("a.seg.nrrd", "a.seg.nrrd", "a.nrrd"))
    path.write_bytes(content)
    return path


if __name__ == "__main__":
    sys.exit(main(make, read_segments, __doc__ or ""))
