"""Pictures and masks as PNG, to send and to receive. What is received is checked before it is decoded."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import ImageError

LARGEST = 64_000_000
"""Pixels of one picture."""


def to_png(picture: NDArray[np.uint8]) -> bytes:
    """Encode a grey `(H, W)` or coloured `(H, W, 3)` picture; no text, no date, nothing but pixels."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def to_grey(data: bytes, where: str = "") -> NDArray[np.uint8]:
    """Decode a PNG or JPEG to grey `(H, W)`.

    Raises:
        ImageError: If it is none, is damaged, or is larger than `LARGEST`.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > LARGEST:
                what = f"a picture of {image.width} x {image.height} pixels is more than can be handled"
                raise ImageError(what, "Shrink it.", where)
            return np.asarray(image.convert("L"), np.uint8)
    except ImageError:
        raise
    except Exception as error:  # a damaged file can fail in any way
        what = f"not a readable PNG or JPEG ({' '.join(str(error).split())[:200]})"
        raise ImageError(what, "Give another picture.", where) from error


def mask_to_text(mask: NDArray[np.bool_]) -> str:
    """A mask as the session protocol has it: base64 of a PNG of 0 and 255."""
    return base64.b64encode(to_png(mask.astype(np.uint8) * np.uint8(255))).decode("ascii")


def mask_from_text(text: str) -> NDArray[np.bool_]:
    """Read such a mask.

    Raises:
        ImageError: If it is none.
    """
    try:
        data = base64.b64decode(text.partition("base64,")[2] or text, validate=True)
    except ValueError as error:
        raise ImageError("a mask is no base64", "Is it a segmentation server of this protocol?") from error
    return to_grey(data) > 127
