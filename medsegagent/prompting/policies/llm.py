"""`llm`: a vision model looks at the mask and chooses the next prompt, as the published agent does.

One slice a turn, letterboxed into a square; three tools with coordinates from 0 to 999, and for volumes a fourth to
look at another slice. What it answers is checked; text in an image or an answer is data and changes nothing else.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medsegagent.prompting.pictures import to_png
from medsegagent.prompting.policies.base import Act, Answer, State, Stop, Unusable
from medsegagent.prompting.policies.vision import Message, Said, Sees
from medsegagent.prompting.prompts import Box, Point, Prompt, Seed, Voxel
from medsegagent.prompting.views import Letterbox, View, across, greys_for, overlay, view_of
from medsegagent.reporting.view import PLANES, Plane

SIZE = 512
"""Pixels of the square that is shown."""
STEPS = 1000
"""Coordinates reach from 0 to 999."""
LOOKS = 3
"""Slices that may be looked at besides the first, in one episode."""
HISTORY = 5
"""Turns that are shown again."""

_CORNER = (0.16, 0.10)
"""Share of width and height, at each corner, that is blacked out: scanners burn names in there."""


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="ignore")


class _AddBox(_Arguments):
    bbox_2d: list[int] = Field(min_length=4, max_length=4)


class _AddPoint(_Arguments):
    point_2d: list[int] = Field(min_length=2, max_length=2)
    point_type: Literal["positive", "negative"]


class _View(_Arguments):
    plane: Plane
    slice: int


_COORDINATE = {"type": "integer", "minimum": 0, "maximum": STEPS - 1}


def _tool(name: str, description: str, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


ADD_BOX = _tool(
    "add_bbox",
    "Draw a box tightly around the target.",
    bbox_2d={"type": "array", "items": _COORDINATE, "minItems": 4, "maxItems": 4, "description": "[x1, y1, x2, y2]"},
)
ADD_POINT = _tool(
    "add_point",
    "Click: positive on what the mask misses, negative on what it should not cover.",
    point_2d={"type": "array", "items": _COORDINATE, "minItems": 2, "maxItems": 2, "description": "[x, y]"},
    point_type={"type": "string", "enum": ["positive", "negative"]},
)
STOP = _tool("stop_action", "The mask is right: end.")
VIEW = _tool(
    "view",
    "Look at another slice of the volume; changes nothing.",
    plane={"type": "string", "enum": list(PLANES)},
    slice={"type": "integer", "minimum": 0},
)


@dataclass
class Llm:
    """The policy. The conversation is built anew each turn from what was done."""

    sees: Sees
    plane: Plane = "axial"
    name: str = "llm"
    _view: View | None = None
    _looks: int = 0
    _views: list[View] = field(default_factory=list)

    def decide(self, state: State) -> Answer:
        """Show the mask, ask for one action.

        Raises:
            EndpointError: If the endpoint gives no answer.
        """
        while True:
            if self._view is None:
                self._view = _first_view(state, self.plane)
            del self._views[len(_prompted(state)) :]
            tools = _tools(state, may_look=self._looks < LOOKS)
            said = self.sees(self._messages(state, tools), tools)
            answer = _read(said, self._view, state)
            if not isinstance(answer, _View):
                if isinstance(answer, Act):
                    self._views.append(self._view)
                return answer
            self._looks += 1
            try:
                self._view = view_of(state.grid, answer.plane, answer.slice)
            except IndexError:
                last = state.grid.shape[across(state.grid, answer.plane)] - 1
                return Unusable(f"there is no {answer.plane} slice {answer.slice}; they reach from 0 to {last}")
            if self._looks > LOOKS:
                return Unusable(f"no more than {LOOKS} slices may be looked at")

    def _messages(self, state: State, tools: Sequence[dict[str, Any]]) -> list[Message]:
        assert self._view is not None
        seed = next((turn.mask for turn in state.turns if isinstance(turn.prompt, Seed)), None)
        shown = [Message(role="system", content=_system(tools, state))]
        opening = (
            f"Target: {json.dumps(state.target)}. {_about(self._view if not self._views else self._views[0], state)}"
        )
        first = self._views[0] if self._views else self._view
        shown.append(_user(f"{opening} Give the first action.", _picture(state, first, seed.dense() if seed else None)))
        turns = _prompted(state)
        for number, (turn, view) in enumerate(zip(turns, self._views, strict=False)):
            if number < len(turns) - HISTORY:
                continue
            shown.append(Message(role="assistant", content=_call(turn.prompt, view)))
            after = self._views[number + 1] if number + 1 < len(self._views) else self._view
            words = f"The mask after it. {_about(after, state)} Give the next action, or stop if it is right."
            shown.append(_user(words, _picture(state, after, turn.mask.dense())))
        if state.complaint:
            shown.append(_user(f"That could not be used: {state.complaint} Give one call of one of the tools."))
        return shown


def _prompted(state: State) -> list[Any]:
    return [turn for turn in state.turns if not isinstance(turn.prompt, Seed)]


def _first_view(state: State, plane: Plane) -> View:
    """The slice in which the mask is largest; the middle one without a mask."""
    axis = across(state.grid, plane)
    index = state.grid.shape[axis] // 2
    if state.mask.any():
        other = tuple({0, 1, 2} - {axis})
        areas = np.count_nonzero(state.mask.inside, axis=other)
        index = state.mask.box[axis].start + int(areas.argmax())
    return view_of(state.grid, plane, index)


def _tools(state: State, *, may_look: bool) -> list[dict[str, Any]]:
    offered = state.offered
    given = [(ADD_BOX, offered.box2d), (ADD_POINT, offered.points), (STOP, True)]
    return [tool for tool, is_there in given if is_there] + ([VIEW] if may_look and min(state.grid.size) > 1 else [])


def _system(tools: Sequence[dict[str, Any]], state: State) -> str:
    begin = (
        "You correct the mask that is there."
        if state.mask.any()
        else "There is no mask yet: your first call makes one."
    )
    listed = "\n".join(json.dumps(tool) for tool in tools)
    return (
        "You are an expert annotator of medical images. You make a mask of one target and refine it, one action a "
        f"turn. Segment only the target that the user names. {begin} The mask is shown in half-transparent green; it "
        "must cover the target fully and nothing else. Coordinates are integers from 0 to 999 across the picture, x "
        "to the right and y down, from the upper left corner. Look at the current mask before acting. Use no other "
        f"function than these.\n<tools>\n{listed}\n</tools>\n"
        'Answer with exactly one call, as a tool call or as <tool_call>{"name": ..., "arguments": {...}}</tool_call>, '
        "and nothing else."
    )


def _about(view: View, state: State) -> str:
    if min(state.grid.size) == 1:
        return ""
    last = state.grid.shape[view.across] - 1
    return f"This is {view.plane} slice {view.index} of 0 to {last}; the patient's right is at the left."


def _user(text: str, picture: bytes | None = None) -> Message:
    if picture is None:
        return Message(role="user", content=text)
    url = f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"
    return Message(
        role="user", content=[{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
    )


def _picture(state: State, view: View, mask: NDArray[np.bool_] | None) -> bytes:
    grey = blacked_out(greys_for(state.array)(view.picture(state.array)))
    shown = np.zeros(grey.shape, np.bool_) if mask is None else view.picture(mask)
    return to_png(Letterbox(SIZE, view.pixels).fit(overlay(grey, shown)))


def blacked_out(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Black out the four corners, where names and dates are burnt in."""
    height, width = picture.shape
    rows, columns = math.ceil(height * _CORNER[1]), math.ceil(width * _CORNER[0])
    hidden = picture.copy()
    for vertical in (slice(0, rows), slice(height - rows, height)):
        for horizontal in (slice(0, columns), slice(width - columns, width)):
            hidden[vertical, horizontal] = 0
    return hidden


