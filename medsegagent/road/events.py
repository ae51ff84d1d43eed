"""What happens on the road, told to one listener as it happens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medsegagent.road.messages import Content

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Said:
    """A step answered; `agent` is its name in the team, or "user"."""

    agent: str
    content: Content


@dataclass(frozen=True)
class Progress:
    """A model has done so many of its tiles. The total is an estimate until the last part runs."""

    model: str
    done: int
    total: int


@dataclass(frozen=True)
class Warning:
    """Something that the user must know, although the run goes on; the result lists all of them."""

    text: str


Event = Said | Progress | Warning
Listener = Callable[[Event], None]
"""Called from the thread in which things happen. What it raises is logged and changes nothing."""


def tell(listener: Listener | None, event: Event) -> None:
    """Tell the listener, if there is one."""
    if listener is None:
        return
    try:
        listener(event)
    except Exception:  # a listener's bug is no reason to lose an hour's masks
        _LOG.exception("the listener failed at %s", type(event).__name__)
