"""What a model folder may ask for. plans.json names Python objects that nnU-Net imports and calls: we allow a list.

Everything is checked before anything is built, and only what was checked is handed on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from medsegagent.errors import ModelError
from medsegagent.models.folder import read_json, resolve_configuration

_UNET = "dynamic_network_architectures.architectures.unet."
_MOVED = {
    f"dynamic_network_architectures.architectures.residual_unet.{name}": f"{_UNET}{name}"
    for name in ("ResidualEncoderUNet", "ResidualUNet")
}

Count = Annotated[int, Field(ge=0, le=64)]
Features = Annotated[int, Field(ge=1, le=4096)]
Millimetres = Annotated[float, Field(gt=1e-3, lt=1e4)]
ImportedKey = Literal["conv_op", "norm_op", "dropout_op", "nonlin"]
Scalars = dict[Annotated[str, Field(pattern=r"^[a-z_]+$")], bool | int | float | None]


class _Checked(BaseModel):
    """Only fields named here get through; a number is never read from a string."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class _Network(_Checked):
    """Constructor arguments of the U-Nets, nothing else."""

    model_config = ConfigDict(extra="forbid")

    n_stages: Annotated[int, Field(ge=1, le=16)]
    features_per_stage: Features | list[Features]
    conv_op: Literal[
        "torch.nn.modules.conv.Conv2d", "torch.nn.modules.conv.Conv3d", "torch.nn.Conv2d", "torch.nn.Conv3d"
    ]
    kernel_sizes: Count | list[Count | list[Count]]
    strides: Count | list[Count | list[Count]]
    n_conv_per_stage: Count | list[Count] | None = None
    n_blocks_per_stage: Count | list[Count] | None = None
    n_conv_per_stage_decoder: Count | list[Count]
    conv_bias: bool = False
    norm_op: (
        Literal[
            "torch.nn.modules.instancenorm.InstanceNorm2d",
            "torch.nn.modules.instancenorm.InstanceNorm3d",
            "torch.nn.modules.batchnorm.BatchNorm2d",
            "torch.nn.modules.batchnorm.BatchNorm3d",
            "torch.nn.InstanceNorm2d",
            "torch.nn.InstanceNorm3d",
            "torch.nn.BatchNorm2d",
            "torch.nn.BatchNorm3d",
        ]
        | None
    ) = None
    norm_op_kwargs: Scalars | None = None
    dropout_op: (
        Literal[
            "torch.nn.modules.dropout.Dropout2d",
            "torch.nn.modules.dropout.Dropout3d",
            "torch.nn.Dropout2d",
            "torch.nn.Dropout3d",
        ]
        | None
    ) = None
    dropout_op_kwargs: Scalars | None = None
    nonlin: (
        Literal[
            "torch.nn.LeakyReLU",
            "torch.nn.ReLU",
            "torch.nn.modules.activation.LeakyReLU",
            "torch.nn.modules.activation.ReLU",
        ]
        | None
    ) = None
    nonlin_kwargs: Scalars | None = None
    deep_supervision: bool = False
    nonlin_first: bool = False
    stem_channels: Features | None = None
    bottleneck_channels: Features | list[Features] | None = None


class _Architecture(_Checked):
    network_class_name: Literal[
        "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        "dynamic_network_architectures.architectures.unet.ResidualUNet",
    ]
    arch_kwargs: _Network
    requires_import: list[ImportedKey] = Field(alias="_kw_requires_import")

    @field_validator("network_class_name", mode="before")
    @classmethod
    def _follow_the_move(cls, name: object) -> object:
        return _MOVED.get(name, name) if isinstance(name, str) else name


class _ResamplingOptions(_Checked):
    model_config = ConfigDict(extra="forbid")

    is_seg: bool = False
    order: Annotated[int, Field(ge=0, le=5)] = 3
    order_z: Annotated[int, Field(ge=0, le=5)] = 0
    force_separate_z: bool | None = None
    separate_z_anisotropy_threshold: float = 3
    memefficient_seg_resampling: bool = False
    num_threads: Annotated[int, Field(ge=1, le=256)] = 4
    mode: Literal["linear", "nearest", "nearest-exact"] = "linear"
    aniso_axis_mode: Literal["linear", "nearest", "nearest-exact"] = "nearest-exact"


Resampler = Literal[
    "resample_data_or_seg_to_shape", "resample_torch_fornnunet", "resample_torch_simple", "no_resampling_hack"
]


class _Configuration(_Checked):
    preprocessor_name: Literal["DefaultPreprocessor"] = "DefaultPreprocessor"
    patch_size: Annotated[list[Annotated[int, Field(ge=1, le=2048)]], Field(min_length=2, max_length=3)]
    spacing: Annotated[list[Millimetres], Field(min_length=2, max_length=3)]
    normalization_schemes: list[
        Literal[
            "CTNormalization",
            "ZScoreNormalization",
            "NoNormalization",
            "RescaleTo01Normalization",
            "RGBTo01Normalization",
        ]
    ]
    use_mask_for_norm: list[bool]
    resampling_fn_data: Resampler
    resampling_fn_seg: Resampler
    resampling_fn_probabilities: Resampler
    resampling_fn_data_kwargs: _ResamplingOptions
    resampling_fn_seg_kwargs: _ResamplingOptions
    resampling_fn_probabilities_kwargs: _ResamplingOptions
    previous_stage: None = None
    architecture: _Architecture | None = None

    # nnU-Net up to 2.4 described its two U-Nets like this; nnU-Net itself turns it into `architecture`.
    UNet_class_name: Literal["PlainConvUNet", "ResidualEncoderUNet"] | None = None
    UNet_base_num_features: Features | None = None
    unet_max_num_features: Features | None = None
    n_conv_per_stage_encoder: list[Count] | None = None
    n_conv_per_stage_decoder: list[Count] | None = None
    num_pool_per_axis: list[Count] | None = None
    pool_op_kernel_sizes: list[list[Count]] | None = None
    conv_kernel_sizes: list[list[Count]] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len(self.patch_size) != len(self.spacing):
            raise ValueError("patch_size and spacing differ in length")
        if self.architecture is None and self.UNet_class_name is None:
            raise ValueError("no network architecture")
        return self


