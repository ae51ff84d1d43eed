"""Weights whose licence restricts their use are run only for a user who has said to accept it."""

from __future__ import annotations

import re

from medsegagent.errors import PromptableError

UNKNOWN = "unknown"
_RESTRICTED = re.compile(r"\b(NC|ND|non-?commercial|research( use)? only|academic)\b", re.I)


def require_accepted(licence: str, accepted: bool, where: str) -> None:
    """Check that weights may be run.

    Raises:
        PromptableError: If their licence restricts the use and was not accepted.
    """
    if _RESTRICTED.search(licence) and not accepted:
        raise PromptableError(
            f"the weights are under {licence}, which restricts what they may be used for",
            "Read the licence; if it allows your use, give --accept-licence.",
            where,
            "licence",
        )
