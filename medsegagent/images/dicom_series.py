"""Series: the volumes that a DICOM folder holds, and which of them is meant."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from medsegagent.errors import ImageError, SeriesNeededError, UsageError
from medsegagent.images.channels import channel_families, channel_kind
from medsegagent.images.dicom_frames import Frame, Header, Scan, Vector
from medsegagent.images.dicom_geometry import arrange
from medsegagent.images.dicom_split import by_value, split, stacks
from medsegagent.images.geometry import orientation
from medsegagent.images.volume import Grid

FAMILIES = {"CT": "CT", "MR": "MR", "PT": "PET"}
"""DICOM's Modality -> the family as cards name it."""

_FEW, _MANY = 5, 10


@dataclass(frozen=True)
class Series:
    """One volume in a folder; what a person needs to choose it, and no name, id or date.

    Attributes:
        key: Short name to choose it by: the series number, with a letter where a series holds several volumes.
        modality: DICOM's Modality.
        description: Of the series, and what tells this volume from others in it.
        original: Not derived (reformatted, projected, localizer) by its image type.
        grid: None if it is not usable.
        problem: Why it cannot be read as a volume; empty if it can.
        warnings: What will be corrected.
        frames: Its images, in file order.
        space: The frame of reference's UID.
    """

    key: str
    modality: str
    description: str
    original: bool
    grid: Grid | None
    problem: str
    warnings: tuple[str, ...]
    frames: tuple[Frame, ...]
    space: str

    @property
    def family(self) -> str | None:
        """CT, MR or PET, or None for any other modality."""
        return FAMILIES.get(self.modality)

    @property
    def summary(self) -> str:
        """One line for people."""
        what = f"series {self.key}: {self.modality or 'modality unknown'}, {self.description or 'no description'}"
        if self.grid is None:
            return f"{what}, {len(self.frames)} images, not usable: {self.problem}"
        spacing = " x ".join(f"{mm:.3g}" for mm in self.grid.spacing)
        return f"{what}, {self.grid.size[2]} slices, {spacing} mm, {orientation(self.grid)}"


def group(scan: Scan) -> tuple[tuple[Series, ...], tuple[str, ...]]:
    """Sort a scan's images into volumes.

    Returns:
        The volumes in the order of their series numbers, usable or not; and warnings on what was left out.
    """
    by_series, merged = _by_series([header for header in scan.headers if header.frames])
    warnings = []
    if others := Counter(header.modality or "unknown" for header in scan.headers if not header.frames):
        kinds = ", ".join(sorted(others))
        warnings.append(f"objects that are no images left out: {others.total()} ({kinds})")
    reasons: dict[str, list[str]] = defaultdict(list)
    for name, reason in scan.left_out:
        reasons[reason].append(name)
    warnings += [f"{reason} left out: {len(names)} (the first is {names[0]})" for reason, names in reasons.items()]
    if merged:
        warnings.append("each file has a series identifier of its own; they were put together by place and description")

    found: list[Series] = []
    taken: Counter[str] = Counter()
    for headers in sorted(by_series, key=_order):
        number = headers[0].number or "0"
        for volume in _volumes(headers):
            taken[number] += 1
            letter = "" if taken[number] == 1 else _letter(taken[number] - 1)
            found.append(replace(volume, key=f"{number}{letter}"))
    return tuple(found), tuple(warnings)


def _by_series(headers: Sequence[Header]) -> tuple[list[list[Header]], bool]:
    """Sort headers by series: by its identifier, or by what describes it where that was removed or made up per file.

    Returns:
        The series, and whether some have been put together although their identifiers differ.
    """
    known: dict[str, list[Header]] = defaultdict(list)
    unknown: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    for header in headers:
        if header.series:
            known[header.series].append(header)
        else:
            unknown[_described(header)].append(header)
    single: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    for own in known.values():
        if len(own) == 1 and len(own[0].frames) == 1:
            single[_described(own[0])].append(own[0])
    merged = [own for own in single.values() if len(own) >= _FEW]
    apart = {header.series for own in merged for header in own}
    found = [own for series, own in known.items() if series not in apart]
    return [*found, *unknown.values(), *merged], bool(merged)


def _described(header: Header) -> tuple[str, ...]:
    return header.modality, header.number, header.description, "\\".join(header.image_type)


