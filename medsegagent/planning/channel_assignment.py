"""Which volume feeds which channel of a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from medsegagent.images.channels import channel_families, channel_kind
from medsegagent.images.geometry import same_grid
from medsegagent.images.volume import Volume
from medsegagent.models.folder import squashed


def assign_channels(
    channel_names: Mapping[str, str], volumes: Sequence[Volume], families: Sequence[str]
) -> dict[str, int] | str:
    """Find the volume that feeds each channel of a card.

    A volume fits a channel by name (exact, else by what both names say they hold), else by family. One volume for
    one channel needs no name.

    Args:
        channel_names: Card channel index as a string key -> name.
        volumes: The images given, the first one's grid being the reference.
        families: What the instruction says the images are; it overrules the estimate from the image.

    Returns:
        Channel key -> index into `volumes`, or why there is no such assignment.
    """
    assigned: dict[str, int] = {}
    for key, name in channel_names.items():
        candidates = _candidates(name, key, volumes, families, alone=len(channel_names) == 1)
        free = [index for index in candidates if index not in assigned.values()]
        if not free:
            return f"needs {_wanted(channel_names)}; {_given(volumes)}"
        assigned[key] = free[0]
    for key, index in assigned.items():
        if not same_grid(volumes[index].grid, volumes[0].grid):
            return f"{channel_names[key]} ({volumes[index].path.name}) is not on the grid of {volumes[0].path.name}"
    return assigned


def _candidates(name: str, key: str, volumes: Sequence[Volume], families: Sequence[str], *, alone: bool) -> list[int]:
    """Volumes that fit one channel, those of the most telling evidence only, in the order given."""
    exact = [i for i, v in enumerate(volumes) if v.channel and squashed(v.channel) in (squashed(name), key)]
    if exact:
        return exact
    kind, wanted = channel_kind(name), channel_families(name)
    same_kind = [i for i, v in enumerate(volumes) if kind and channel_kind(v.channel) == kind]
    if same_kind:
        return same_kind
    if alone and len(volumes) == 1 and not channel_families(volumes[0].channel):
        evident = volumes[0].evidence.family
        contradicted = not families and evident is not None and wanted and evident not in wanted
        return [] if contradicted else [0]
    return [i for i, v in enumerate(volumes) if _fits_family(kind, wanted, v)]


def _fits_family(kind: str, wanted: frozenset[str], volume: Volume) -> bool:
    """Whether a volume of unlike name may still be meant: "CT" for "contrast CT", but never T2 for T1."""
    named_kind, named = channel_kind(volume.channel), channel_families(volume.channel)
    if kind and (named_kind or not named):
        return False
    families = named or ({volume.evidence.family} if volume.evidence.family else set())
    return bool(families & wanted)


def _wanted(channel_names: Mapping[str, str]) -> str:
    return " and ".join(channel_names.values())


def _given(volumes: Sequence[Volume]) -> str:
    names = [volume.channel or volume.path.name for volume in volumes]
    return f"given: {', '.join(names)}"