def _call(prompt: Prompt, view: View) -> str:
    """What the model is shown to have called."""
    box = Letterbox(SIZE, view.pixels)

    def step(voxel: Voxel, edge: float = 0.0) -> list[int]:
        x, y = view.pixel(voxel)
        places = (box.start[0] + x * box.scale + edge, box.start[1] + y * box.scale + edge)
        return [min(STEPS - 1, max(0, int(place * STEPS / SIZE))) for place in places]

    match prompt:
        case Point(voxel=voxel, positive=positive):
            name, arguments = (
                "add_point",
                {"point_2d": step(voxel), "point_type": "positive" if positive else "negative"},
            )
        case Box(low=low, high=high):
            last: Voxel = (high[0] - 1, high[1] - 1, high[2] - 1)
            (x0, y0), (x1, y1) = step(low), step(last)
            name, arguments = "add_bbox", {"bbox_2d": [min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)]}
        case _:
            raise ValueError(f"{prompt.kind} is no action of a model")
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def display_pixel(value: int, size: int = SIZE) -> int:
    """The pixel of a coordinate from 0 to 999."""
    return min(size - 1, math.floor((value + 0.5) * size / STEPS))


def box_end(value: int, size: int = SIZE) -> int:
    """The half-open end, in pixels, of a box whose last coordinate is `value`."""
    return min(size, math.ceil((value + 1) * size / STEPS))


