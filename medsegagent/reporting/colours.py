"""One colour per structure, the same in every picture, told apart by colour-blind readers on a dark ground."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

Colour = tuple[int, int, int]

PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 188, 139),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (60, 130, 220),
    (170, 221, 204),
    (255, 170, 187),
    (187, 204, 51),
    (153, 119, 221),
    (221, 221, 221),
)
"""Okabe and Ito (2008), its green and blue lightened for a dark ground, then Paul Tol's light and bright sets."""

_CUSTOMARY: dict[str, int] = {
    "liver": 0,
    "spleen": 1,
    "kidney": 2,
    "kidney_left": 2,
    "kidney_right": 3,
    "stomach": 5,
    "pancreas": 8,
    "urinary_bladder": 9,
    "aorta": 4,
    "lung": 6,
    "lung_left": 6,
    "lung_right": 7,
}


def colours_of(ids: Sequence[str]) -> dict[str, Colour]:
    """Give each structure id its colour, red, green, blue, 0 to 255.

    An id has one preferred colour for ever; only where two of one segmentation prefer the same does the later one take
    the next free. Beyond the palette's size colours return darker, and after four rounds repeat.
    """
    size = len(PALETTE)
    taken: dict[int, str] = {}
    for name in ids:
        turn = len(taken) // size
        index = _CUSTOMARY.get(name, zlib.crc32(name.encode()) % size)
        while turn * size + index in taken:
            index = (index + 1) % size
        taken[turn * size + index] = name
    return {name: _shade(*divmod(slot, size)) for slot, name in taken.items()}


def _shade(turn: int, index: int) -> Colour:
    red, green, blue = (round(part * 0.75 ** (turn % 4)) for part in PALETTE[index])
    return red, green, blue


def hex_of(colour: Colour) -> str:
    """Return `#rrggbb`."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
