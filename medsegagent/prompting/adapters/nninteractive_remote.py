"""`nninteractive-remote`: nnInteractive's own client against an `nninteractive-server`.

The server lends a session (a lease). When it expires or the server restarts, the next prompt opens a new one and all
prompts so far are given anew.
"""
# mypy: allow-untyped-calls

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medsegagent.errors import ModelError, PromptableError, PromptError, SessionLostError
from medsegagent.images.boxed import Boxed
from medsegagent.images.volume import Grid
from medsegagent.prompting.adapters.extras import require
from medsegagent.prompting.adapters.nni_session import current_mask, forward, offered
from medsegagent.prompting.adapters.sending import require_consent
from medsegagent.prompting.licences import require_accepted
from medsegagent.prompting.model import Capabilities
from medsegagent.prompting.prompts import Prompt

_BUSY, _REFUSED = 503, (401, 403)


class NNInteractiveRemote:
    """The adapter; it holds one lease."""

    def __init__(
        self, url: str, *, api_key: str = "", send_images: bool = False, licence_accepted: bool = False
    ) -> None:
        """Claim a session on the server.

        Args:
            url: `http://HOST:PORT`.
            api_key: If the server wants one; else the environment's NN_INTERACTIVE_API_KEY.
            send_images: Images may be sent to a server on another machine.
            licence_accepted: The licence of the server's weights is accepted.

        Raises:
            PromptableError: If the client is absent, the server cannot be reached, is full, wants another key, or its
                weights' licence is not accepted.
            UsageError: If the address is none, or another machine's without `send_images`.
        """
        require_consent(url, send_images)
        self._client = require(
            "nnInteractive.inference.remote.remote_session", extra="interactive", feature="nninteractive-remote"
        )
        self._url, self._key = url, api_key
        self._session: Any = None
        self._buffer = np.zeros((0, 0, 0), np.uint8)
        self._connect()
        self._capabilities = offered("nninteractive-remote", url, self._session)
        try:
            require_accepted(self._capabilities.licence, licence_accepted, url)
        except PromptableError:
            self.close()
            raise

    @property
    def capabilities(self) -> Capabilities:
        """What the server's weights take."""
        return self._capabilities

    def open(self, array: NDArray[np.float32], grid: Grid) -> None:
        """Send the voxels, without any header; claims a new session if the last one was lost."""
        if self._session is None:
            self._connect()
        self._buffer = np.zeros(grid.shape, np.uint8)
        try:
            self._send(array)
        except SessionLostError:  # the lease ran out while nothing was done
            self._connect()
            self._send(array)

    def apply(self, prompt: Prompt) -> None:
        """Give one prompt.

        Raises:
            SessionLostError: If the lease expired or the server is gone.
            PromptError: If the server refuses the prompt.
            ModelError: If the server fails.
        """
        if self._session is None:
            raise SessionLostError("the session was lost", "Open the image again.", self._url)
        with self._asking():
            forward(self._session, prompt)

    def mask(self) -> Boxed[np.bool_]:
        """Return the current mask."""
        return current_mask(self._buffer)

    def undo(self) -> bool:
        """Take back the last prompt."""
        if self._session is None:
            return False
        with self._asking():
            return bool(self._session.undo())

    def close(self) -> None:
        """Give the session back."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _send(self, array: NDArray[np.float32]) -> None:
        with self._asking():
            self._session.set_image(array[None])
            self._session.set_target_buffer(self._buffer)

    def _connect(self) -> None:
        import httpx

        self.close()
        try:
            self._session = self._client.nnInteractiveRemoteInferenceSession(self._url, api_key=self._key or None)
        except self._client.ServerAtCapacityError as error:
            raise self._unreachable(f"the server has no session free ({error})", "Wait, or start another.") from error
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            remedy = (
                "Give its key in NN_INTERACTIVE_API_KEY." if status in _REFUSED else "Is it an nninteractive-server?"
            )
            raise self._unreachable(f"the server answers {status}", remedy) from error
        except httpx.HTTPError as error:
            what = f"the server cannot be reached ({error or type(error).__name__})"
            raise self._unreachable(what, "Start it with `nninteractive-server`, or check the address.") from error
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            what = "the server's answer is not understood"
            raise self._unreachable(what, "Is it an nninteractive-server of version 2.6?") from error

    def _unreachable(self, what: str, remedy: str) -> PromptableError:
        return PromptableError(what, remedy, self._url, "unreachable")

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        """Translate what a request may end in."""
        import httpx

        try:
            yield
        except self._client.SessionExpiredError as error:
            self.close()
            raise SessionLostError("the server let the session expire", "Try again.", self._url) from error
        except httpx.HTTPStatusError as error:
            status, said = error.response.status_code, " ".join(error.response.text.split())[:200]
            if 400 <= status < 500:
                raise PromptError(f"the server refuses the prompt ({said})", "Give another.", self._url) from error
            raise ModelError(f"the server failed ({status}: {said})", "See the server's log.", self._url) from error
        except (httpx.HTTPError, self._client.ServerAtCapacityError) as error:
            self.close()
            what = f"the server is gone ({error or type(error).__name__})"
            raise SessionLostError(what, "Start it again; the prompts are kept.", self._url) from error
