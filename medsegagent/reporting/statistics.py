"""Figures per structure: of the fused mask and of each model's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from medsegagent.fusion.agreement import own_mask
from medsegagent.fusion.segmentation import Segmentation, Structure
from medsegagent.images.volume import Volume
from medsegagent.inference.prediction import Prediction


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Intensity(_Frozen):
    """Voxel values of one image inside a mask, in the image's unit; `sd` is the population's."""

    mean: float
    sd: float
    min: float
    max: float


class MaskStatistics(_Frozen):
    """Figures of one mask. `intensity` is by channel (the image's file name if it has none); empty if the mask is."""

    voxels: int
    volume_ml: float
    touches_border: bool
    intensity: dict[str, Intensity]


class StructureStatistics(_Frozen):
    """Figures of one structure: the fused mask, and each voter's own by model id."""

    name: str
    target: str
    fused: MaskStatistics
    models: dict[str, MaskStatistics]
    agreement: float | None
    """Mean pairwise Dice between the models; None with a single voter or if nothing was found."""


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
            fused=measure(structure.mask, volumes),
            models={
                prediction.model: measure(own_mask(prediction, structure), volumes)
                for prediction in predictions
                if structure.target in prediction.masks
            },
            agreement=_mean_dice(structure),
        )
        for structure in segmentation.structures
    }


def measure(mask: NDArray[np.bool_], volumes: Sequence[Volume]) -> MaskStatistics:
    """Measure one mask `(Z, Y, X)` on the volumes' grid."""
    inside = np.flatnonzero(mask)
    voxels = int(inside.size)
    faces = (mask[0], mask[-1], mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1])
    return MaskStatistics(
        voxels=voxels,
        volume_ml=voxels * volumes[0].grid.voxel_ml,
        touches_border=any(bool(face.any()) for face in faces),
        intensity={v.channel or v.path.name: _intensity(v.array.reshape(-1)[inside]) for v in volumes}
        if voxels
        else {},
    )


def _intensity(values: NDArray[np.float32]) -> Intensity:
    return Intensity(
        mean=float(values.mean(dtype=np.float64)),
        sd=float(values.std(dtype=np.float64)),
        min=float(values.min()),
        max=float(values.max()),
    )


def _mean_dice(structure: Structure) -> float | None:
    known = [value for value in structure.pairwise_dice.values() if value == value]  # NaN: both empty
    return float(np.mean(known)) if known else None
