"""The AutoGen team, for those who build on it: `build_team(Segmenter(), "ct.nii.gz", "out")`.

AutoGen is imported when one of these names is used, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medsegagent.agents.team import build_matching_team, build_team, message_types

__all__ = ["build_matching_team", "build_team", "message_types"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from medsegagent.agents import team

        return getattr(team, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
