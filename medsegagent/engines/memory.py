"""How much memory a run needs, how much there is, and where the logits go."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from medsegagent.errors import ModelError
from medsegagent.free_memory import address_space_left, main_memory

if TYPE_CHECKING:
    from torch import Tensor

_GB = 1e9
_HEADROOM = 1.15


@dataclass(frozen=True)
class Need:
    """Bytes that prediction takes beyond the image and the network.

    Attributes:
        logits: Where all classes of the whole volume are added up, half precision; twice for several folds.
        tile: One patch on its way through the network.
        rest: The padded volume, the weights' sum, the label map.
    """

    logits: int
    tile: int
    rest: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.logits + self.tile + self.rest


@dataclass(frozen=True)
class Free:
    """Bytes that may be used: main memory, disk for temporary files, the GPU's memory (0 without one)."""

    ram: int
    disk: int
    vram: int = 0


@dataclass(frozen=True)
class Placement:
    """Where the network runs and where the logits are, in torch's words or "file"; and why, if that is not usual."""

    compute: str
    logits: Literal["gpu", "ram", "file"]
    reason: str = ""


def place(need: Need, free: Free, device: str) -> Placement:
    """Choose where the logits go: the GPU as nnU-Net does, else main memory, else a temporary file.

    Raises:
        ModelError: If none of them has room; says how much is needed and what to do.
    """
    gpu = device.startswith("cuda")
    if gpu and need.total * _HEADROOM < free.vram:
        return Placement(device, "gpu")
    on_cpu = need.rest + (0 if gpu else need.tile)
    if (need.logits + on_cpu) * _HEADROOM < free.ram:
        small = f"{gigabytes(need.logits)} of logits do not fit the GPU's {gigabytes(free.vram)}"
        small += "; they are kept in main memory"
        return Placement(device, "ram", small if gpu else "")
    if on_cpu * _HEADROOM < free.ram and need.logits * _HEADROOM < free.disk:
        where = f"{gigabytes(need.logits)} of logits do not fit {gigabytes(free.ram)} of free memory"
        return Placement(device, "file", f"{where}; they are kept in a file in {tempfile.gettempdir()}")
    total = gigabytes(need.total)
    left = f"{gigabytes(free.ram)} of memory and {gigabytes(free.disk)} of temporary disk are free"
    what = f"prediction needs about {total}; {left}"
    raise ModelError(what, "Crop the image, use a coarser model, free memory, or set TMPDIR to a larger disk.")


def fallbacks(first: Placement, need: Need, free: Free) -> list[Placement]:
    """What to try, in order, should the GPU turn out to be too small: logits elsewhere, then the CPU."""
    if not first.compute.startswith("cuda"):
        return [first]
    rest = [
        Placement(device, _off_gpu(need, free), reason) for device, reason in ((first.compute, _LESS), ("cpu", _CPU))
    ]
    return [first, *(rest if first.logits == "gpu" else rest[1:])]


_LESS = "the GPU ran out of memory; its logits were moved out"
_CPU = "the GPU ran out of memory; the CPU took over"


def _off_gpu(need: Need, free: Free) -> Literal["ram", "file"]:
    return "ram" if need.total * _HEADROOM < free.ram else "file"


def free_memory(device: str) -> Free:
    """Look at the machine: limits of the process and its control group count."""
    vram = 0
    if device.startswith("cuda"):
        import torch

        vram = torch.cuda.mem_get_info(device)[0]
    limited, ram = address_space_left(), main_memory()
    # A mapped file takes address space too.
    disk = shutil.disk_usage(tempfile.gettempdir()).free if limited is None else min(ram, limited)
    return Free(ram, disk, vram)


def zeros(shape: Sequence[int], placement: Placement) -> Tensor:
    """Half-precision zeros where the placement says. A file has no name, so that nothing can leave it behind."""
    import numpy as np
    import torch

    if placement.logits == "file":
        with tempfile.TemporaryFile() as file:
            return torch.from_numpy(np.memmap(file, dtype=np.float16, mode="w+", shape=tuple(shape)))
    return torch.zeros(tuple(shape), dtype=torch.half, device=placement.compute if placement.logits == "gpu" else "cpu")


def gigabytes(count: int) -> str:
    """For people: "1.2 GB"."""
    return f"{max(count, 0) / _GB:.2g} GB"
