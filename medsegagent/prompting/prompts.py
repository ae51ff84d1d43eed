"""Prompts: what a promptable model is told, in voxel indices of the case's own grid.

A voxel is `(i, j, k)`: its place along the file's x, y and z index axes (`array[k, j, i]`), as viewers show it. Boxes
are half-open: `low` is in, `high` is not.
"""

from __future__ import annotations

import base64
import math
import zlib
from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from medsegagent.errors import PromptError
from medsegagent.images.boxed import NOWHERE, Boxed

MAX_VOXELS = 2**31
"""Of one packed mask; as for images, what asks for more is broken or hostile."""

Size = tuple[int, int, int]
"""Voxels along the x, y and z index axes."""
Index = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Voxel = tuple[Index, Index, Index]
Extent = Annotated[int, Field(ge=0, lt=2**31)]


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Packed(_Data):
    """A mask as JSON: the bits of its bounding box, deflated. All numbers are in array order, z, y, x."""

    shape: tuple[Extent, Extent, Extent]
    low: tuple[Extent, Extent, Extent]
    size: tuple[Extent, Extent, Extent]
    bits: str

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if math.prod(self.shape) > MAX_VOXELS:
            raise ValueError(f"a mask of {'x'.join(map(str, self.shape))} voxels is more than can be handled")
        if any(start + n > whole for start, n, whole in zip(self.low, self.size, self.shape, strict=True)):
            raise ValueError("the mask's box lies outside its own volume")
        return self

    @classmethod
    def of(cls, mask: Boxed[np.bool_]) -> Packed:
        """Pack a mask."""
        low = tuple(part.start for part in mask.box)
        bits = zlib.compress(np.packbits(mask.inside).tobytes(), 6)
        depth, height, width = mask.inside.shape
        return cls(
            shape=mask.shape,
            low=(low[0], low[1], low[2]),
            size=(depth, height, width),
            bits=base64.b64encode(bits).decode("ascii"),
        )

    def mask(self) -> Boxed[np.bool_]:
        """Unpack it.

        Raises:
            PromptError: If the bits are damaged, or more or fewer than the box holds.
        """
        voxels = math.prod(self.size)
        if voxels == 0:
            return Boxed(self.shape, NOWHERE, np.zeros((0, 0, 0), np.bool_))
        wanted = -(-voxels // 8)
        try:
            unpack = zlib.decompressobj()
            data = unpack.decompress(base64.b64decode(self.bits, validate=True), wanted + 1)  # never more: a bomb
        except (ValueError, zlib.error) as error:
            raise PromptError(f"the mask's bits are damaged ({error})", "Write the mask again.") from error
        if len(data) != wanted:
            raise PromptError(f"the mask has not the bits for its {voxels:,} voxels", "Write the mask again.")
        values = np.unpackbits(np.frombuffer(data, np.uint8), count=voxels).astype(np.bool_).reshape(self.size)
        z, y, x = (slice(start, start + n) for start, n in zip(self.low, self.size, strict=True))
        return Boxed.within(self.shape, (z, y, x), values)


class Point(_Data):
    """A click: this voxel is in (positive), or out."""

    kind: Literal["point"] = "point"
    voxel: Voxel
    positive: bool = True


class Box(_Data):
    """A half-open box around the structure (positive), or around what is not part of it.

    One axis of length 1 makes it a 2D box in that slice.
    """

    kind: Literal["box"] = "box"
    low: Voxel
    high: Voxel
    positive: bool = True

    @property
    def flat(self) -> bool:
        """Whether it lies in one slice."""
        return any(high - low == 1 for low, high in zip(self.low, self.high, strict=True))


class Scribble(_Data):
    """Voxels drawn by hand that are in (positive), or out."""

    kind: Literal["scribble"] = "scribble"
    voxels: Packed
    positive: bool = True


class Seed(_Data):
    """A mask to start from. It comes before any other prompt."""

    kind: Literal["seed"] = "seed"
    voxels: Packed


Prompt = Point | Box | Scribble | Seed
_ONE: TypeAdapter[Prompt] = TypeAdapter(Annotated[Prompt, Field(discriminator="kind")])


def read_prompt(data: str | bytes) -> Prompt:
    """Read a prompt from JSON: `{"kind": "point", "voxel": [i, j, k], "positive": true}`, and so on.

    Raises:
        PromptError: If it is none.
    """
    try:
        return _ONE.validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"]) or "prompt"
        raise PromptError(
            f"this is no prompt ({place}: {first['msg']})",
            'Give {"kind": "point", "voxel": [i, j, k], "positive": true}, or a box with "low" and "high".',
        ) from error


def check(prompt: Prompt, size: Size) -> None:
    """Refuse a prompt that does not lie on the image, before any model sees it.

    Raises:
        PromptError: If it lies outside (even partly), holds no voxel, or was drawn on another grid.
    """
    whole = f"the image has {size[0]} x {size[1]} x {size[2]} voxels, numbered from 0"
    match prompt:
        case Point(voxel=voxel):
            if any(not 0 <= index < n for index, n in zip(voxel, size, strict=True)):
                raise PromptError(f"the point {_text(voxel)} is outside the image: {whole}", "Give a voxel inside.")
        case Box(low=low, high=high):
            if any(b <= a for a, b in zip(low, high, strict=True)):
                raise PromptError(
                    f"the box from {_text(low)} to {_text(high)} has no volume",
                    "Give each axis a high end above the low one; the high end itself is not in the box.",
                )
            if any(a < 0 or b > n for a, b, n in zip(low, high, size, strict=True)):
                raise PromptError(f"the box from {_text(low)} to {_text(high)} leaves the image: {whole}", "Shrink it.")
        case Scribble(voxels=packed) | Seed(voxels=packed):
            if packed.shape != (size[2], size[1], size[0]):
                drawn = " x ".join(map(str, packed.shape[::-1]))
                raise PromptError(
                    f"the {prompt.kind} was drawn on {drawn} voxels, but {whole}", "Draw it on this image."
                )
            if prompt.kind == "scribble" and not packed.mask().any():
                raise PromptError("the scribble is empty", "Draw at least one voxel.")


def ball(centre: Voxel, radius: float, spacing: tuple[float, float, float], size: Size) -> Boxed[np.bool_]:
    """The voxels within `radius` mm of a voxel's centre; always the voxel itself. `spacing` is mm along x, y, z."""
    reach = [int(radius // mm) for mm in spacing]
    x, y, z = (slice(max(0, at - far), min(n, at + far + 1)) for at, far, n in zip(centre, reach, size, strict=True))
    box = (z, y, x)
    far = sum(
        np.square((np.arange(part.start, part.stop) - at) * mm).reshape(
            [-1 if axis == here else 1 for axis in range(3)]
        )
        for here, (part, at, mm) in enumerate(zip(box, centre[::-1], spacing[::-1], strict=True))
    )
    inside: NDArray[np.bool_] = np.asarray(far) <= radius**2
    return Boxed.within((size[2], size[1], size[0]), box, inside)


def describe(prompt: Prompt) -> str:
    """Say a prompt in a few words."""
    match prompt:
        case Point(voxel=voxel, positive=positive):
            return f"{'+' if positive else '-'} point {_text(voxel)}"
        case Box(low=low, high=high, positive=positive):
            return f"{'+' if positive else '-'} box {_text(low)} to {_text(high)}"
        case Scribble(positive=positive):
            return f"{'+' if positive else '-'} scribble of {prompt.voxels.mask().count:,} voxels"
        case Seed():
            return f"start from a mask of {prompt.voxels.mask().count:,} voxels"


def _text(voxel: Voxel) -> str:
    return "({}, {}, {})".format(*voxel)
