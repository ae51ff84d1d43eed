"""The session protocol as a server: any of our promptable models for other people's agents.

The routes and fields are the published agent's. Pictures stay in memory, each session goes when it was not used for a
while, and one prediction runs at a time.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import ImageError, MedSegAgentError, PromptError, UsageError
from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Grid
from medsegagent.prompting.adapters.extras import require
from medsegagent.prompting.model import PromptableModel
from medsegagent.prompting.pictures import mask_to_text, to_grey
from medsegagent.prompting.prompts import Box, Packed, Point, Prompt, Seed
from medsegagent.prompting.session import PromptSession

PORT = 8265
_LARGEST = 64 << 20
_LOGITS = 256
_SURE = 10.0


@dataclass
class _Held:
    """A session: the picture's, and when it was last used."""

    session: PromptSession
    pixels: tuple[int, int]
    used: float
    rounds: int = 0
    clicks: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class Sessions:
    """The sessions of a server. Safe to use from several threads."""

    def __init__(self, make: Callable[[], PromptableModel], most: int, idle_s: float) -> None:
        self._make, self._most, self._idle_s = make, most, idle_s
        self._held: dict[str, _Held] = {}
        self.lock = threading.Lock()
        """Held while a model works: there is one device."""

    def create(self, picture: NDArray[np.uint8], name: str = "") -> str:
        """Open a session; the oldest idle ones go first.

        Raises:
            UsageError: If all are in use.
        """
        self.sweep()
        if name in self._held:
            self.delete(name)
        if len(self._held) >= self._most:
            raise UsageError(f"all {self._most} sessions are in use", "End one, or wait.")
        name = name or secrets.token_hex(8)
        self._held[name] = self.opened(picture)
        return name

    def opened(self, picture: NDArray[np.uint8]) -> _Held:
        """A session on a picture, as a volume one slice deep."""
        height, width = picture.shape
        grid = Grid((width, height, 1), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
        session = PromptSession(self._make())
        session.open(picture[None].astype(np.float32), grid)
        return _Held(session, (height, width), time.monotonic())

    def get(self, name: str) -> _Held:
        """Find a session.

        Raises:
            KeyError: If there is none, or it expired.
        """
        self.sweep()
        held = self._held[name]
        held.used = time.monotonic()
        return held

    def delete(self, name: str) -> None:
        """End a session, if there is one."""
        if (held := self._held.pop(name, None)) is not None:
            held.session.__exit__(None, None, None)

    def sweep(self) -> None:
        """End what was not used for a while."""
        late = time.monotonic() - self._idle_s
        for name in [name for name, held in self._held.items() if held.used < late]:
            self.delete(name)

    @property
    def names(self) -> list[str]:
        """The sessions there are."""
        return list(self._held)


def make_app(
    make: Callable[[], PromptableModel], *, device: str = "cpu", max_sessions: int = 64, idle_s: float = 3600.0
) -> Any:
    """Build the ASGI application.

    Args:
        make: Makes the promptable model of one session; they should share their network.
        device: To tell clients.
        max_sessions: Most at a time.
        idle_s: Seconds after which an unused session goes.

    Raises:
        PromptableError: If the packages of a server are not installed.
    """
    for module in ("starlette.applications", "python_multipart"):
        require(module, extra="interactive", feature="promptable serve")
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.datastructures import UploadFile
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    model = make()
    served = Sessions(make, max_sessions, idle_s)
    about = {"model_type": model.capabilities.adapter, "device": device}
    model.close()

    async def answer(handler: Handler, request: Request) -> JSONResponse:
        fields, picture = dict(request.path_params), b""
        if request.method == "POST":
            if int(request.headers.get("content-length", _LARGEST + 1)) > _LARGEST:
                return JSONResponse({"detail": f"more than {_LARGEST >> 20} MiB, or of unknown length"}, 413)
            async with request.form(max_files=1, max_fields=32, max_part_size=_LARGEST) as form:
                for name, value in form.multi_items():
                    if isinstance(value, UploadFile):
                        picture = await value.read()
                    else:
                        fields[name] = value
        try:
            return JSONResponse(await run_in_threadpool(handler, served, fields, picture))
        except (KeyError, MedSegAgentError) as error:
            status, detail = _refusal(error)
            return JSONResponse({"detail": detail}, status)

    def refused(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        return JSONResponse({"detail": error.detail}, error.status_code)

    def health(sessions: Sessions, _: Fields, __: bytes) -> dict[str, Any]:
        return about | {"active_sessions": len(sessions.names)}

    table = {("GET", "/"): health, ("GET", "/health"): health} | _ROUTES
    routes = [Route(path, partial(answer, handler), methods=[method]) for (method, path), handler in table.items()]
    return Starlette(routes=routes, exception_handlers={HTTPException: refused})


Fields = dict[str, str]
Handler = Callable[[Sessions, Fields, bytes], dict[str, Any]]


def _create(sessions: Sessions, fields: Fields, picture: bytes) -> dict[str, Any]:
    with sessions.lock:
        name = sessions.create(to_grey(picture), fields.get("session_id", "")[:64])
        height, width = sessions.get(name).pixels
    return {"session_id": name, "image_size": [width, height]}


def _add_click(sessions: Sessions, fields: Fields, _: bytes) -> dict[str, Any]:
    place = [_json(_field(fields, name), name) for name in ("point_x", "point_y")]
    positive = _json(fields.get("is_positive", "true").lower(), "is_positive")
    return _applied(sessions, _field(fields, "session_id"), [_point(place, positive)])


def _add_bbox(sessions: Sessions, fields: Fields, _: bytes) -> dict[str, Any]:
    return _applied(sessions, _field(fields, "session_id"), [_box(_json(_field(fields, "bbox"), "bbox"))])


def _segment(sessions: Sessions, fields: Fields, _: bytes) -> dict[str, Any]:
    keep = _json(fields.get("use_previous_mask", "true").lower(), "use_previous_mask") is True
    points = fields.get("points", fields.get("point_coords", "")), fields.get("labels", fields.get("point_labels", ""))
    return _applied(sessions, _field(fields, "session_id"), _prompts(*points, fields.get("bbox", "")), keep=keep)


def _predict(sessions: Sessions, fields: Fields, picture: bytes) -> dict[str, Any]:
    given = [fields.get(name, "") for name in ("point_coords", "point_labels", "bbox", "text")]
    before = _logits(fields.get("previous_logits", ""), fields.get("previous_logits_shape", ""))
    return _once(sessions, to_grey(picture), _prompts(*given), before)


def _status(sessions: Sessions, fields: Fields, _: bytes) -> dict[str, Any]:
    held = sessions.get(fields["session_id"])
    height, width = held.pixels
    return {
        "session_id": fields["session_id"],
        "image_size": [width, height],
        "round_number": held.rounds,
        "total_clicks": held.clicks,
        "history": held.history,
    }


def _list(sessions: Sessions, _: Fields, __: bytes) -> dict[str, Any]:
    sessions.sweep()
    return {"sessions": sessions.names, "total": len(sessions.names)}


def _delete(sessions: Sessions, fields: Fields, _: bytes) -> dict[str, Any]:
    with sessions.lock:
        sessions.get(fields["session_id"])
        sessions.delete(fields["session_id"])
    return {"session_id": fields["session_id"], "remaining": len(sessions.names)}


_ROUTES: dict[tuple[str, str], Handler] = {
    ("POST", "/predict"): _predict,
    ("POST", "/predict_with_state"): _predict,
    ("POST", "/session/create"): _create,
    ("POST", "/session/add_click"): _add_click,
    ("POST", "/session/add_bbox"): _add_bbox,
    ("POST", "/session/segment"): _segment,
    ("GET", "/session/{session_id}/status"): _status,
    ("GET", "/sessions"): _list,
    ("DELETE", "/session/{session_id}"): _delete,
}


def _refusal(error: Exception) -> tuple[int, str]:
    """The status and the words for what went wrong."""
    match error:
        case KeyError():
            return 404, "no such session; it may have expired"
        case PromptError() | ImageError():
            return 400, str(error)
        case UsageError():
            return 503, str(error)
        case _:
            return 500, str(error)


def _field(fields: Fields, name: str) -> str:
    if name not in fields:
        raise PromptError(f"the field {name} is missing", "See the protocol's page, docs/refine.md.")
    return fields[name]


def _applied(sessions: Sessions, name: str, prompts: list[Prompt], *, keep: bool = True) -> dict[str, Any]:
    with sessions.lock:
        held = sessions.get(name)
        if not keep:
            while held.session.undo():
                pass
        for prompt in prompts:
            held.session.apply(prompt)
            held.rounds += 1
            held.clicks += isinstance(prompt, Point)
            held.history.append(prompt.model_dump(mode="json"))
        mask = held.session.mask.dense()[0]
    return {
        "session_id": name,
        "masks": [mask_to_text(mask)],
        "round_number": held.rounds,
        "total_clicks": held.clicks,
    }


def _once(
    sessions: Sessions, picture: NDArray[np.uint8], prompts: list[Prompt], before: NDArray[np.bool_] | None
) -> dict[str, Any]:
    import base64

    with sessions.lock:
        held = sessions.opened(picture)
        with held.session as session:
            if before is not None and session.capabilities.seed:
                whole = _resized(before, picture.shape)
                session.apply(Seed(voxels=Packed.of(Boxed.of(whole[None]))))
            for prompt in prompts:
                session.apply(prompt)
            mask = session.mask.dense()[0]
    logits = np.where(_resized(mask, (_LOGITS, _LOGITS)), _SURE, -_SURE).astype(np.float32)[None]
    return {
        "masks": [mask_to_text(mask)],
        "category_pred": [],
        "message": "ok",
        "logits": base64.b64encode(logits.tobytes()).decode("ascii"),
        "logits_shape": list(logits.shape),
    }


def _resized(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(shape, mask.shape, strict=True)
    )
    return mask[np.ix_(rows, columns)]


def _logits(data: str, shape: str) -> NDArray[np.bool_] | None:
    """The mask that previous logits stand for; None without any."""
    import base64

    if not data:
        return None
    size = _json(shape, "previous_logits_shape")
    try:
        values = np.frombuffer(base64.b64decode(data, validate=True), np.float32).reshape(size)
        return np.asarray(values.reshape(values.shape[-2:]) > 0)
    except (ValueError, TypeError, IndexError) as error:
        raise PromptError(f"previous_logits cannot be read ({error})", "Give what the last answer held.") from error


def _prompts(coords: str, labels: str, bbox: str, words: str = "") -> list[Prompt]:
    """The box first, then the points in order."""
    if words not in ("", "[]", "null"):
        raise PromptError("words are not taken as prompts", "Give points or a box.")
    places = _json(coords, "point_coords") if coords else []
    signs = _json(labels, "point_labels") if labels else []
    if not isinstance(places, list) or not isinstance(signs, list) or len(places) != len(signs):
        raise PromptError("point_coords and point_labels differ in length", "Give one label, 1 or 0, for each point.")
    boxes: list[Prompt] = [_box(_json(bbox, "bbox"))] if bbox and bbox != "null" else []
    return boxes + [_point(place, bool(sign)) for place, sign in zip(places, signs, strict=True)]


def _point(place: Any, positive: Any) -> Point:
    x, y = _numbers(place, 2, "a point")
    return Point(voxel=(x, y, 0), positive=bool(positive))


def _box(corners: Any) -> Box:
    x0, y0, x1, y1 = _numbers(corners, 4, "bbox")
    return Box(low=(x0, y0, 0), high=(x1, y1, 1))


def _numbers(values: Any, count: int, what: str) -> list[int]:
    numeric = isinstance(values, list) and all(
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**31 for value in values
    )
    if not numeric or len(values) != count:
        raise PromptError(f"{what} is not {count} numbers", "Give pixels from the upper left corner.")
    return [int(np.floor(value)) for value in values]


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PromptError(f"{name} is no JSON", "See the protocol's page, docs/refine.md.") from error
