"""Figures per structure: of the fused mask and of each model's own."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from medsegagent.engines.base import Prediction
from medsegagent.fusion.agreement import own_mask
from medsegagent.fusion.segmentation import Segmentation, Structure
from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Volume
from medsegagent.reporting.shape import Shape, measure_shape
from medsegagent.wording import plain

_OPPOSITE = {"left": "right", "right": "left"}


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Intensity(_Frozen):
    """Voxel values of one image inside a mask, in `unit`: HU, SUVbw, or a.u. for arbitrary ones."""

    unit: str
    mean: float
    sd: float
    min: float
    p5: float
    p25: float
    median: float
    p75: float
    p95: float
    max: float


class MaskStatistics(_Frozen):
    """Figures of one mask. `intensity` is by channel (the image's file name if it has none); empty if the mask is."""

    voxels: int
    volume_ml: float
    touches_border: bool
    intensity: dict[str, Intensity]


class OtherSide(_Frozen):
    """A structure's volume against that of the same one on the other side of the patient."""

    structure: str
    """Id of the other one."""
    ratio: float
    """Its own volume over the other's."""
    difference_ml: float
    """Its own volume minus the other's."""


class StructureStatistics(_Frozen):
    """Figures of one structure: the fused mask, and each voter's own by model id; `shape` is the fused mask's."""

    name: str
    target: str
    fused: MaskStatistics
    shape: Shape | None
    models: dict[str, MaskStatistics]
    agreement: float | None
    """Mean pairwise Dice between the models whose votes count; None with a single one or if nothing was found."""
    other_side: OtherSide | None
    """Against the same structure on the other side; None if there is none, or one of the two was not found."""


def structure_statistics(
    segmentation: Segmentation, volumes: Sequence[Volume], predictions: Sequence[Prediction]
) -> Mapping[str, StructureStatistics]:
    """Measure every structure, by id.

    A mask touches the border if it has a voxel on any face of the volume: the structure is probably cut off there, and
    its volume a lower bound.
    """
    return {
        structure.id: StructureStatistics(
            name=structure.name,
            target=structure.target,
            fused=measure(structure.where, volumes),
            shape=measure_shape(structure.where, segmentation.grid),
            models={
                prediction.model: measure(own_mask(prediction, structure), volumes)
                for prediction in predictions
                if structure.target in prediction.masks
            },
            agreement=structure.mean_dice,
            other_side=_other_side(structure, segmentation),
        )
        for structure in segmentation.structures
    }


def measure(mask: Boxed[np.bool_], volumes: Sequence[Volume]) -> MaskStatistics:
    """Measure one mask on the volumes' grid."""
    voxels = mask.count
    faces = zip(mask.box, mask.shape, strict=True)
    return MaskStatistics(
        voxels=voxels,
        volume_ml=voxels * volumes[0].grid.voxel_ml,
        touches_border=mask.any() and any(part.start == 0 or part.stop == size for part, size in faces),
        intensity={
            volume.channel or plain(volume.path.name): _intensity(volume.array[mask.box][mask.inside], unit_of(volume))
            for volume in volumes
            if voxels
        },
    )


def unit_of(volume: Volume) -> str:
    """Return the unit of a volume's intensities."""
    return volume.unit or ("HU" if volume.evidence.family == "CT" else "a.u.")


def _intensity(values: NDArray[np.float32], unit: str) -> Intensity:
    p5, p25, median, p75, p95 = (float(value) for value in np.percentile(values, [5, 25, 50, 75, 95]))
    return Intensity(
        unit=unit,
        mean=float(values.mean(dtype=np.float64)),
        sd=float(values.std(dtype=np.float64)),
        min=float(values.min()),
        p5=p5,
        p25=p25,
        median=median,
        p75=p75,
        p95=p95,
        max=float(values.max()),
    )


def _other_side(structure: Structure, segmentation: Segmentation) -> OtherSide | None:
    mirrored = re.sub(r"(?<=_)(left|right)(?=_|$)", lambda side: _OPPOSITE[side[0]], structure.id)
    for other in segmentation.structures:
        if other.id == mirrored != structure.id and other.where.any() and structure.where.any():
            own, its = (item.where.count * segmentation.grid.voxel_ml for item in (structure, other))
            return OtherSide(structure=other.id, ratio=own / its, difference_ml=own - its)
    return None


def write_csv(path: Path, statistics: Mapping[str, StructureStatistics]) -> None:
    """Write the figures as a table: one row for each fused structure, then one for each model's own mask of it.

    Columns: structure, name, source ("fused" or the model), voxels, volume_ml, touches_border, agreement, the other
    side's (`other_side_ratio`, ...), the shape's (`centroid_mm_x`, ...), and per channel its intensities (`T1_mean`,
    ...). What is unknown is empty.
    """
    rows = []
    for name, item in statistics.items():
        shape = {f"{key}{axis}": value for key, axis, value in _flat(item.shape)}
        other = (
            {f"other_side_{key}": value for key, value in item.other_side.model_dump().items()}
            if item.other_side
            else {}
        )
        shared = {"agreement": item.agreement} | other
        rows.append({"structure": name, "name": item.name, "source": "fused"} | _row(item.fused) | shared | shape)
        rows += [
            {"structure": name, "name": item.name, "source": model} | _row(own) for model, own in item.models.items()
        ]
    columns = dict.fromkeys(key for row in rows for key in row)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, fieldnames=list(columns), restval="")
        table.writeheader()
        table.writerows(rows)


def _row(figures: MaskStatistics) -> dict[str, object]:
    row: dict[str, object] = figures.model_dump(exclude={"intensity"})
    for channel, intensity in figures.intensity.items():
        row |= {f"{channel}_{key}": value for key, value in intensity.model_dump().items()}
    return row


def _flat(shape: Shape | None) -> Iterator[tuple[str, str, object]]:
    """Yield the shape's figures, points as three."""
    for key, value in shape.model_dump().items() if shape else ():
        if isinstance(value, tuple):
            yield from ((key, f"_{axis}", part) for axis, part in zip("xyz", value, strict=True))
        else:
            yield key, "", value
