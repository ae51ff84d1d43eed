"""The dataset card: what a dataset's models take in (channels) and give out (labels), and which models exist."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_serializer, field_validator, model_validator

_MOST_LABELS = 4096
_LONGEST_NAME = 200

Values = Annotated[
    tuple[Annotated[int, Field(ge=0, le=2**31 - 1)], ...],
    Field(max_length=_MOST_LABELS),
    BeforeValidator(lambda value: (value,) if isinstance(value, int) else value),
]
"""Stored voxel values that one label means: `5`, or a list whose union is meant (nnU-Net's region notation)."""

Name = Annotated[str, Field(max_length=_LONGEST_NAME)]
"""Of a label or channel."""

Fold = Annotated[int, Field(ge=0, le=999)] | Literal["all"]

Url = Annotated[str, Field(pattern=r"^https?://[^\s\p{C}/?#@\\]+([/?#][^\s\p{C}\\]*)?$", max_length=2000)]
"""On the web, and without a user's name or password."""

ModelId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*([/:][A-Za-z0-9][\w.-]*)*$", max_length=150)]
"""Unique over all cards, e.g. `totalsegmentator/total:fast`; a folder in the store is called after it."""

_LONGEST_FOLDER = 240
"""Bytes: file systems take 255."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Source(_Frozen):
    """Where a model's weights can be had."""

    url: Url
    archive: Annotated[str, Field(pattern=r"^([^\p{C}./\\][^\p{C}/\\]*)?$", max_length=_LONGEST_NAME)] = ""
    """The file's name; empty: `url` is a page."""
    size: Annotated[int | None, Field(ge=0)] = None
    """Bytes."""
    sha256: Annotated[str | None, Field(pattern=r"^[0-9A-Fa-f]{64}$")] = None
    licence: str | None = None
    """None: not known."""
    licence_required: bool = False
    """True: the publisher gives the weights only against a licence number."""


class ModelPart(_Frozen):
    """One network of a model, whatever its kind."""

    labels: dict[Name, Values] | None = None
    """Card label -> this network's own values. None: the card's values."""
    source: Source | None = None


class NnunetPart(ModelPart):
    """One trained nnU-Net in nnU-Net's own results layout: `DATASET/TRAINER__PLANS__CONFIGURATION/fold_N/`."""

    dataset_folder: Annotated[str, Field(pattern=r"^Dataset\d{3}_[\w.-]+$")]
    trainer: Annotated[str, Field(pattern=r"^[A-Za-z]\w*$")] = "nnUNetTrainer"
    plans: Annotated[str, Field(pattern=r"^[A-Za-z][\w.-]*$")] = "nnUNetPlans"
    configuration: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*$")] = "3d_fullres"
    folds: tuple[Fold, ...] = ()
    """Empty: every fold that is installed."""
    checkpoint: Annotated[str, Field(pattern=r"^\w[\w.-]*\.pth$")] = "checkpoint_final.pth"

    @model_validator(mode="after")
    def _names_fit_a_file_system(self) -> Self:
        for name in (*self.folder.split("/"), self.checkpoint):
            if len(name.encode()) > _LONGEST_FOLDER:
                raise ValueError(f"{name[:40]}... is too long for a file's name")
        return self

    @property
    def folder(self) -> str:
        """Path below a results root, with forward slashes."""
        return f"{self.dataset_folder}/{self.trainer}__{self.plans}__{self.configuration}"


class Crop(_Frozen):
    """The box that a model was trained on: around what another model finds."""

    model: ModelId
    """Id of the model that finds the box, e.g. `totalsegmentator/total:fast`."""
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    """Labels of that model's card whose union the box holds."""
    margin_mm: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 20.0


_Edge = Annotated[float, Field(ge=1e-3, le=1e4)]
"""Of a voxel, mm."""


class ModelEntry(_Frozen):
    """One model that implements the card, in one part or several, whatever its kind."""

    kind: str
    """Names the engine that runs it."""
    id: ModelId
    title: str = ""
    parts: Annotated[tuple[ModelPart, ...], Field(min_length=1, max_length=_LONGEST_NAME)]
    channels: tuple[str, ...] | None = None
    """Per network channel, the card's channel index as a string key. None: the card's order."""
    voter: str = ""
    """Models with the same voter (speeds, versions of one task) share one vote. Empty: the id."""
    spacing_mm: tuple[_Edge, _Edge, _Edge] | None = None
    """Training grid, x, y, z."""
    crop: Crop | None = None
    """None: trained on whole images."""
    notes: str = ""

    @field_validator("id")
    @classmethod
    def _is_a_folders_name(cls, model_id: str) -> str:
        if ".." in model_id:
            raise ValueError("a model id must not contain '..'")
        if len(model_id.encode()) > _LONGEST_FOLDER:
            raise ValueError("a model id is too long for a folder's name")
        return model_id


class NnunetEntry(ModelEntry):
    """A model of trained nnU-Nets; the kind of an entry that names none."""

    kind: Literal["nnunet"] = "nnunet"
    parts: Annotated[tuple[NnunetPart, ...], Field(min_length=1, max_length=_LONGEST_NAME)]
    use_mirroring: bool | None = None
    """Test-time mirroring. None: as the checkpoint allows."""
    tile_step_size: Annotated[float, Field(ge=0.1, le=1)] | None = None
    """Sliding-window step as a fraction of the patch. None: nnU-Net's default, 0.5."""
    reorient: Literal["RAS"] | None = None
    """Axis order that the network expects, if it is not the file's own."""


class DatasetCard(_Frozen):
    """What one dataset's models can segment. A new dataset is a new JSON file, never new code.

    Field names follow nnU-Net's dataset.json, so that a trained model's file becomes a card without retyping.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.+-]*$", max_length=120)]
    description: str = ""
    body_region: str = ""
    channel_names: Annotated[dict[str, Name], Field(min_length=1, max_length=64)]
    """Channel index ("0", "1", ...) -> name, in nnU-Net's order."""
    labels: Annotated[dict[Name, Values], Field(min_length=1, max_length=_MOST_LABELS)]
    """Label name -> the stored voxel values it means. `background` is 0 and may be left out."""
    regions_class_order: tuple[int, ...] | None = None
    num_training: Annotated[int | None, Field(alias="numTraining", ge=0)] = None
    website: str = ""
    paper: str = ""
    """DOI."""
    dataset_doi: str = ""
    licence: str | None = None
    """Of the dataset; None: not known."""
    models: tuple[NnunetEntry, ...] = ()
    """Discriminated by `kind`; another kind of model joins this union."""
    bindings: dict[str, str] = Field(default_factory=dict)
    """Label name -> concept phrase ("left kidney"), where the label's own name does not say it."""
    demo: bool = False
    """True: a toy trained on synthetic patients, never for a real scan."""

    @field_validator("channel_names")
    @classmethod
    def _channels_are_numbered(cls, channels: dict[str, str]) -> dict[str, str]:
        if sorted(channels) != sorted(str(index) for index in range(len(channels))):
            raise ValueError(f"keys must be '0' to '{len(channels) - 1}', got {sorted(channels)}")
        if blank := [index for index, name in channels.items() if not name.strip()]:
            raise ValueError(f"channel {blank[0]} has no name")
        return dict(sorted(channels.items(), key=lambda item: int(item[0])))

    @field_validator("labels")
    @classmethod
    def _values_are_foreground(cls, labels: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        foreground = {name: values for name, values in labels.items() if name.lower() != "background"}
        for name, values in foreground.items():
            if not name.strip():
                raise ValueError("a label has an empty name")
            if min(values, default=0) < 1:
                raise ValueError(f"label {name!r} covers {list(values)}; give voxel values >= 1, for 0 is background")
        if not foreground:
            raise ValueError("no foreground label")
        return foreground

    @model_validator(mode="after")
    def _references_resolve(self) -> DatasetCard:
        if unknown := sorted(self.bindings.keys() - self.labels.keys()):
            raise ValueError(f"bindings name labels that the card lacks: {unknown}")
        for model in self.models:
            if model.channels is not None and not set(model.channels) <= self.channel_names.keys():
                raise ValueError(f"model {model.id!r}: channels {list(model.channels)} are not keys of channel_names")
            for part in model.parts:
                if part.labels is not None and (unknown := sorted(part.labels.keys() - self.labels.keys())):
                    raise ValueError(f"model {model.id!r}: labels that the card lacks: {unknown}")
        return self

    @field_serializer("labels")
    def _plain_ints(self, labels: dict[str, tuple[int, ...]]) -> dict[str, int | list[int]]:
        return {"background": 0} | {n: v[0] if len(v) == 1 else list(v) for n, v in labels.items()}


_OF_NNUNET = frozenset(
    [
        "file_ending",
        "numTest",
        "release",
        "reference",
        "citation",
        "license",
        "licence_url",
        "tensorImageSize",
        "training",
        "test",
        "dataset_name",
        "dataset_release",
        "dataset_reference",
        "dataset_license",
        "converted_by",
        "image_reader_writer",
        "overwrite_image_reader_writer",
        "relase",
    ]
)
"""Keys of dataset.json that mean nothing to a card."""


def card_fields(raw: dict[str, Any], stem: str) -> dict[str, Any]:
    """Turn an older-style card or a bare dataset.json into this schema's fields.

    An older-style card (`input_modalities`) is read leniently: what this schema does not know, or cannot use, such as
    its `models` block, is left out.

    Args:
        raw: The decoded JSON object.
        stem: The file's name without ending, the name of a card that states none.

    Returns:
        Fields for `DatasetCard.model_validate`; in other cards, keys that no schema knows are kept and so reported.
    """
    fields = dict(raw)
    fields.setdefault("name", stem)
    older = "channel_names" not in fields and ("input_modalities" in fields or "modality" in fields)
    if older:
        fields["channel_names"] = fields["input_modalities"] if "input_modalities" in fields else fields["modality"]
    if isinstance(channels := fields.get("channel_names"), list):
        fields["channel_names"] = {str(index): name for index, name in enumerate(channels)}
    if isinstance(labels := fields.get("labels"), dict):
        fields["labels"] = _label_fields(labels)
    fields = {key: value for key, value in fields.items() if key not in _OF_NNUNET}
    return _known(fields) if older else fields


def _label_fields(labels: dict[str, Any]) -> dict[str, Any]:
    """Names to values: nnU-Net v1 wrote them the other way round, and nnU-Net's ignore label is no structure."""
    if labels and all(re.fullmatch(r"[0-9]{1,9}", key) and isinstance(value, str) for key, value in labels.items()):
        labels = {name: int(value) for value, name in labels.items()}
    return {name: values for name, values in labels.items() if name != "ignore"}


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    """Only what the schema knows and accepts; name, channels and labels always stay and are checked."""
    needed = {"name", "channel_names", "labels"}
    text = {"description", "body_region", "website", "paper", "licence"}
    kept = {key: value for key, value in fields.items() if key in needed or (key in text and isinstance(value, str))}
    if isinstance(count := fields.get("numTraining"), int) and count >= 0:
        kept["numTraining"] = count
    order = fields.get("regions_class_order")
    if isinstance(order, list) and all(isinstance(value, int) for value in order):
        kept["regions_class_order"] = order
    return kept