class _Plans(_Checked):
    transpose_forward: Annotated[list[int], Field(min_length=3, max_length=3)]
    transpose_backward: Annotated[list[int], Field(min_length=3, max_length=3)]
    image_reader_writer: Literal["SimpleITKIO", "SimpleITKIOWithReorient", "NibabelIO", "NibabelIOWithReorient"]
    label_manager: Literal["LabelManager"] = "LabelManager"
    foreground_intensity_properties_per_channel: dict[str, dict[str, float]] = Field(
        validation_alias=AliasChoices(
            "foreground_intensity_properties_per_channel", "foreground_intensity_properties_by_modality"
        )
    )

    @model_validator(mode="after")
    def _is_a_permutation(self) -> Self:
        if sorted(self.transpose_forward) != [0, 1, 2]:
            raise ValueError("transpose_forward is not a permutation of 0, 1, 2")
        if sorted(self.transpose_backward) != [0, 1, 2]:
            raise ValueError("transpose_backward is not a permutation of 0, 1, 2")
        if [self.transpose_forward[axis] for axis in self.transpose_backward] != [0, 1, 2]:
            raise ValueError("transpose_backward does not undo transpose_forward")
        return self


OutputValue = Annotated[int, Field(ge=0, le=65535)]
OutputValues = Annotated[list[OutputValue], Field(min_length=1, max_length=4096)]


class _Dataset(_Checked):
    channel_names: Annotated[dict[str, str], Field(min_length=1, max_length=64)] = Field(
        validation_alias=AliasChoices("channel_names", "modality")
    )
    labels: Annotated[dict[str, OutputValue | OutputValues], Field(min_length=2, max_length=4096)]
    regions_class_order: OutputValues | None = None

    @model_validator(mode="after")
    def _labels_are_nnunets(self) -> Self:
        if self.labels.get("background") != 0:
            raise ValueError("labels have no background with value 0")
        values = [value for name, value in self.labels.items() if name != "ignore"]
        if any(isinstance(value, list) and len(value) > 1 for value in values):
            if len(self.regions_class_order or ()) != len(values) - 1:
                raise ValueError("regions_class_order must have one entry per region")
        elif sorted(v[0] if isinstance(v, list) else v for v in values) != list(range(len(values))):
            raise ValueError("labels are not numbered 0, 1, 2, ... without gaps")
        return self


class CheckedFolder(BaseModel):
    """A model folder's JSON, checked: plain data for nnU-Net's own PlansManager and LabelManager."""

    model_config = ConfigDict(frozen=True)

    plans: dict[str, Any]
    """With one configuration, `configuration`, its inheritance resolved."""
    dataset: dict[str, Any]
    configuration: str


def check_folder(folder: Path) -> CheckedFolder:
    """Check dataset.json and plans.json of `.../TRAINER__PLANS__CONFIGURATION` against the allow-lists.

    Raises:
        ModelError: If a file is missing or damaged, or asks for anything that is not on the lists.
    """
    name = folder.name.split("__")[-1]
    raw = read_json(folder / "plans.json")
    dataset = _validated(_Dataset, read_json(folder / "dataset.json"), folder / "dataset.json")
    plans = check_plans(raw, name, folder / "plans.json")
    return CheckedFolder(plans=plans, dataset=dataset, configuration=name)


def check_plans(raw: dict[str, Any], configuration: str, file: Path) -> dict[str, Any]:
    """Check the content of a plans.json; only one configuration is kept, its inheritance resolved.

    Raises:
        ModelError: If it asks for anything that is not on the lists.
    """
    plans = _validated(_Plans, raw, file)
    try:
        resolved = resolve_configuration(raw, configuration)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"plans.json has no usable configuration {configuration!r}"
        raise ModelError(what, "Install the model again.", str(file.parent)) from error
    return plans | {"configurations": {configuration: _validated(_Configuration, resolved, file)}}


def _validated(schema: type[_Checked], raw: dict[str, Any], file: Path) -> dict[str, Any]:
    try:
        # Strict: "1" is not 1, and True is not a count. `exclude_unset` keeps absent what nnU-Net looks for with `in`.
        return schema.model_validate(raw, strict=True).model_dump(by_alias=True, exclude_unset=True)
    except ValidationError as error:
        wrong = "; ".join(_complaint(item) for item in error.errors()[:3])
        remedy = "Only nnU-Net v2's own building blocks are run; a model that needs others cannot be used."
        raise ModelError(f"{file.name} asks for something that is not allowed: {wrong}", remedy, str(file)) from error


def _complaint(item: Any) -> str:
    return f"{'.'.join(str(step) for step in item['loc']) or 'file'}: {item['msg']}, got {item['input']!r:.80}"