def _read(said: Said, view: View, state: State) -> Answer | _View:
    """Turn an answer into an action, or say why it is none."""
    calls = list(said.calls) or _written_calls(said.text)
    if not calls:
        return Unusable("it called no tool.")
    if len(calls) > 1:
        return Unusable(f"it made {len(calls)} calls; one action a turn.")
    name, arguments = calls[0]
    try:
        match name:
            case "stop_action":
                if not state.mask.any() and not state.complaint:
                    return Unusable("there is no mask yet, so there is nothing to stop at.")
                return Stop("the model says that the mask is right")
            case "view" if min(state.grid.size) > 1:
                return _View.model_validate_json(arguments)
            case "add_point":
                return _point(_AddPoint.model_validate_json(arguments), view, state)
            case "add_bbox":
                return _box(_AddBox.model_validate_json(arguments), view)
    except ValidationError as error:
        first = error.errors()[0]
        return Unusable(f"{name}: {'.'.join(map(str, first['loc'])) or 'arguments'}: {first['msg']}.")
    return Unusable(f"there is no tool {name[:40]!r}.")


def _written_calls(text: str) -> list[tuple[str, str]]:
    """Calls written out between tags; a key that lacks its opening quote is mended."""
    found = []
    for block in re.findall(r"<tool_call>\s*(.*?)\s*</tool_call>", text, re.S):
        try:
            call = json.loads(re.sub(r'([{,]\s*)([a-z_0-9]+")\s*:', r'\1"\2:', block))
            found.append((str(call["name"]), json.dumps(call.get("arguments", {}))))
        except (ValueError, KeyError, TypeError, AttributeError):
            found.append(("", "{}"))
    return found


def _inside(values: Sequence[int]) -> str:
    out = [value for value in values if not 0 <= value < STEPS]
    return f"{out[0]} is not between 0 and {STEPS - 1}." if out else ""


def _point(call: _AddPoint, view: View, state: State) -> Answer:
    if wrong := _inside(call.point_2d):
        return Unusable(wrong)
    x, y = (display_pixel(value) + 0.5 for value in call.point_2d)
    inner = Letterbox(SIZE, view.pixels).inside(x, y)
    if not (0 <= inner[0] < view.pixels[1] and 0 <= inner[1] < view.pixels[0]):
        return Unusable("the point is beside the image, on the black border.")
    prompt = Point(voxel=view.voxel(*inner), positive=call.point_type == "positive")
    if any(turn.prompt == prompt for turn in state.turns):
        return Unusable("that click was made before.")
    return Act(prompt, f"{call.point_type} point at {call.point_2d}")


def _box(call: _AddBox, view: View) -> Answer:
    x0, y0, x1, y1 = call.bbox_2d
    if wrong := _inside(call.bbox_2d):
        return Unusable(wrong)
    if x0 >= x1 or y0 >= y1:
        return Unusable("the box must have x1 < x2 and y1 < y2.")
    box = Letterbox(SIZE, view.pixels)
    left, top = box.inside(display_pixel(x0), display_pixel(y0))
    right, bottom = box.inside(box_end(x1), box_end(y1))
    height, width = view.pixels
    left, top = max(0.0, left), max(0.0, top)
    right, bottom = min(float(width), right), min(float(height), bottom)
    if right <= left or bottom <= top:
        return Unusable("the box is beside the image, on the black border.")
    inside = 1e-6
    first, last = view.voxel(left, top), view.voxel(right - inside, bottom - inside)
    low = tuple(min(a, b) for a, b in zip(first, last, strict=True))
    high = tuple(max(a, b) + 1 for a, b in zip(first, last, strict=True))
    return Act(Box(low=(low[0], low[1], low[2]), high=(high[0], high[1], high[2])), f"box at {call.bbox_2d}")
