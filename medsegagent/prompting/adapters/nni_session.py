"""What nnInteractive's session in this process and its client for a server have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsegagent.images.boxed import NOWHERE, Boxed, bounding_box
from medsegagent.prompting.licences import UNKNOWN
from medsegagent.prompting.model import Capabilities
from medsegagent.prompting.prompts import Box, Point, Prompt, Scribble, Seed


def offered(adapter: str, model: str, session: Any) -> Capabilities:
    """Read off a session what its weights take."""
    kinds = session.supported_interactions
    licence = session.license
    return Capabilities(
        adapter=adapter,
        model=model,
        licence=UNKNOWN if licence in (None, "", "!!MISSING!!") else str(licence),
        points=bool(kinds.get("points")),
        box2d=bool(kinds.get("bbox2d")),
        box3d=bool(kinds.get("bbox3d")),
        scribbles=bool(kinds.get("scribble")),
        seed=bool(session.supports_initial_label),
        undo=bool(session.supports_undo),
    )


def forward(session: Any, prompt: Prompt) -> None:
    """Give a prompt to the session; its axes are those of the array, z, y, x, so voxel indices are turned round."""
    match prompt:
        case Point(voxel=(i, j, k), positive=positive):
            session.add_point_interaction((k, j, i), positive)
        case Box(low=low, high=high, positive=positive):
            session.add_bbox_interaction([[a, b] for a, b in zip(low[::-1], high[::-1], strict=True)], positive)
        case Scribble(voxels=packed, positive=positive):
            drawn = packed.mask()
            box = [[part.start, part.stop] for part in drawn.box]
            session.add_scribble_interaction(drawn.inside.astype(np.uint8), positive, interaction_bbox=box)
        case Seed(voxels=packed):
            session.add_initial_seg_interaction(packed.mask().dense().view(np.uint8), run_prediction=False)


def current_mask(buffer: NDArray[np.uint8]) -> Boxed[np.bool_]:
    """Copy what is not 0 out of the target buffer, `(Z, Y, X)`, which the session goes on writing into."""
    z, y, x = buffer.shape
    box = bounding_box(buffer)
    if box is None:
        return Boxed((z, y, x), NOWHERE, np.zeros((0, 0, 0), np.bool_))
    return Boxed((z, y, x), box, buffer[box].astype(np.bool_))
