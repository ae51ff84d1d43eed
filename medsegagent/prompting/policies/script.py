"""`script`: prompts from a JSON file, one after the other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from medsegagent.errors import PromptError
from medsegagent.prompting.policies.base import Act, Answer, State, Stop, Unusable
from medsegagent.prompting.prompts import Prompt, Seed, read_prompt

_LARGEST = 64 << 20


@dataclass
class Script:
    """Gives each prompt once, whatever comes of it; one that cannot be used ends the episode."""

    prompts: tuple[Prompt, ...]
    name: str = "script"
    _given: int = 0

    def decide(self, state: State) -> Answer:
        """Give the next one."""
        if state.complaint:
            return Unusable(state.complaint)
        if self._given == len(self.prompts):
            return Stop("all prompts of the script were given")
        self._given += 1
        why = f"prompt {self._given} of the script" if self.name == "script" else "by hand"
        return Act(self.prompts[self._given - 1], why)


def read_script(path: Path) -> Script:
    """Read a script: a JSON list of prompts (see `read_prompt`).

    Raises:
        PromptError: If it is none, naming the first prompt that is wrong.
    """
    remedy = 'Give a JSON list such as [{"kind": "point", "voxel": [10, 20, 30], "positive": true}].'
    try:
        if path.stat().st_size > _LARGEST:
            raise PromptError("the script is too large", remedy, str(path))
        items = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise PromptError(f"the script cannot be read ({error})", remedy, str(path)) from error
    if not isinstance(items, list) or not items:
        raise PromptError("the script is no list of prompts", remedy, str(path))
    prompts: list[Prompt] = []
    for number, item in enumerate(items, 1):
        try:
            prompt = read_prompt(json.dumps(item))
        except PromptError as error:
            raise PromptError(f"prompt {number}: {error.what}", error.remedy, str(path)) from error
        if isinstance(prompt, Seed) and number > 1:
            raise PromptError(f"prompt {number}: a seed can only be the first", remedy, str(path))
        prompts.append(prompt)
    return Script(tuple(prompts))
