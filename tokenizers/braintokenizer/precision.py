"""Arithmetic of results that must not depend on a process's settings."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

SETTINGS: tuple[Any, ...] = (
    torch.backends.cuda.matmul,
    torch.backends.cudnn.conv,  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn,
)
"""Groups of operations whose float32 inputs a GPU may round to TF32."""


@contextmanager
def exact_float32(device_type: str) -> Iterator[None]:
    """Compute in float32 during the block: no autocast and no TF32, whatever the process has set.

    With TF32, up to 0.56 % of the codes of a signal change.

    Parameters
    ----------
    device_type : str
        Type of the device that computes: ``"cpu"``, ``"cuda"`` or ``"mps"``.
    """
    with ExitStack() as stack:
        for setting in SETTINGS:
            stack.callback(_set, setting, setting.fp32_precision)
            _set(setting, "ieee")
        stack.enter_context(torch.autocast(device_type, enabled=False))
        yield


def _set(setting: Any, precision: str) -> None:  # noqa: ANN401 - torch exports no type for it
    setting.fp32_precision = precision
