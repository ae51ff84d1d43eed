"""Which device computes."""

from __future__ import annotations

from medsegagent.errors import UsageError


def choose_device(requested: str = "auto") -> tuple[str, str]:
    """Choose the device and say why.

    Args:
        requested: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda", "cuda:N" or "mps".

    Returns:
        The device in torch's words, and the reason in a few words.

    Raises:
        UsageError: If the device asked for is unknown or not there.
    """
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if requested == "auto":
        if gpus:
            return "cuda", torch.cuda.get_device_name(0)
        if torch.backends.mps.is_available():
            return "mps", "Apple GPU"
        return "cpu", f"no GPU found; {torch.get_num_threads()} threads"
    kind, _, number = requested.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdecimal())):
        raise UsageError("no such kind of device", "Use auto, cpu, cuda, cuda:N or mps.", f"device {requested}")
    if kind == "cuda" and int(number or 0) >= gpus:
        raise UsageError(f"torch sees {gpus} CUDA devices", "Use auto or cpu.", f"device {requested}")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError("torch sees no Apple GPU", "Use auto or cpu.", f"device {requested}")
    return requested, "as asked"
