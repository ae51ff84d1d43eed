"""`http`: the published agent's session protocol, as a client: one session a slice, PNG out, PNG masks back."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import ImageError, ModelError, PromptableError, PromptError, SessionLostError
from medsegagent.prompting.adapters.sending import require_consent
from medsegagent.prompting.licences import UNKNOWN
from medsegagent.prompting.model import Capabilities
from medsegagent.prompting.pictures import mask_from_text, to_png

_TIMEOUT_S = 120.0
_TRIES = 3
_LARGEST = 64 << 20


class HttpPictures:
    """The picture model behind a server. Only pixels are sent."""

    def __init__(self, url: str, *, send_images: bool = False) -> None:
        """Ask the server whether it is there.

        Raises:
            PromptableError: If it cannot be reached or has no model loaded.
            UsageError: If the address is none, or another machine's without `send_images`.
        """
        require_consent(url, send_images)
        self._url = url.rstrip("/")
        # No proxy: what is meant for a machine that was named goes there and nowhere else.
        self._http = httpx.Client(
            timeout=_TIMEOUT_S, trust_env=False, transport=httpx.HTTPTransport(retries=_TRIES - 1)
        )
        self._sessions: dict[int, tuple[str, tuple[int, ...]]] = {}
        try:
            answer = self._http.get(f"{self._url}/health")
            answer.raise_for_status()
            model = str(answer.json().get("model_type", UNKNOWN))[:100]
        except (httpx.HTTPError, ValueError, AttributeError) as error:
            self._http.close()
            what = f"the server cannot be reached ({error or type(error).__name__})"
            remedy = "Start one with `medsegagent promptable serve`, or check the address."
            raise PromptableError(what, remedy, url, "unreachable") from error
        self._capabilities = Capabilities(
            adapter="http",
            model=f"{model} at {url}",
            licence=UNKNOWN,
            box3d=False,
            scribbles=False,
            negative_boxes=False,
            flat=True,
        )

    @property
    def capabilities(self) -> Capabilities:
        """Points and positive boxes in one slice."""
        return self._capabilities

    def show(self, number: int, picture: NDArray[np.uint8]) -> None:
        """Open a session on a picture."""
        if number in self._sessions:
            return
        files = {"image": ("slice.png", to_png(np.repeat(picture[..., None], 3, axis=2)), "image/png")}
        content = self._post("/session/create", files=files)
        self._sessions[number] = str(content.get("session_id", "")), picture.shape

    def prime(self, number: int, mask: NDArray[np.bool_]) -> None:
        """Do nothing: the protocol has no way to give a mask."""

    def click(self, number: int, x: float, y: float, positive: bool) -> NDArray[np.bool_]:
        """Add a click, in whole pixels."""
        fields = {"point_x": str(int(x)), "point_y": str(int(y)), "is_positive": json.dumps(positive)}
        return self._answer(number, "/session/add_click", fields | {"multimask_output": "false"})

    def box(self, number: int, low: tuple[float, float], high: tuple[float, float]) -> NDArray[np.bool_]:
        """Add a box, in whole pixels."""
        corners = [*(int(np.floor(edge)) for edge in low), *(int(np.ceil(edge)) for edge in high)]
        return self._answer(number, "/session/add_bbox", {"bbox": json.dumps(corners), "multimask_output": "false"})

    def forget(self) -> None:
        """End all sessions."""
        for session, _ in self._sessions.values():
            try:
                self._http.delete(f"{self._url}/session/{session}", timeout=5.0)
            except httpx.HTTPError:
                break  # the server drops them in time
        self._sessions.clear()

    def close(self) -> None:
        """End all sessions and the connection."""
        self.forget()
        self._http.close()

    def _answer(self, number: int, route: str, fields: dict[str, str]) -> NDArray[np.bool_]:
        session, shape = self._sessions[number]
        content = self._post(route, data=fields | {"session_id": session})
        masks = content.get("masks")
        if not isinstance(masks, list) or not masks or not isinstance(masks[0], str):
            raise ModelError("the server gave no mask", "See the server's log.", self._url)
        try:
            mask = mask_from_text(masks[0])
        except ImageError as error:
            raise ModelError(f"the server's mask cannot be read: {error.what}", error.remedy, self._url) from error
        if mask.shape != shape:
            what = f"the server's mask has {mask.shape} pixels, the slice {tuple(shape)}"
            raise ModelError(what, "See the server's log.", self._url)
        return mask

    def _post(self, route: str, **request: Any) -> dict[str, Any]:
        try:
            with self._http.stream("POST", f"{self._url}{route}", **request) as answer:
                body = b""
                for part in answer.iter_bytes():
                    body += part
                    if len(body) > _LARGEST:
                        raise ModelError("the server's answer is too large", "See the server's log.", self._url)
        except httpx.HTTPError as error:
            self._sessions.clear()
            what = f"the server is gone ({error or type(error).__name__})"
            raise SessionLostError(what, "Start it again; the prompts are kept.", self._url) from error
        try:
            content = json.loads(body)
        except ValueError:
            content = {}
        if not isinstance(content, dict):
            content = {}
        if answer.status_code == httpx.codes.OK:
            return content
        said = str(content.get("detail", ""))[:200] or f"status {answer.status_code}"
        if answer.status_code == httpx.codes.NOT_FOUND:
            self._sessions.clear()
            raise SessionLostError(f"the server forgot the session ({said})", "Try again.", self._url)
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise PromptableError(f"the server is not ready ({said})", "Try again later.", self._url, "unreachable")
        if answer.is_client_error:
            raise PromptError(f"the server refuses the prompt ({said})", "Give another.", self._url)
        raise ModelError(f"the server failed ({said})", "See the server's log.", self._url)
