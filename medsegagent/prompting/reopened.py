"""A run folder, opened again so that its masks can be corrected: what it holds is read back and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from medsegagent.errors import ImageError, OutputError, UsageError
from medsegagent.fusion.segmentation import Ballot, Segmentation, Structure
from medsegagent.images.boxed import NOWHERE, Boxed
from medsegagent.images.geometry import same_grid
from medsegagent.images.read import digest, read_volume
from medsegagent.images.volume import Grid, Volume
from medsegagent.prompting.versions import History, read_history
from medsegagent.reporting.record import InputRecord, RunRecord, read_record
from medsegagent.reporting.statistics import StructureStatistics
from medsegagent.untrusted import read_json_object

_LARGEST = 256 << 20
_ID = re.compile(r"[\w.-]{1,200}")


class _Loose(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _Label(_Loose):
    id: str
    name: str


@dataclass(frozen=True)
class Reopened:
    """A finished run.

    Attributes:
        folder: Where it lies.
        record: run.json, whole.
        volume: The first image.
        segmentation: The masks that count now.
        figures: statistics.json.
        history: masks.json.
    """

    folder: Path
    record: RunRecord
    volume: Volume
    segmentation: Segmentation
    figures: Mapping[str, StructureStatistics]
    history: History

    def structure(self, said: str) -> Structure:
        """Find a structure by its id or name.

        Raises:
            UsageError: If the run has none of that name.
        """
        wanted = said.strip().lower().replace(" ", "_")
        for item in self.segmentation.structures:
            if wanted in (item.id.lower(), item.name.lower().replace(" ", "_")):
                return item
        known = ", ".join(item.id for item in self.segmentation.structures)
        raise UsageError(f"the run has no structure {said!r}", f"It has {known}.", str(self.folder))


def reopen(folder: Path, image: Path | None = None) -> Reopened:
    """Read a run folder.

    Args:
        folder: Of a finished run.
        image: The run's first image; None: looked for in the folder, beside it and where the command is run.

    Raises:
        ImageError: If the image is not found, is another one than the run's, or a mask does not lie on it.
        OutputError: If this is no run folder, or masks.json is damaged.
    """
    record = read_record(folder)
    try:
        labels = {
            int(value): _Label.model_validate(label)
            for value, label in _json(folder / "segmentation.json", "the run has no segmentation").items()
        }
        statistics = _json(folder / "statistics.json", "the run has no statistics")
        figures = {name: StructureStatistics.model_validate(item) for name, item in statistics.items()}
    except (ValidationError, ValueError) as error:
        what = f"the run's files are not as medsegagent wrote them ({' '.join(str(error).split())[:150]})"
        raise OutputError(what, "Run the case again.", str(folder)) from error
    volume = _image(folder, record.inputs, image)
    history = read_history(folder)
    segmentation = _segmentation(folder, record, labels, figures, history, volume.grid)
    return Reopened(folder, record, volume, segmentation, figures, history)


def _json(file: Path, what: str) -> dict[str, Any]:
    try:
        return read_json_object(file, _LARGEST)
    except (OSError, ValueError) as error:
        remedy = "Give the folder that `medsegagent segment -o` wrote."
        raise OutputError(f"{what}: {file.name} cannot be read ({error})", remedy, str(file.parent)) from error


def _image(folder: Path, inputs: tuple[InputRecord, ...], given: Path | None) -> Volume:
    """The run's first image, known by its checksum."""
    if not inputs:
        raise UsageError("the run names no image", "Run the case again.", str(folder))
    wanted = inputs[0]
    name = Path(wanted.file).name
    places = [given] if given else [folder / name, folder / "image.nii.gz", folder.parent / name, Path(name)]
    for place in places:
        if place.exists():
            try:
                fits = digest(place) == wanted.sha256
            except ImageError:
                fits = False
            if fits:
                return read_volume(place, wanted.channel)
            if given:
                what = "this is not the image that the run was made on (its checksum differs)"
                raise ImageError(what, f"Give {name}.", str(given))
    where = "there is no such file" if given else f"the run's image {name} is not in the folder, nor beside it"
    raise ImageError(where, "Give it with -i.", str(given or folder))


