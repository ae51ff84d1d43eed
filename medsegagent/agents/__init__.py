"""The AutoGen team, for those who build on it: `build_team(open_case("ct.nii.gz", "out"))`.

AutoGen and torch are imported when one of these names is used, not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medsegagent.agents.team import build_matching_team, build_team, message_types
    from medsegagent.road.case import open_case

__all__ = ["build_matching_team", "build_team", "message_types", "open_case"]


def __getattr__(name: str) -> object:
    if name == "open_case":
        from medsegagent.road.case import open_case

        return open_case
    if name in __all__:
        from medsegagent.agents import team

        return getattr(team, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
