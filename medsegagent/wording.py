"""Words that every room puts alike."""

from __future__ import annotations

from collections.abc import Sequence


def some(names: Sequence[str], most: int = 5) -> str:
    """A list for a sentence: "a, b and 7 more" where there are more than `most`."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


_STEERING = (
    *(code for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in (0x09, 0x0A)),  # control characters
    *(0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),  # what turns the direction of writing
    *(0x2028, 0x2029, 0xFEFF, *range(0xFFF9, 0xFFFC), *range(0xE0000, 0xE0080)),  # breaks, annotations, tags
)
_WITHOUT: dict[int, str | None] = dict.fromkeys(_STEERING) | dict.fromkeys(range(0xD800, 0xE000), "\ufffd")


def plain(text: str) -> str:
    """Text that steers neither a terminal nor the direction of writing, for people to look at.

    Names of files, cards and DICOM series are whatever someone wrote into them. Line feeds and tabs stay; bytes of a
    file's name that are no character become a replacement character.
    """
    return text.translate(_WITHOUT)