def _segmentation(
    folder: Path,
    known: RunRecord,
    labels: Mapping[int, _Label],
    figures: Mapping[str, StructureStatistics],
    history: History,
    grid: Grid,
) -> Segmentation:
    targets = {target.id: target for target in known.request.targets}
    voters = {result.id: result.voters for result in known.structures}
    weights = {item.model.id: item.weight for item in known.plan.models}
    painted = _array(folder / "segmentation.nii.gz", grid)
    structures = []
    for value, label in sorted(labels.items()):
        if not _ID.fullmatch(label.id) or label.id not in figures:
            raise UsageError(f"the run's files disagree on {label.id[:80]!r}", "Run the case again.", str(folder))
        target = targets.get(figures[label.id].target)
        whole = folder / "targets" / f"{label.id}.nii.gz"
        where = Boxed.of(_array(whole, grid) > 0) if whole.is_file() else Boxed.of(painted == value)
        agreement = folder / "agreement" / f"{label.id}.nii.gz"
        support = Boxed.of(_array(agreement, grid)) if agreement.is_file() else _empty(grid)
        side = next((name for name in ("left", "right") if label.id.endswith(f"_{name}")), None)
        structures.append(
            Structure(
                id=label.id,
                name=label.name,
                target=figures[label.id].target,
                concepts=tuple(target.concepts) if target else (),
                where=where,
                support=support,
                ballots=tuple(
                    Ballot(
                        model, "", weights.get(model, 1.0), rank, figures[label.id].models[model].voxels, float("nan")
                    )
                    for rank, model in enumerate(voters.get(label.id, ()), 1)
                    if model in figures[label.id].models
                ),
                pairwise_dice={},
                layer=0,
                value=value,
                side=side,  # type: ignore[arg-type]
            )
        )
    segmentation = Segmentation(grid, tuple(structures))
    for name, versions in history.structures.items():
        if name in figures:
            chosen = folder / versions.current.file
            segmentation = replaced(segmentation, name, read_mask(chosen, grid))
    return segmentation


def read_mask(file: Path, grid: Grid) -> Boxed[np.bool_]:
    """Read one mask.

    Raises:
        ImageError: If it cannot be read or does not lie on the grid.
    """
    return Boxed.of(_array(file, grid) > 0)


def replaced(segmentation: Segmentation, structure: str, mask: Boxed[np.bool_]) -> Segmentation:
    """The same segmentation with another mask for one structure."""
    return replace(
        segmentation,
        structures=tuple(
            replace(item, where=mask) if item.id == structure else item for item in segmentation.structures
        ),
    )


def _empty(grid: Grid) -> Boxed[np.uint8]:
    return Boxed(grid.shape, NOWHERE, np.zeros((0, 0, 0), np.uint8))


def _array(file: Path, grid: Grid) -> np.ndarray:
    """Read a map of small numbers, `(Z, Y, X)`; one that holds a single value is as good as any other."""
    import SimpleITK as sitk  # noqa: N813

    from medsegagent.images.geometry import grid_of

    try:
        image = sitk.ReadImage(str(file))
    except RuntimeError as error:
        raise ImageError("the mask cannot be read", "Run the case again.", str(file)) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1 or not same_grid(grid_of(image), grid):
        raise ImageError("the mask does not lie on the run's image", "Give the run's own image.", str(file))
    values: np.ndarray = sitk.GetArrayFromImage(image)
    if not np.isin(np.unique(values), np.arange(65536)).all():
        raise ImageError("the mask holds other values than labels", "Run the case again.", str(file))
    return values.astype(np.uint16 if values.max() > 255 else np.uint8)
