"""`person`: somebody at a terminal, one line a turn."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from medsegagent.errors import PromptError
from medsegagent.prompting.model import check_taken
from medsegagent.prompting.policies.base import Act, Answer, State, Stop, Undo
from medsegagent.prompting.prompts import Box, Point, Seed, Voxel, check

HELP = (
    "+ I J K: this voxel is in;  - I J K: it is out;  box I0:I1 J0:J1 K0:K1: a box around it (the end is not in it); "
    "undo;  stop. Voxels as your viewer counts them, from 0."
)


@dataclass
class Person:
    """Asks for a line until one can be used; what cannot is said and costs nothing."""

    ask: Callable[[State], str | None]
    """Shows the state, gives the next line; None at the end of the input."""
    name: str = "person"

    def decide(self, state: State) -> Answer:
        """Ask for the next line."""
        while True:
            line = self.ask(state)
            if line is None:
                return Stop("the input ended")
            try:
                answer = read_line(line)
                if isinstance(answer, Act):
                    check(answer.prompt, state.grid.size)
                    check_taken(answer.prompt, state.offered)
                if not isinstance(answer, Undo) or any(not isinstance(turn.prompt, Seed) for turn in state.turns):
                    return answer
                state = replace(state, complaint="there is nothing to take back")
            except PromptError as error:
                state = replace(state, complaint=str(error))


def read_line(line: str) -> Answer:
    """Read one line.

    Raises:
        PromptError: If it is none of `HELP`.
    """
    words = line.replace(",", " ").split()
    match words:
        case [] | ["stop" | "quit" | "exit" | "q" | "s"]:
            return Stop("the person stopped")
        case ["undo" | "u"]:
            return Undo("the person took it back")
        case ["+" | "-" as sign, *rest]:
            return Act(Point(voxel=voxel_of(rest), positive=sign == "+"), "by hand")
        case ["box" | "b", *rest]:
            return Act(box_of(rest), "by hand")
    if words[0][0] in "+-":  # "+12 30 40", without the space
        return Act(Point(voxel=voxel_of([words[0][1:], *words[1:]]), positive=words[0][0] == "+"), "by hand")
    raise PromptError(f"{line.strip()[:40]!r} is no prompt", HELP)


def voxel_of(words: list[str]) -> Voxel:
    """Three whole numbers.

    Raises:
        PromptError: If they are not.
    """
    if len(words) != 3 or not all(re.fullmatch(r"-?\d{1,9}", word) for word in words):
        raise PromptError(f"{' '.join(words)[:40]!r} is no voxel", "Give three whole numbers, I J K.")
    return int(words[0]), int(words[1]), int(words[2])


def box_of(words: list[str]) -> Box:
    """Three ranges, `low:high`, the high end not included.

    Raises:
        PromptError: If they are not.
    """
    ranges = [re.fullmatch(r"(-?\d{1,9}):(-?\d{1,9})", word) for word in words]
    if len(words) != 3 or not all(ranges):
        raise PromptError(f"{' '.join(words)[:60]!r} is no box", "Give three ranges, I0:I1 J0:J1 K0:K1.")
    low, high = (
        voxel_of([found[end] for found in ranges if found])  # all of them were found
        for end in (1, 2)
    )
    return Box(low=low, high=high)
