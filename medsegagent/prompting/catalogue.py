"""The promptable models by name. To add one: an adapter in `adapters/`, and an entry here."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from medsegagent.errors import PromptableError, UsageError
from medsegagent.models.own_store import default_home
from medsegagent.prompting.model import PromptableModel
from medsegagent.prompting.wanted import Wanted as Wanted

PHANTOM = Path(__file__).parents[1] / "phantom" / "promptable"
"""nnInteractive weights trained on the phantom: for the demo and the tests only."""


def open_model(wanted: Wanted) -> PromptableModel:
    """Make a promptable model.

    Raises:
        UsageError: If there is none of that name, or it needs a folder or an address that is not given.
        PromptableError: If it cannot be had: package or weights absent, licence not accepted, server unreachable.
        ModelError: If its weights cannot be used.
    """
    if wanted.name not in ADAPTERS:
        raise UsageError(f"{wanted.name!r} is no promptable model", f"Give one of {', '.join(ADAPTERS)}.", "--with")
    return ADAPTERS[wanted.name](wanted)


def installed_folder(name: str) -> Path:
    """Where `models install` puts a promptable model's weights."""
    return default_home().folder / ".promptable" / name


def _walker(wanted: Wanted) -> PromptableModel:
    from medsegagent.prompting.adapters.walker import Walker

    return Walker()


def _nninteractive(wanted: Wanted) -> PromptableModel:
    from medsegagent.prompting.adapters.nninteractive import NNInteractive

    folder = wanted.folder or installed_folder("nninteractive")
    if not folder.is_dir():
        raise PromptableError(
            "nninteractive has no weights here",
            "`medsegagent models install nninteractive` fetches them (CC BY-NC-SA 4.0); or give --promptable FOLDER.",
            str(folder),
            "no_weights",
        )
    accepted = wanted.licence_accepted or (wanted.folder is None and (folder / "ACCEPTED").is_file())
    return NNInteractive(folder, device=wanted.device, licence_accepted=accepted)


def _remote(wanted: Wanted) -> PromptableModel:
    from medsegagent.prompting.adapters.nninteractive_remote import NNInteractiveRemote

    return NNInteractiveRemote(
        _url(wanted),
        api_key=os.environ.get("NN_INTERACTIVE_API_KEY", ""),
        send_images=wanted.send_images,
        licence_accepted=wanted.licence_accepted,
    )


def _sam(wanted: Wanted) -> PromptableModel:
    from medsegagent.prompting.adapters.sam import Sam
    from medsegagent.prompting.adapters.slices import SliceBySlice

    if wanted.folder is None:
        remedy = "Give --promptable FOLDER with config.json and model.safetensors (SAM, MedSAM, SAM 2 or MedSAM2)."
        raise PromptableError("sam has no weights here", remedy, "", "no_weights")
    model = Sam(wanted.folder, device=wanted.device, licence_accepted=wanted.licence_accepted)
    return SliceBySlice(model, wanted.plane)


def _http(wanted: Wanted) -> PromptableModel:
    from medsegagent.prompting.adapters.http import HttpPictures
    from medsegagent.prompting.adapters.slices import SliceBySlice

    return SliceBySlice(HttpPictures(_url(wanted), send_images=wanted.send_images), wanted.plane)


def _url(wanted: Wanted) -> str:
    if not wanted.url:
        raise UsageError(f"{wanted.name} needs a server", "Give its address with --url http://HOST:PORT.", "--url")
    return wanted.url


ADAPTERS: dict[str, Callable[[Wanted], PromptableModel]] = {
    "walker": _walker,
    "nninteractive": _nninteractive,
    "nninteractive-remote": _remote,
    "sam": _sam,
    "http": _http,
}


_ABOUT = {
    "walker": ("random walker on grey values, no weights", "points, boxes, scribbles, masks; 3D", ()),
    "nninteractive": ("nnInteractive, in this process", "points, boxes, scribbles, masks; 3D", ("nnInteractive",)),
    "nninteractive-remote": ("a server of nnInteractive", "as its weights", ("nnInteractive",)),
    "sam": ("SAM, MedSAM, SAM 2, MedSAM2", "points, boxes, masks; slice by slice", ("transformers",)),
    "http": ("a server of the session protocol", "points, boxes; slice by slice", ()),
}


def overview() -> list[tuple[str, str, str, str]]:
    """Name, what it is, what it takes, and what is missing here, of every promptable model."""
    rows = []
    for name, (about, takes, packages) in _ABOUT.items():
        absent = [package for package in packages if find_spec(package) is None]
        extra = "sam" if name == "sam" else "interactive"
        here = f"pip install 'medsegagent[{extra}]'" if absent else _weights(name)
        rows.append((name, about, takes, here))
    return rows


def _weights(name: str) -> str:
    if name == "nninteractive" and not installed_folder(name).is_dir():
        return "weights: medsegagent models install nninteractive, or --promptable FOLDER"
    return {"sam": "--promptable FOLDER", "http": "--url", "nninteractive-remote": "--url"}.get(name, "ready")
