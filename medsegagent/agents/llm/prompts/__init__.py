"""What the language model is told: one text file per agent, with its version in the first line."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from medsegagent.errors import ConfigError


@dataclass(frozen=True)
class Prompt:
    """A system message and its version, which rises with every change of the text."""

    name: str
    version: int
    text: str


@lru_cache
def load(name: str) -> Prompt:
    """Read `NAME.md`.

    Raises:
        ConfigError: If the installation lacks the file or its version line.
    """
    try:
        head, _, text = (files(__name__) / f"{name}.md").read_text(encoding="utf-8").partition("\n")
        return Prompt(name, int(head.removeprefix("version:")), text.strip())
    except (OSError, ValueError) as error:
        raise ConfigError(f"the prompt {name!r} is missing or damaged", "Reinstall medsegagent.") from error
