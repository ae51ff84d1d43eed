"""An episode: one refinement from the first prompt to the end, kept to be looked at, scored and replayed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from medsegagent.errors import PromptError
from medsegagent.images.boxed import NOWHERE, Boxed
from medsegagent.prompting.prompts import Packed, Prompt, Seed
from medsegagent.prompting.reward import Reward, reward
from medsegagent.prompting.session import PromptSession

End = Literal["stopped", "budget", "invalid", "lost", "open"]
"""Why it ended: the policy stopped, the budget was spent, two unusable actions in a row, the model, its server or the
endpoint failed; "open" if it never did (an interrupted one)."""


@dataclass(frozen=True)
class Turn:
    """One prompt and what it did.

    Attributes:
        prompt: A `Seed` only as the first; it is not counted as a turn.
        mask: After it.
        added: Voxels that came in.
        removed: Voxels that went out.
        seconds: Wall time of the model.
        why: What the policy said of it.
        iou: Against the truth, where there is one.
        dice: Likewise.
        reconnected: The server had let the session go and was given all prompts anew.
    """

    prompt: Prompt
    mask: Boxed[np.bool_]
    added: int
    removed: int
    seconds: float
    why: str = ""
    iou: float | None = None
    dice: float | None = None
    reconnected: bool = False


@dataclass(frozen=True)
class Episode:
    """What was asked, of whom, and every turn.

    Attributes:
        target: What was to be segmented.
        policy: Who chose the prompts.
        adapter: The promptable model's adapter.
        model: Its weights.
        licence: Their licence.
        image: sha256 of the image; empty if unknown.
        size: Of the image, voxels along x, y, z.
        voxel_ml: Volume of a voxel.
        turns: In order; a seed first.
        ended: Why it ended.
        why: In the policy's or the driver's words.
    """

    target: str
    policy: str
    adapter: str
    model: str
    licence: str
    image: str
    size: tuple[int, int, int]
    voxel_ml: float
    turns: tuple[Turn, ...] = ()
    ended: End = "open"
    why: str = ""

    @property
    def prompted(self) -> tuple[Turn, ...]:
        """The turns, without the seed."""
        return tuple(turn for turn in self.turns if not isinstance(turn.prompt, Seed))

    @property
    def mask(self) -> Boxed[np.bool_]:
        """The last mask; empty if there was no turn."""
        if self.turns:
            return self.turns[-1].mask
        return Boxed((self.size[2], self.size[1], self.size[0]), NOWHERE, np.zeros((0, 0, 0), np.bool_))

    def reward(self) -> Reward | None:
        """Score it; None without a truth or without a turn."""
        scores = [(turn.iou, turn.dice) for turn in self.prompted]
        known = [(iou, dice) for iou, dice in scores if iou is not None and dice is not None]
        if not known:
            return None
        return reward(known, prompted=True, stopped=self.ended == "stopped")


class _Head(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["episode"] = "episode"
    format: Literal[1] = 1
    target: str
    policy: str
    adapter: str
    model: str
    licence: str
    image: str
    size: tuple[int, int, int]
    voxel_ml: float


class _TurnLine(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["turn"] = "turn"
    turn: int
    prompt: Prompt = Field(discriminator="kind")
    mask: Packed
    voxels: int
    volume_ml: float
    added: int
    removed: int
    seconds: float
    why: str = ""
    iou: float | None = None
    dice: float | None = None
    reconnected: bool = False


class _EndLine(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["end"] = "end"
    ended: End
    why: str = ""


@dataclass
class EpisodeFile:
    """Writes an episode as JSON lines, each turn as it happens, so that nothing is lost if the process is killed."""

    path: Path
    _turn: int = field(default=0, init=False)

    def begin(self, episode: Episode) -> None:
        """Write the first line."""
        fields = {name: getattr(episode, name) for name in _Head.model_fields if name not in ("kind", "format")}
        self.path.write_text(_Head(**fields).model_dump_json() + "\n", "utf-8")

    def restart(self, episode: Episode) -> None:
        """Write the first line and all turns there are, in place of what was written."""
        self._turn = 0
        self.begin(episode)
        for turn in episode.turns:
            self.turn(turn, episode.voxel_ml)

    def turn(self, turn: Turn, voxel_ml: float) -> None:
        """Write a turn."""
        line = _TurnLine(
            turn=self._turn,
            prompt=turn.prompt,
            mask=Packed.of(turn.mask),
            voxels=turn.mask.count,
            volume_ml=round(turn.mask.count * voxel_ml, 3),
            added=turn.added,
            removed=turn.removed,
            seconds=round(turn.seconds, 4),
            why=turn.why,
            iou=turn.iou,
            dice=turn.dice,
            reconnected=turn.reconnected,
        )
        self._turn += 1
        self._append(line)

    def end(self, episode: Episode) -> None:
        """Write the last line."""
        self._append(_EndLine(ended=episode.ended, why=episode.why))

    def _append(self, line: BaseModel) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line.model_dump_json() + "\n")


def write_episode(episode: Episode, path: Path) -> None:
    """Write a whole episode."""
    file = EpisodeFile(path)
    file.begin(episode)
    for turn in episode.turns:
        file.turn(turn, episode.voxel_ml)
    file.end(episode)


def read_episode(path: Path) -> Episode:
    """Read an episode; of one that was interrupted, what there is (a torn last line is left out).

    Raises:
        PromptError: If it is none, or a line is damaged.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(
            f"the episode cannot be read ({error})", "Give an episode's .jsonl file.", str(path)
        ) from error
    number = 1
    try:
        head = _Head.model_validate_json(lines[0] if lines else "")
        turns: list[Turn] = []
        ended, why = "open", ""
        for content in _whole(lines[1:]):
            number += 1
            if content.get("kind") == "end":
                last = _EndLine.model_validate(content)
                ended, why = last.ended, last.why
                break
            turns.append(_turn_of(_TurnLine.model_validate_json(json.dumps(content))))
    except (ValidationError, ValueError) as error:
        remedy = "Give an episode's .jsonl file as medsegagent wrote it."
        raise PromptError(f"line {number} is none of an episode", remedy, str(path)) from error
    fields = head.model_dump(exclude={"kind", "format"})
    return Episode(**fields, turns=tuple(turns), ended=ended, why=why)  # type: ignore[arg-type]


def _whole(lines: list[str]) -> Iterator[dict[str, Any]]:
    for place, line in enumerate(lines):
        try:
            content = json.loads(line)
        except ValueError:
            if place == len(lines) - 1:
                return
            raise
        if not isinstance(content, dict):
            raise ValueError("not an object")
        yield content


def _turn_of(line: _TurnLine) -> Turn:
    return Turn(
        prompt=line.prompt,
        mask=line.mask.mask(),
        added=line.added,
        removed=line.removed,
        seconds=line.seconds,
        why=line.why,
        iou=line.iou,
        dice=line.dice,
        reconnected=line.reconnected,
    )


def replay(episode: Episode, session: PromptSession) -> Boxed[np.bool_]:
    """Give an episode's prompts to a session whose image is open, and return the mask they make.

    Raises:
        PromptError: If a prompt does not fit the image or the model.
    """
    for turn in episode.turns:
        session.apply(turn.prompt)
    return session.mask


def same_mask(first: Boxed[np.bool_], second: Boxed[np.bool_]) -> bool:
    """Tell whether two masks hold the same voxels."""
    return first.shape == second.shape and first.box == second.box and bool(np.array_equal(first.inside, second.inside))