def pick_series(
    series: Sequence[Series], wanted: str = "", family: str | None = None, channel: str = "", where: str = ""
) -> tuple[Series, tuple[str, ...]]:
    """Choose the volume that is meant.

    Without `wanted`, unusable series, those of another family or whose description says another sequence than the
    channel's name, stacks of few slices, and derived images where there are original ones are left out; if one is
    left, it is meant.

    Args:
        series: All that there is.
        wanted: A key, or a part of one description.
        family: CT, MR or PET, where the request names one.
        channel: The name of the channel that it is for ("FLAIR"), if any.
        where: For messages.

    Returns:
        The volume, and a note where there were others.

    Raises:
        ImageError: If there is no usable series.
        UsageError: If `wanted` names none, or several.
        SeriesNeededError: If several could be meant.
    """
    if wanted:
        return _named(series, wanted, where), ()
    usable = [item for item in series if not item.problem]
    if not usable:
        reasons = "; ".join(item.summary for item in series) or "it holds no DICOM image"
        raise ImageError(f"no series can be read as a volume: {reasons}", "Export the original slices.", where)
    left = [item for item in usable if item.family == family] or usable if family else usable
    left = [item for item in left if item.family] or left
    left = [item for item in left if item.family in channel_families(channel)] or left
    if kind := channel_kind(channel):
        left = [item for item in left if channel_kind(item.description) == kind] or left
    if any(len(item.frames) >= _MANY for item in left):
        left = [item for item in left if len(item.frames) >= _FEW]
    left = [item for item in left if item.original] or left
    if len(left) > 1:
        listed = "".join(f"\n  {item.summary}" for item in left)
        keys = tuple(item.key for item in left)
        raise SeriesNeededError(
            f"several series could be meant:{listed}\n", "Choose one: --series NUMBER.", where, keys
        )
    others = len(series) - 1
    note = (f"of {others + 1} series, {left[0].summary} was taken; --series chooses another",) if others else ()
    return left[0], note


def _named(series: Sequence[Series], wanted: str, where: str) -> Series:
    text = wanted.strip().casefold()
    named = [item for item in series if item.key.casefold() == text]
    named = named or [item for item in series if item.description.casefold() == text]
    named = named or [item for item in series if text in item.description.casefold()]
    if len(named) == 1:
        if named[0].problem:
            raise ImageError(f"series {named[0].key} cannot be read: {named[0].problem}", "Choose another.", where)
        return named[0]
    what = "names several series" if named else "names no series"
    listed = "".join(f"\n  {item.summary}" for item in named or series)
    raise UsageError(f"--series {wanted!r} {what}; there are:{listed}\n", "Give a series number.", where)


def _volumes(headers: Sequence[Header]) -> list[Series]:
    """The volumes of one series: by size, spacing and direction, then by what tells repeats apart."""
    first = headers[0]
    frames, copies = _without_copies(header.frames for header in headers)
    kind = {part.upper() for part in first.image_type}
    original = not (kind >= {"DERIVED", "SECONDARY"} or kind & {"LOCALIZER", "MPR", "MIP", "PROJECTION IMAGE"})
    volumes = []
    for stack in stacks(frames):
        for label, part in split(stack):
            text = " ".join([first.description, label]).strip()
            volume = Series(
                "", first.modality, text, original, None, _unfit(first, part), copies, tuple(part), first.space
            )
            volumes.append(volume if volume.problem else _arranged(volume))
    volumes.sort(key=lambda volume: -len(volume.frames))
    return volumes


def _arranged(volume: Series) -> Series:
    try:
        layout = arrange(volume.frames)
    except ImageError as error:
        return replace(volume, problem=error.what)
    return replace(volume, grid=layout.grid, warnings=layout.warnings + volume.warnings)


def _without_copies(groups: Iterable[Sequence[Frame]]) -> tuple[list[Frame], tuple[str, ...]]:
    """Frames of distinct objects; the same object stored in two places counts once.

    Position and traits count too, for there is software that gives every slice the same instance UID; and where it
    was removed, nothing is a copy before its pixels have been compared.
    """
    frames: list[Frame] = []
    seen: dict[tuple[str, Vector | None, tuple[str, ...]], str] = {}
    copies = 0
    for own in groups:
        key = own[0].instance, own[0].position, tuple(own[0].traits.values())
        if own[0].instance and seen.setdefault(key, own[0].file) != own[0].file:
            copies += 1
        else:
            frames += own
    return frames, (f"copies of the same object left out: {copies}",) if copies else ()


def _unfit(header: Header, frames: Sequence[Frame]) -> str:
    if header.colour:
        return "colour images"
    if header.modality in ("SEG", "RTDOSE", "SR", "PR"):
        return f"modality {header.modality} is a result, no image"
    if any(frame.position is None for frame in frames):
        return "the headers do not say where the slices lie"
    return "a single slice" if len(frames) == 1 else ""


def _order(headers: Sequence[Header]) -> tuple[float, str]:
    return by_value((headers[0].number, None))[0], headers[0].series


def _letter(index: int) -> str:
    return chr(ord("a") + index) if index < 26 else f"-{index + 1}"
