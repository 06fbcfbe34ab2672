"""Choose the device and the arithmetic of a training, without importing Lightning."""

from typing import Literal

import torch

from emeg.errors import UserError
from emeg.training.configs import Precision


def pick_device(name: str) -> torch.device:
    """Convert ``auto``, ``cpu``, ``cuda`` or ``mps`` to a device of this machine.

    Raises
    ------
    UserError
        This machine or this build of torch has no such device.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, available in there.items() if available)
    if not there[name]:
        raise UserError(f"device={name}: torch {torch.__version__} finds none on this machine; use device=auto")
    return torch.device(name)


def is_gpu(name: str) -> bool:
    """Return whether ``auto``, ``cpu``, ``cuda`` or ``mps`` is a CUDA device here."""
    return pick_device(name).type == "cuda"


def pick_precision(name: Precision, device: torch.device) -> Literal["32-true", "bf16-mixed"]:
    """Resolve ``auto``: bf16-mixed if the GPU computes in bf16, otherwise 32-true.

    GPUs that emulate bf16, such as V100 and T4, are slower in it than in float32.
    """
    if name != "auto":
        return name
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16-mixed" if has_bf16 else "32-true"
