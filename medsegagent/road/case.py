"""The images of one examination, read and checked, with the evidence that they give about themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medsegagent.errors import UsageError
from medsegagent.images.channels import on_one_grid
from medsegagent.images.in_memory import volume_of_image
from medsegagent.images.read import read_volume
from medsegagent.images.volume import Grid, Volume
from medsegagent.road.messages import Task

if TYPE_CHECKING:
    import nibabel
    import SimpleITK as sitk  # noqa: N813

    Image = Path | str | Volume | sitk.Image | nibabel.spatialimages.SpatialImage
    """A file, DICOM folder, or an image in memory; an array goes through `medsegagent.volume_of`."""
    Images = Image | Mapping[str, Image]
    """One image, or channel name -> image: `{"T1": ..., "FLAIR": ...}`."""

SURE = 0.9
"""Confidence from which an image's own modality overrules a contradicting instruction."""


@dataclass(frozen=True)
class Case:
    """One examination. Requests on it are runs; none of them changes it.

    Attributes:
        volumes: Its images, all on the first one's grid.
    """

    volumes: tuple[Volume, ...]

    @property
    def grid(self) -> Grid:
        """The grid that masks are on."""
        return self.volumes[0].grid

    def task(self, instruction: str, modality: str | None = None) -> Task:
        """Put the images' own evidence beside the instruction; several images together are one study."""
        evidence = [volume.evidence for volume in self.volumes]
        families = [item.family for item in evidence]
        if None in families:
            return Task(instruction=instruction, modality=modality)
        distinct = sorted({family for family in families if family}, key=lambda family: family != "PET")
        return Task(
            instruction=instruction,
            modality=modality,
            image_modality="/".join(distinct),
            image_reason="; ".join(dict.fromkeys(item.reason for item in evidence)),
            image_is_sure=min(item.confidence for item in evidence) >= SURE,
        )


def open_case(images: Images, *, series: str = "", family: str | None = None) -> Case:
    """Read the images of a case.

    Args:
        images: See `Images`.
        series: Of a DICOM study, which series: its number or a part of its description; empty for the one that fits.
        family: CT, MR or PET, where the request names one: settles which series fits.

    Raises:
        SeriesNeededError: If several series could be meant.
        MissingFileError: If a path leads nowhere.
        ImageError: If an image cannot be used.
        ArgumentTypeError: If something is no image.
    """
    named = images if isinstance(images, Mapping) else {"": images}
    if not named:
        raise UsageError("no image is given", "Give at least one.", "image")
    return Case(on_one_grid([_volume(image, name, series, family) for name, image in named.items()]))


def _volume(image: Image, channel: str, series: str, family: str | None) -> Volume:
    if isinstance(image, str | Path):
        return read_volume(Path(image), channel, series=series, family=family)
    if isinstance(image, Volume):
        return image if not channel else Volume(**{**vars(image), "channel": channel})
    return volume_of_image(image, channel)
