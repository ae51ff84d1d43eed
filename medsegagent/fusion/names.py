"""The fusion rules by name, for those who only name one."""

from __future__ import annotations

from typing import Literal, get_args

from medsegagent.errors import UsageError

RuleName = Literal["majority", "staple", "intersection", "union", "best"]


def check_rule(name: str) -> None:
    """Refuse a name that means no rule.

    Raises:
        UsageError: If it does not.
    """
    if name not in get_args(RuleName):
        raise UsageError(f"{name!r} is no fusion rule", f"Give one of {', '.join(get_args(RuleName))}.", "fusion")
