"""What this machine has: behind `medsegagent doctor`."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel

from medsegagent.agents.llm.config import load_endpoints, summary
from medsegagent.cards.library import Library
from medsegagent.engines.installed import find_installed
from medsegagent.errors import ConfigError
from medsegagent.models.own_store import default_home
from medsegagent.models.store import results_roots

_PACKAGES = ("medsegagent", "torch", "nnunetv2", "autogen-agentchat", "openai", "SimpleITK")


class Checkup(BaseModel):
    """The findings. Never holds a key.

    `machine` is name -> finding, `models` is card -> installed model ids, `problems` are for people.
    """

    machine: dict[str, str]
    models: dict[str, list[str]]
    without_card: list[str]
    problems: list[str]


def check(models_dir: Path | None = None) -> Checkup:
    """Look at Python, packages, device, models and the LLM configuration."""
    from medsegagent.engines.device import choose_device

    library = Library.load("all")
    roots = results_roots(models_dir)
    store = find_installed(library, models_dir)
    device, reason = choose_device("auto")
    machine = {"python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    machine |= {name: _installed(name) for name in _PACKAGES}
    machine["device"] = f"{device} ({reason})"
    machine["nnUNet_results"] = ", ".join(map(str, roots)) or "not set (give --models-dir, or set the variable)"
    machine["model store"] = str(default_home().folder)
    machine["cards"] = str(len(library))
    machine["LLM configuration"] = _llm_config()
    models: dict[str, list[str]] = {}
    for model in store.models:
        models.setdefault(model.card, []).append(model.id)
    problems = [str(problem) for problem in (*library.problems, *store.problems)]
    return Checkup(
        machine=machine,
        models=models,
        without_card=[str(folder) for folder in store.without_card],
        problems=problems,
    )


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _llm_config() -> str:
    try:
        endpoints = load_endpoints()
    except ConfigError as error:
        return f"found, but cannot be used: {error}"
    return f"found: {summary(endpoints)}" if endpoints else "not found (not needed: the rules mind works without)"
