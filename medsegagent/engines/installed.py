"""What is installed, of whatever kind."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from medsegagent.cards.library import Library
from medsegagent.engines import Engines, shipped_engines
from medsegagent.models.own_store import default_home
from medsegagent.models.store import Problem, Store, results_roots


def find_installed(library: Library, models_dir: Path | None = None, engines: Engines | None = None) -> Store:
    """What is installed: in `models_dir`, or if none is given in `nnUNet_results` and in our own store."""
    own = default_home().roots() if models_dir is None else {}
    return discover(library, results_roots(models_dir), own, engines)


def discover(
    library: Library, roots: Sequence[Path], own: Mapping[str, Path] | None = None, engines: Engines | None = None
) -> Store:
    """Ask each engine for the models of its kind.

    Args:
        library: The cards in use.
        roots: Folders that all models are looked for in; where two hold the same folder, the first counts.
        own: Model id -> a folder that is looked into for that model alone, and first.
        engines: Default: those that come with the package.
    """
    problems = [Problem("", root, "there is no such folder") for root in roots if not os.path.isdir(root)]
    there = [root for root in roots if os.path.isdir(root)]
    found = [engine.installed(library, there, own or {}) for engine in (engines or shipped_engines()).values()]
    places = {name: place for place, name in enumerate(library.cards)}
    return Store(
        models=tuple(sorted((model for item in found for model in item.models), key=lambda model: places[model.card])),
        cards=library.cards,
        without_card=tuple(folder for item in found for folder in item.without_card),
        problems=(*problems, *(problem for item in found for problem in item.problems)),
    )
