"""What an image holds by its name: "T1ce", "FLAIR", "CT contrast"; and channels of one case on one grid."""
# mypy: allow-untyped-calls

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813

from medsegagent.errors import ImageError
from medsegagent.images.geometry import describe, same_grid
from medsegagent.images.volume import Grid, Volume
from medsegagent.vocabulary import load
from medsegagent.vocabulary.images import image_words, marks_in_name

_FAMILIES = ("CT", "MR", "PET")
_TELLING = ("FLAIR", "ADC", "DWI", "T1ce", "T1", "SWI", "T2star", "T2")
"""Sequences from the most telling on: "T2 FLAIR" is FLAIR, T1 with contrast is T1ce."""
_FAMILY_OF = {"PET": "PET", "CT native": "CT", "CT contrast": "CT"}
_LEAST_COVERED = 0.1
_WELL_COVERED = 0.9


def channel_kind(name: str) -> str:
    """What a channel's or image's name says it holds: "T1ce", "FLAIR", "CT contrast", ...; "" if no sequence."""
    vocabulary = load()
    said, marks = image_words(name, vocabulary), marks_in_name(name, vocabulary)
    sequences = {subtype for family, subtype in said.subtypes if family == "MR"} | marks.intersection(_TELLING)
    values = {*said.loose, *marks, *(subtype for family, subtype in said.subtypes if family == "CT")}
    if "T1" in sequences and "contrast" in values and "non-contrast" not in values:
        sequences.add("T1ce")
    if sequences:
        return next((kind for kind in _TELLING if kind in sequences), min(sequences))
    if "PET" in said.families:
        return "PET"
    if "non-contrast" in values and ("CT" in said.families or "contrast" in name.casefold()):
        return "CT native"
    return "CT contrast" if "contrast" in values and "CT" in said.families else ""


def channel_families(name: str) -> frozenset[str]:
    """The families a channel's name allows, a subset of CT, MR, PET; empty: the name does not say."""
    kind = channel_kind(name)
    if kind:
        return frozenset({_FAMILY_OF.get(kind, "MR")})
    return frozenset(image_words(name, load()).families).intersection(_FAMILIES)


def channel_of_file(path: Path) -> str:
    """The channel that a file's name ends with, as in BIDS (`sub-01_ce-gadolinium_T1w.nii.gz`); "" if it says none."""
    stem = path.name.lower().removesuffix(".gz").rpartition(".")[0] or path.name.lower()
    suffix = re.split(r"[_\-\s]+", stem)[-1]
    if kind := channel_kind(suffix):
        return "T1ce" if kind == "T1" and re.search(r"(^|_)ce-", stem) else kind
    return next(iter(sorted(channel_families(suffix))), "")


def on_one_grid(volumes: Sequence[Volume]) -> tuple[Volume, ...]:
    """Put the channels of a case on the first one's grid.

    A volume within a tenth of a voxel of it is taken as it is. Others are resampled, linearly, their lowest value
    where they have none, with a warning.

    Raises:
        ImageError: If a volume covers less than a tenth of the first one: they are of different places, or given in
            unrelated coordinates.
    """
    first, *others = volumes
    return (first, *(_on_grid(volume, first) for volume in others))


def _on_grid(volume: Volume, first: Volume) -> Volume:
    if same_grid(volume.grid, first.grid):
        return replace(volume, grid=first.grid)
    covered = _share(first.grid, volume.grid)
    if covered < _LEAST_COVERED:
        raise ImageError(
            f"shares {covered:.0%} of the space of {first.path.name}: {describe(volume.grid)} against "
            f"{describe(first.grid)}",
            "Give images of one examination, or register them first.",
            str(volume.path),
        )
    lowest = float(volume.array.min())
    resampled = sitk.Resample(_image(volume), _frame(first.grid), sitk.Transform(), sitk.sitkLinear, lowest)
    text = f"resampled from {describe(volume.grid)} to the grid of {first.path.name}"
    if covered < _WELL_COVERED:
        text += f", of which it covers {covered:.0%}"
    if volume.space and first.space and volume.space != first.space:
        text += "; their frames of reference differ, so check that they lie on each other"
    array = sitk.GetArrayFromImage(resampled)
    return replace(volume, array=array, grid=first.grid, warnings=(*volume.warnings, text))


def _image(volume: Volume) -> sitk.Image:
    image = sitk.GetImageFromArray(volume.array)
    image.SetSpacing(volume.grid.spacing)
    image.SetOrigin(volume.grid.origin)
    image.SetDirection(volume.grid.direction)
    return image


def _frame(grid: Grid) -> sitk.Image:
    """An image of one voxel value that only lends its grid."""
    image = sitk.Image(grid.size, sitk.sitkUInt8)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    return image


def _share(whole: Grid, part: Grid) -> float:
    """The share of `whole` that lies within `part`, by a lattice of 20^3 points."""
    steps = [(np.arange(20) + 0.5) * n / 20 - 0.5 for n in whole.size]
    points = whole.points(np.stack(np.meshgrid(*steps), axis=-1).reshape(-1, 3))
    axes = np.array(part.direction).reshape(3, 3) * np.array(part.spacing)
    index = (points - np.array(part.origin)) @ np.linalg.inv(axes).T
    return float(np.mean(((index >= -0.5) & (index <= np.array(part.size) - 0.5)).all(axis=1)))
