"""Packages that only some promptable models need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from medsegagent.errors import PromptableError


def require(module: str, *, extra: str, feature: str) -> ModuleType:
    """Import a module.

    Raises:
        PromptableError: If it is absent (says which extra brings it), or is there but broken.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name.partition(".")[0]):
            what = f"{feature} cannot be loaded: {module} needs {error.name or 'something'} ({error})"
            raise PromptableError(what, "Install it again.", "", "not_installed") from error
        raise PromptableError(
            f"{feature} needs the package {error.name.partition('.')[0]}",
            f"pip install 'medsegagent[{extra}]'",
            "",
            "not_installed",
        ) from error
    except (ImportError, RuntimeError, OSError) as error:
        what = f"{feature} cannot be loaded: {module} is installed but fails ({' '.join(str(error).split())[:200]})"
        raise PromptableError(what, "Repair or reinstall that package.", "", "not_installed") from error
