"""ITK-SNAP's label description file, which goes with a NIfTI label map."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medsegagent.export.segment import Segment

_HEAD = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
# Where:
#    IDX:   Zero-based index
#    -R-:   Red color component (0..255)
#    -G-:   Green color component (0..255)
#    -B-:   Blue color component (0..255)
#    -A-:   Label transparency (0.00 .. 1.00)
#    VIS:   Label visibility (0 or 1)
#    MSH:   Label mesh visibility (0 or 1)
#  LABEL:   Label description
################################################
    0     0    0    0        0  0  0    "Clear Label"
"""


def write_itksnap_labels(segments: Sequence[Segment], path: Path) -> None:
    """Write names and colours; in ITK-SNAP: Segmentation, Import Label Descriptions."""
    lines = [
        f"{s.value:5d} {s.colour[0]:5d}{s.colour[1]:5d}{s.colour[2]:5d}        1  1  1    {_quoted(s.name)}\n"
        for s in sorted(segments, key=lambda segment: segment.value)
    ]
    path.write_text(_HEAD + "".join(lines), encoding="utf-8")


def _quoted(name: str) -> str:
    return '"' + " ".join(name.replace('"', "'").split()) + '"'
